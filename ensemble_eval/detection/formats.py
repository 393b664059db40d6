"""The keys of the jobs `propose` and `detect`, and the format of their results in an output folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ensemble_eval.evaluation.key import RUN
from ensemble_eval.settings import PROPOSAL_SETS
from ensemble_eval.store.key import Key
from ensemble_eval.store.parts import Format

if TYPE_CHECKING:
    import pyarrow as pa

DETECTION_TABLE, DETECT_RECORD = "detection.csv", "detect.json"


@dataclass(frozen=True, kw_only=True)
class ProposeKey(Key):
    """What the proposals of one set depend on.

    Attributes:
        method: The method's parameters and the versions or hashes of what it uses.
    """

    method: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A flat key, each parameter a field."""
        return {"dataset": self.dataset, "images": self.images, **self.method}

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Self:
        """The key that `to_json` gave."""
        method = dict(flat)
        return cls(dataset=method.pop("dataset"), images=method.pop("images"), method=method)


@dataclass(frozen=True, kw_only=True)
class DetectKey(Key):
    """What the detections of `detect` depend on.

    Attributes:
        proposals: A hash of the keys of the proposals.
        members: A fingerprint of each member's weights, by name.
        inputs: The input formats of members that are not ImageNet's, by name; left out of the flat form if empty.
        classes: A hash of the classes' names.
        precision: The precision of the convolutions.
        backend: What ran the networks.
        device_type: `cpu` or `cuda`.
        svm: The hash of the file of SVMs; None without one.
        most_overlap: The overlap beyond which the weaker of two boxes is suppressed.
        least_scores: The least score of a detection that is kept, by classifier.
        most_detections: How many detections of a class in an image are kept at most.
    """

    proposals: str
    members: Mapping[str, str]
    classes: str
    precision: str
    backend: str
    device_type: str
    svm: str | None
    most_overlap: float
    least_scores: Mapping[str, float]
    most_detections: int
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A flat key; that of members with ImageNet's format is as in earlier versions."""
        flat = super().to_json()
        if not flat["inputs"]:
            del flat["inputs"]
        return flat


def _proposal_columns(_: ProposeKey) -> "pa.Schema":
    import pyarrow as pa

    floats = pa.list_(pa.float32())
    # `reason` says why an image has none.
    named = [("image", pa.string()), ("proposals", pa.string()), ("boxes", floats), ("scores", floats)]
    return pa.schema([*named, ("reason", pa.string())])


def _detection_columns(_: DetectKey) -> "pa.Schema":
    import pyarrow as pa

    floats = pa.list_(pa.float32())
    configuration = [("proposals", pa.string()), ("models", pa.int32()), ("classifier", pa.string())]
    found = [("boxes", floats), ("classes", pa.list_(pa.int32())), ("scores", floats), ("regions", pa.int32())]
    return pa.schema([("image", pa.string()), *configuration, *found])


PROPOSE = {
    name: Format(
        f"proposals/{name}", ProposeKey, _proposal_columns, by_image=True, record=f"proposals/{name}.json"
    )
    for name in PROPOSAL_SETS
}
"""The sets of proposals, by name. A set has its record when it is finished."""

DETECT = Format(
    "detections", DetectKey, _detection_columns, by_image=True, record=DETECT_RECORD, outputs=(DETECTION_TABLE,)
)
"""The detections of all configurations."""


def formats_in(*folders: Path) -> list[Format[Any]]:
    """The formats of the results in some output folders; that of `run` if there are no results.

    Example:
        >>> [form.folder for form in formats_in(Path("no such folder"))]
        ['predictions']
    """
    known: list[Format[Any]] = [RUN, DETECT, *PROPOSE.values()]
    return [form for form in known if any((folder / form.folder).is_dir() for folder in folders)] or [RUN]
