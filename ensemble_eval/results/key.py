"""What the stored predictions of a run depend on, and how two runs differ in it."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Ensemble


@dataclass(frozen=True, kw_only=True)
class MemberKey:
    """What the scores of one member depend on.

    Attributes:
        name: under which its rows are stored.
        weights: a fingerprint of its weights.
        arch: its architecture, as the manifest names it.
        options: of the architecture.
        input: how it wants its pixels, field by field.
    """

    name: str
    weights: str
    arch: str
    options: Mapping[str, Any]
    input: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """Everything that the stored predictions of a run depend on; two runs of equal keys continue each other.

    Attributes:
        crops: the largest crop scheme.
        precision: of the convolutions.
        backend: what ran the networks.
        device_type: `cpu` or `cuda`, because scores of the two differ in their last bits. Of a run that was
            stored before keys had it, it is what ran the images: of several types all of them, and None if
            that was not stored either.
        scores: whether mean softmax vectors are stored.
        until_decided: the errors that a run which stops when decided was asked for; empty for a full run.
        interpolation: of the resized images.
        classes: how many.
        dataset: a fingerprint of the data set.
        images: how many the data set has.
        members: in the ensemble's order.
        surface: whether the label's ranks in other means over the same crops and members are stored.
        scope: what errors are counted over; it also says which columns of labels are stored.
    """

    crops: int
    precision: str
    backend: str
    device_type: str | None
    scores: bool
    until_decided: tuple[str, ...]
    interpolation: str
    classes: int
    dataset: str
    images: int
    members: tuple[MemberKey, ...]
    surface: bool = False
    scope: Scope = Scope()  # noqa: RUF009 (it is frozen)

    @property
    def member_names(self) -> tuple[str, ...]:
        """The names of the members, in the ensemble's order."""
        return tuple(member.name for member in self.members)

    def counted(self, label_classes: int | None = None) -> tuple[str, ...]:
        """What the errors are counted over, in one phrase each where that is not the usual.

        Args:
            label_classes: how many classes the labels of all images are of; None while that is not known.
        """
        scope = self.scope
        unusual = scope.part or scope.several_labels or scope.counted_classes is not None or not scope.labelled
        if unusual or label_classes is None or label_classes >= self.classes:
            return tuple(scope.sentences())
        # The images are all there are, and yet the errors are not those of all classes.
        among_all = f"labels are of {label_classes} classes, and are ranked among all {self.classes}"
        return (*scope.sentences(), among_all)

    def to_json(self) -> dict[str, Any]:
        """The key as parts and `run.json` hold it: flat, with an entry `member NAME` for each member."""
        flat = {**vars(self), "until_decided": list(self.until_decided), "members": list(self.member_names)}
        # What is usual is not said, as earlier versions knew nothing else.
        flat["scope"] = self.scope.to_json()
        if not flat["scope"]:
            del flat["scope"]
        for member in self.members:
            flat[f"member {member.name}"] = {name: value for name, value in vars(member).items() if name != "name"}
        return flat

    @classmethod
    def from_json(cls, flat: Mapping[str, Any], devices: Iterable[str] = ()) -> Self:
        """The key that `to_json` gave, or that an earlier version without a device type stored.

        Args:
            flat: as read from JSON.
            devices: what ran the images, as torch names it, for a key without a device type.

        Raises:
            KeyError, TypeError: this is no key.
        """
        fields = dict(flat)
        fields["members"] = tuple(MemberKey(name=name, **fields.pop(f"member {name}")) for name in flat["members"])
        fields["until_decided"] = tuple(flat["until_decided"])
        fields["scope"] = Scope.from_json(flat.get("scope", {}))
        types = sorted({device.partition(":")[0] for device in devices})
        return cls(**{"device_type": " and ".join(types) or None, **fields})

    def difference(self, other: "RunKey", said_better: Mapping[str, str] | None = None) -> str:
        """Where this key and another, newer one differ, as a phrase; empty where they do not.

        Args:
            other: the newer one.
            said_better: phrases for fields whose values tell little.
        """
        theirs, ours, better = self.to_json(), other.to_json(), said_better or {}
        names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
        return "; ".join(
            better.get(name, f"{name} {_short(theirs.get(name))}, now {_short(ours.get(name))}") for name in names
        )


class AnotherRunError(InputError):
    """An output folder belongs to another run.

    Args:
        out: the folder.
        theirs: the key that it was found with.
        ours: the key of the run that wants it.
        said_better: see `RunKey.difference`.
    """

    def __init__(
        self, out: Path, theirs: RunKey, ours: RunKey, said_better: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            f"{out} belongs to another run ({theirs.difference(ours, said_better)}); "
            "choose another `out`, or run with `fresh=True` to start over there"
        )
        self.theirs = theirs


def run_key(
    ensemble: Ensemble,
    weights_sha256: Mapping[str, str],
    dataset: Dataset,
    *,
    crops: int,
    precision: str,
    backend: str,
    device_type: str,
    with_scores: bool,
    surface: bool,
    decides: Sequence[int],
) -> RunKey:
    """The key of a run that is about to start.

    Args:
        ensemble: the members that take part.
        weights_sha256: a fingerprint of the weights, by member.
        dataset: the images.
        crops: the largest crop scheme.
        precision: of the convolutions.
        backend: what runs the networks.
        device_type: `cpu` or `cuda`.
        with_scores: whether mean softmax vectors are stored.
        surface: whether ranks in other means over the same crops and members are stored.
        decides: the k of each top-k error that a run which stops when decided is asked for.
    """
    members = tuple(
        MemberKey(
            name=member.name,
            weights=weights_sha256[member.name],
            arch=member.arch,
            options=dict(member.options),
            input=asdict(member.input),
        )
        for member in ensemble.members
    )
    key = RunKey(
        crops=crops,
        precision=precision,
        backend=backend,
        device_type=device_type,
        scores=with_scores,
        surface=surface,
        until_decided=tuple(f"top-{k}" for k in decides),
        interpolation=ensemble.interpolation,
        classes=ensemble.classes.count,
        dataset=dataset.sha256,
        images=len(dataset.items),
        members=members,
        scope=dataset.scope,
    )
    # As it will be read back: JSON makes lists of tuples.
    return RunKey.from_json(json.loads(json.dumps(key.to_json())))


def _short(value: object) -> str:
    with contextlib.suppress(TypeError):
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return repr(value)
