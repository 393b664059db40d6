"""The key of the job `run`, and the layout of its output folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET, Protocol
from ensemble_eval.datasets.scope import Scope
from ensemble_eval.members.ensemble import ENSEMBLE_ROWS, Interpolation
from ensemble_eval.paper.published import Published, published_errors
from ensemble_eval.store.key import Key
from ensemble_eval.store.parts import Format

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_FILE, SUBMISSION_FILE, UNREADABLE_FILE = "table3.csv", "submission.txt", "unreadable.csv"
# Only the last row of an image has these; they are null in the others.
CROP_RANK_COLUMNS = ("surface_ranks", "group_ranks", "rule_ranks")
# Null if the decision was neither requested nor known by the way.
_DECISION_COLUMNS = ("top5_correct", "top1_correct")


@dataclass(frozen=True, kw_only=True)
class MemberKey:
    """Everything that the scores of one member depend on.

    Attributes:
        name: The name under which its rows are stored.
        weights: The fingerprint of its weights.
        arch: The name of its architecture.
        options: The arguments of the architecture.
        input: The fields of its input format.
        protocol: Its multi-crop protocol; `googlenet` is left out of the flat form.
    """

    name: str
    weights: str
    arch: str
    options: Mapping[str, Any]
    input: Mapping[str, Any]
    protocol: Protocol = GOOGLENET

    def to_json(self) -> dict[str, Any]:
        """Convert to the flat form, without the name."""
        flat = {name: value for name, value in vars(self).items() if name != "name"}
        # Left out, so that keys of earlier versions stay valid.
        if flat.pop("protocol") != GOOGLENET:
            flat["protocol"] = asdict(self.protocol)
        return flat

    @classmethod
    def from_json(cls, name: str, flat: Mapping[str, Any]) -> Self:
        """Convert back from `to_json`."""
        protocol = Protocol(**flat["protocol"]) if "protocol" in flat else GOOGLENET
        return cls(**{**flat, "name": name, "protocol": protocol})


@dataclass(frozen=True, kw_only=True)
class RunKey(Key):
    """Everything that the stored predictions of a run depend on.

    Attributes:
        crops: The largest crop scheme.
        precision: The precision of the convolutions.
        backend: The software that ran the networks.
        device_type: `cpu` or `cuda`, whose scores differ in the last bits.
        scores: Whether mean softmax vectors are stored.
        until_decided: The errors that a run with early exit decides; empty for a run of full scores.
        interpolation: The interpolation with which images are resized.
        classes: The number of classes.
        members: The members, in the ensemble's order.
        surface: Whether the label's ranks for other means over the same crops and members are stored.
        scope: The images and classes that the errors are counted over.
    """

    crops: int
    precision: str
    backend: str
    device_type: str
    scores: bool
    until_decided: tuple[str, ...]
    interpolation: Interpolation
    classes: int
    members: tuple[MemberKey, ...]
    surface: bool = False
    scope: Scope = Scope()  # noqa: RUF009 (it is frozen)

    @property
    def member_names(self) -> tuple[str, ...]:
        """The names of the members, in the ensemble's order."""
        return tuple(member.name for member in self.members)

    @property
    def row_names(self) -> tuple[str, ...]:
        """The names in the column `member`: the members and, if there are several, "ensemble"."""
        return (*self.member_names, ENSEMBLE_ROWS) if len(self.members) > 1 else self.member_names

    @cached_property
    def rule(self) -> CropRule:
        """The crops that each member saw."""
        return CropRule(tuple(member.protocol for member in self.members), self.crops, self.interpolation)

    @property
    def schemes(self) -> tuple[int, ...]:
        """The crop schemes, by their number of crops, ascending."""
        return self.rule.schemes

    def published(self, one_model: str) -> Published:
        """Return the published errors for the protocol and the architectures.

        Args:
            one_model: The name of the member that the rows of one model show.
        """
        archs = {member.name: member.arch for member in self.members}
        return published_errors(self.rule.name, list(archs.values()), archs[one_model])

    @property
    def last_file(self) -> str:
        """Table 3, or the submission for images without labels."""
        return TABLE_FILE if self.scope.labelled else SUBMISSION_FILE

    def counted(self, label_classes: int | None = None) -> tuple[str, ...]:
        """Describe what the errors are counted over, with one phrase for each deviation from the usual.

        Args:
            label_classes: The number of classes with labelled images; None if it is not known yet.
        """
        scope = self.scope
        unusual = scope.part or scope.several_labels or scope.counted_classes is not None or not scope.labelled
        if unusual or label_classes is None or label_classes >= self.classes:
            return tuple(scope.sentences())
        # The data set is complete, but has no images of some classes.
        among_all = f"labels are of {label_classes} classes, and are ranked among all {self.classes}"
        return (*scope.sentences(), among_all)

    def to_json(self) -> dict[str, Any]:
        """Convert the key to its flat form, with an entry `member NAME` for each member."""
        flat = super().to_json() | {"until_decided": list(self.until_decided), "members": list(self.member_names)}
        # The usual scope is left out, so that keys of earlier versions stay valid.
        flat["scope"] = self.scope.to_json()
        if not flat["scope"]:
            del flat["scope"]
        for member in self.members:
            flat[f"member {member.name}"] = member.to_json()
        return flat

    def told(self) -> dict[str, Any]:
        """Return the flat form with the protocol of every member."""
        protocols = {f"member {each.name}": {"protocol": asdict(each.protocol)} for each in self.members}
        flat = self.to_json()
        return flat | {name: flat[name] | protocol for name, protocol in protocols.items()}

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Self:
        """Convert back from `to_json`."""
        fields = dict(flat)
        fields["members"] = tuple(
            MemberKey.from_json(name, fields.pop(f"member {name}")) for name in flat["members"]
        )
        fields["until_decided"] = tuple(flat["until_decided"])
        fields["scope"] = Scope.from_json(flat.get("scope", {}))
        return cls(**fields)


def schema(key: RunKey) -> "pa.Schema":
    """Return the columns of the predictions of a run."""
    import pyarrow as pa

    columns = [("image", pa.string()), ("member", pa.string()), ("crops", pa.int32()), ("label", pa.int32())]
    if key.scope.several_labels:
        # The column `label` holds the first of them.
        columns.append(("labels", pa.list_(pa.int32())))
    if key.until_decided:
        return pa.schema(columns + [(name, pa.bool_()) for name in _DECISION_COLUMNS])
    floats = pa.list_(pa.float32())
    columns += [("rank", pa.int32()), ("top5", pa.list_(pa.int32())), ("top5_probability", floats)]
    if key.scores:
        columns.append(("scores", floats))
    if key.surface:
        columns += [(name, pa.list_(pa.uint16())) for name in CROP_RANK_COLUMNS]
    return pa.schema(columns)


RUN = Format(
    "predictions", RunKey, schema, record="run.json", outputs=(TABLE_FILE, UNREADABLE_FILE, SUBMISSION_FILE)
)
"""The layout of the output folder of the job `run`."""


def columns_of(key: RunKey) -> list[str]:
    """Return the names of the columns of the predictions of a run."""
    names: list[str] = schema(key).names
    return names
