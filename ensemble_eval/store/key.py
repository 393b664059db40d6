"""The key of a job, which holds everything that its rows depend on, and the differences between two keys."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from ensemble_eval.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Key:
    """Everything that the stored rows of a job depend on. A job continues the work of any job with an equal key.

    Each job has a subclass with further fields.

    Attributes:
        dataset: A fingerprint of the data set.
        images: The number of images in the data set.
    """

    dataset: str
    images: int

    @property
    def last_file(self) -> str:
        """The name of the file that the job writes last; empty for its record."""
        return ""

    def to_json(self) -> dict[str, Any]:
        """Convert the key to the flat form that parts and records store; each of its entries has a name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Self:
        """Convert back from `to_json`.

        Raises:
            KeyError, TypeError: It is not a key of this job.
        """
        return cls(**flat)

    def stored(self) -> Self:
        """Return this key as it will be read back, because JSON turns tuples into lists."""
        return self.from_json(json.loads(json.dumps(self.to_json())))

    def difference(self, other: "Key", clearer: Mapping[str, str] | None = None) -> str:
        """Describe how this key and a newer one differ; empty if they are equal.

        Args:
            other: The newer key.
            clearer: Phrases that replace the values of some fields, such as hashes.
        """
        theirs, ours = self.told(), other.told()
        return "; ".join(
            (clearer or {}).get(name, "; ".join(_differences(name, theirs.get(name), ours.get(name))))
            for name in sorted({*theirs, *ours})
            if theirs.get(name) != ours.get(name)
        )

    def told(self) -> dict[str, Any]:
        """Return the flat form for messages, in which nothing is left out."""
        return self.to_json()


class OtherKeyError(InputError):
    """The output folder holds the results of a job with another key."""

    def __init__(self, out: Path, theirs: Key, ours: Key, clearer: Mapping[str, str] | None = None) -> None:
        super().__init__(
            f"{out} belongs to another run ({theirs.difference(ours, clearer)}); "
            "choose another `out`, or run with `fresh=True` to start over there"
        )
        self.theirs = theirs


def _differences(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    """Describe how two values differ; of two tables only the entries that differ."""
    if not (isinstance(theirs, Mapping) and isinstance(ours, Mapping)):
        yield f"{name} {_short(theirs)}, now {_short(ours)}"
        return
    entries = [entry for entry in {**theirs, **ours} if theirs.get(entry) != ours.get(entry)]
    # With another name it is another thing, of which nothing else needs to be told.
    for entry in ["name"] if "name" in entries else entries:
        yield from _differences(f"{name} {entry}", theirs.get(entry), ours.get(entry))


def _short(value: object) -> str:
    with contextlib.suppress(TypeError):
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return repr(value)
