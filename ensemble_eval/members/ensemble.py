"""What an ensemble is: its members, how each wants its pixels, and the classes of their outputs (torch-free)."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ensemble_eval import files, toml_tables
from ensemble_eval.errors import InputError, located
from ensemble_eval.fields import Rule, bounds, checked_value
from ensemble_eval.members.stated import refuse_contradictions, the_source

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_1K = "imagenet-1k"
# The name under which the ensemble's own rows stand beside its members' in the predictions.
ENSEMBLE_ROWS = "ensemble"
_IMAGENET_1K_CLASSES = 1000
_MAX_CLASS_FILE_BYTES = 1 << 26
# The first output stands for no class, and the others for the classes in their order.
BACKGROUND_FIRST = "background-first"
# The architecture of a file that is a whole network and runs as it is.
GRAPH = "graph"

Interpolation = Literal["bilinear", "bicubic"]
# uint8 [B, 3, 224, 224], RGB, on the device of the run -> probabilities [B, classes].
PredictFunction = Callable[["Tensor"], "Tensor"]


def _set(frozen: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


@dataclass(frozen=True)
class InputFormat:
    """How a network wants its pixels: x = (uint8 / scale - mean) / std, per channel, in `channels` order.

    Attributes:
        channels: the order of the channels; `mean` and `std` are in the same order.
        scale: what the pixels, 0 to 255, are divided by.
        mean: of each channel, subtracted after scaling.
        std: of each channel, divided by at the end.
        transform_input: marks weights ported from TensorFlow that torchvision feeds ImageNet-normalised input
            and re-maps to the range ±1 (pytorch/vision#4136); it is not part of a state dict.

    Raises:
        InputError: a value that is no finite number, or a scale or deviation that is not above 0.

    Example:
        >>> InputFormat(scale=1.0, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4)).channels
        'rgb'
    """

    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = field(default=255.0, metadata=bounds(0, above_low=True))
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = field(default=(0.229, 0.224, 0.225), metadata=bounds(0, above_low=True))
    transform_input: bool = False

    def __post_init__(self) -> None:
        _set(self, **toml_tables.checked(InputFormat, vars(self), "an InputFormat"))

    @classmethod
    def imagenet(cls) -> "InputFormat":
        """RGB from 0 to 1, normalised by ImageNet's mean and deviation: what most published networks want.

        Example:
            >>> InputFormat.imagenet().mean
            (0.485, 0.456, 0.406)
        """
        return cls()


_MEMBER = 'a Member, such as Member("a", network=…, input=InputFormat.imagenet()) of a torch module'
_CLASSES = '"imagenet-1k", a list of names, or the path of a file of names'
# What a predict function gets: the pixels as they are.
_PIXELS = InputFormat(scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True)
class ClassList:
    """The classes that an ensemble's outputs stand for, in the order of the outputs; see `class_list`.

    Attributes:
        source: where the names are from: `imagenet-1k`, a file, or a phrase for messages.
        count: of the classes.
        names: of the classes; None for `imagenet-1k`, whose indices are the 1000 WNIDs in sorted order.
    """

    source: str
    count: int
    names: tuple[str, ...] | None


@dataclass(frozen=True, init=False)
class Member:
    """One model of an ensemble: weights in a file, a network in memory, or a function.

    Args:
        name: tells the members of an ensemble apart.
        weights: file of any format that is recognised. What is not stated about it, the file says.
        arch: architecture of the weights: a name of the registry, or `python:package.module:callable`; None for
            what the file says, which is opened for that.
        options: arguments of the architecture.
        sha256: of the file, in hexadecimal; checked when given.
        network: any torch module: normalised float32 [B, 3, 224, 224] -> logits [B, classes]. It needs `input`. A
            copy of it is evaluated, so it stays as it is.
        predict: a function: uint8 [B, 3, 224, 224], RGB, on the device of the run -> probabilities [B, classes].
            It does its own preprocessing and applies its own softmax.
        fingerprint: a text that changes whenever `predict` would return something else. A run that is stored
            needs it, because a function has no weights to be told by.
        input: how the network wants its pixels; for `weights`, what the file says, or ImageNet's format.
        outputs: what the outputs stand for: None for the classes in their order, `background-first`, or the path
            of a table with the class of each output, one a line, and `-` where there is none.
        renormalise: with `outputs`, whether the probabilities of the classes are divided by their sum.
        averaged: which of raw and averaged weights in a training script's file to take; None for the averaged
            where both are there.

    Raises:
        InputError: arguments that contradict one another, or not enough of them.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000))
        >>> Member("small", network=network, input=InputFormat.imagenet()).arch
        'memory:torch.nn.modules.container.Sequential'
        >>> Member("a", weights="a.pth", arch="googlenet").arch
        'googlenet'
    """

    name: str
    weights: Path | None
    arch: str
    options: Mapping[str, Any]
    sha256: str | None
    network: "nn.Module | None" = field(repr=False)
    predict: PredictFunction | None = field(repr=False)
    fingerprint: str | None
    input: InputFormat
    outputs: str | Path | None
    renormalise: bool
    averaged: bool | None

    def __init__(
        self,
        name: str,
        *,
        weights: str | Path | None = None,
        arch: str | None = None,
        options: Mapping[str, Any] | None = None,
        sha256: str | None = None,
        network: "nn.Module | None" = None,
        predict: PredictFunction | None = None,
        fingerprint: str | None = None,
        input: InputFormat | None = None,  # noqa: A002 (its name in manifests)
        outputs: str | Path | None = None,
        renormalise: bool | None = None,
        averaged: bool | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InputError(f"a member's name is a text, not {name!r}")
        stated: dict[str, Any] = {"arch": arch, "options": options or None, "sha256": sha256}
        stated |= {"fingerprint": fingerprint, "input": input, "outputs": outputs, "averaged": averaged}
        stated["renormalise"] = renormalise or None
        path: Path | None = checked_value(Path | None, "`weights`", weights)
        with located(f"member {name}"):
            source = the_source({"weights": weights, "network": network, "predict": predict})
            known = _known(source, network, predict)
            refuse_contradictions(source, stated, known)
            if path is not None and arch is None:
                known |= _said_by(path, averaged, input)
                stated["options"] = {**known["options"], **(options or {})} or None
        given = {field: value for field, value in stated.items() if value is not None}
        values = {**dict.fromkeys(stated), "options": {}, "renormalise": False, **known, **given}
        _set(self, name=name, weights=path, network=network, predict=predict, **values)


@dataclass(frozen=True, init=False)
class Ensemble:
    """Ordered members that share one list of classes and one way of resizing images.

    Args:
        members: in order; with equal errors, the first is the one that stands for a single model.
        classes: what the outputs stand for; see `class_list`.
        name: for the records.
        interpolation: how images are resized to the scales of their crops.

    Raises:
        InputError: there are no members, two of one name, or classes that cannot be used.

    Example:
        >>> a = Member("a", weights="a.pth", arch="googlenet", options={"width": 0.5})
        >>> Ensemble([a], classes=["ant", "bee"]).classes.count
        2
    """

    members: tuple[Member, ...]
    classes: ClassList
    name: str
    interpolation: Interpolation

    def __init__(
        self,
        members: Sequence[Member],
        classes: str | Path | Sequence[str] | ClassList,
        name: str = "ensemble",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        checked_value(Iterable, "`members`", members, Rule(words="a list of members"))
        members = tuple(members)
        for index, member in enumerate(members):
            checked_value(Member, f"`members[{index}]`", member, Rule(words=_MEMBER))
        check_names([member.name for member in members])
        checked_value(Interpolation, "`interpolation`", interpolation)
        checked_value(str, "`name`", name)
        _set(self, members=members, classes=class_list(classes), name=name, interpolation=interpolation)


def class_list(classes: str | Path | Sequence[str] | ClassList, folder: Path | None = None) -> ClassList:
    """The classes that an ensemble's outputs stand for, in the order of the outputs.

    Args:
        classes: `imagenet-1k`, the path of a text file with one class per line, or the names themselves.
        folder: where relative paths start; None for the working directory.

    Raises:
        InputError: the file is missing, too large or not UTF-8; there is no class, an empty name, or one twice.

    Example:
        >>> class_list("imagenet-1k").count
        1000
        >>> class_list(["ant", "bee"]).names
        ('ant', 'bee')
    """
    if isinstance(classes, ClassList):
        return classes
    if classes == IMAGENET_1K:
        return ClassList(IMAGENET_1K, _IMAGENET_1K_CLASSES, None)
    if isinstance(classes, str | Path):
        path = (folder or Path()) / classes
        lines = files.read_text(path, _MAX_CLASS_FILE_BYTES).splitlines()
        return ClassList(str(path), len(lines), _class_names([line.strip() for line in lines], str(path)))
    checked_value(
        Sequence,
        "`classes`",
        classes,
        Rule(words='"imagenet-1k", a list of names, or the path of a file of names'),
    )
    names = _class_names(classes, "`classes`")
    return ClassList("a list of names", len(names), names)


def check_names(names: Sequence[str]) -> None:
    """Refuse an ensemble without members, or whose members cannot be told apart.

    Raises:
        InputError: no name, one name twice, or the name that is kept for the ensemble's own rows.
    """
    if not names:
        raise InputError("the ensemble has no members; add at least one")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two members are named {name!r}; give each its own name")
        if name == ENSEMBLE_ROWS:
            raise InputError(f"the name {name!r} is kept for the ensemble's own rows; choose another")


def weights_of(member: Member) -> Path:
    """The member's file of weights.

    Raises:
        InputError: it has none.
    """
    if member.weights is None:
        raise InputError(
            f"member {member.name} is in memory and not in a file; save its weights, and give `weights` and `arch`"
        )
    return member.weights


def _class_names(names: Sequence[str], place: str) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{place}: a class list has one class per line and no empty line")
    if len(set(names)) < len(names):
        repeated = sorted(name for name in set(names) if names.count(name) > 1)
        raise InputError(f"{place}: classes appear twice: {', '.join(repeated[:3])}")
    return tuple(names)


def _said_by(path: Path, averaged: bool | None, stated_input: InputFormat | None) -> dict[str, Any]:
    # Only here: reading weights needs torch, and a member that is stated in full does not.
    from ensemble_eval.members.describing import said_by

    return said_by(path, averaged=averaged, stated_input=stated_input)


def _known(source: str, network: "nn.Module | None", predict: PredictFunction | None) -> dict[str, Any]:
    """What the source of a member says about it, or what is taken unless stated."""
    if source == "weights":
        return {"input": InputFormat()}
    if source == "predict":
        if not callable(predict):
            raise InputError(f"`predict` is a function, not {type(predict).__name__}")
        return {"arch": "predict", "input": _PIXELS}
    torch = sys.modules.get("torch")  # whoever has a network has imported it
    if torch is None or not isinstance(network, torch.nn.Module):
        raise InputError(f"`network` is a torch.nn.Module, not {type(network).__name__}; or give `predict`")
    return {"arch": f"memory:{type(network).__module__}.{type(network).__qualname__}"}
