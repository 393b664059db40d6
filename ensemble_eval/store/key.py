"""What the rows of a job depend on, and how two keys differ."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ensemble_eval.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Key:
    """Everything that the stored rows of a job depend on; two jobs of equal keys continue each other.

    Each job has a subclass with further fields.

    Attributes:
        dataset: A fingerprint of the data set.
        images: How many images the data set has.
    """

    dataset: str
    images: int

    @property
    def last_file(self) -> str:
        """The file that a job of this key writes at its very end, in its output folder; empty for its record."""
        return ""

    def to_json(self) -> dict[str, Any]:
        """The key as parts and records hold it: flat, so that each difference has a name."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Self:
        """The key that `to_json` gave.

        Raises:
            KeyError, TypeError: This is no key of this job.
        """
        return cls(**flat)

    def stored(self) -> Self:
        """This key as it will be read back, with JSON's lists in place of tuples."""
        return self.from_json(json.loads(json.dumps(self.to_json())))

    def difference(self, other: "Key", clearer: Mapping[str, str] | None = None) -> str:
        """Where this key and a newer one differ, as a phrase; empty where they do not.

        Args:
            other: The newer key.
            clearer: Phrases for fields whose values tell little, such as hashes.
        """
        theirs, ours = self.to_json(), other.to_json()
        names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
        return "; ".join(
            (clearer or {}).get(name, f"{name} {_short(theirs.get(name))}, now {_short(ours.get(name))}")
            for name in names
        )


class OtherKeyError(InputError):
    """An output folder holds the results of a job with another key."""

    def __init__(self, out: Path, theirs: Key, ours: Key, clearer: Mapping[str, str] | None = None) -> None:
        super().__init__(
            f"{out} belongs to another run ({theirs.difference(ours, clearer)}); "
            "choose another `out`, or run with `fresh=True` to start over there"
        )
        self.theirs = theirs


def _short(value: object) -> str:
    with contextlib.suppress(TypeError):
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return repr(value)
