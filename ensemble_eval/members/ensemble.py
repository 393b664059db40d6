"""An ensemble and its members (torch-free)."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ensemble_eval.crops.protocols import OWN, Protocol, read_protocol
from ensemble_eval.errors import InputError, located
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.locations import local_copy
from ensemble_eval.members.classes import ClassList, class_list
from ensemble_eval.members.described import describe
from ensemble_eval.members.imported import GRAPH, InputFormat
from ensemble_eval.tables.formats import Displayed

if TYPE_CHECKING:
    from torch import Tensor, nn

# The name under which the ensemble's own rows stand beside its members' in the predictions.
ENSEMBLE_ROWS = "ensemble"
_SHA256 = Rule(pattern=r"[0-9a-f]{64}", words="64 lower-case hexadecimal digits")
# What may be declared beside each source of a member's predictions. The outputs of any source may be in another
# order than the classes.
_GOES_WITH_ALL = frozenset({"outputs", "renormalise"})
_GOES_WITH = {
    "weights": _GOES_WITH_ALL | {"arch", "options", "sha256", "input", "averaged"},
    "network": _GOES_WITH_ALL | {"input"},
    "predict": _GOES_WITH_ALL | {"fingerprint"},
}

Interpolation = Literal["bilinear", "bicubic"]
# uint8 [B, 3, S, S], RGB, on the device of the run -> probabilities [B, classes].
PredictFunction = Callable[["Tensor"], "Tensor"]


def _set(frozen: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


_MEMBER = 'a Member, such as Member("a", network=…, input=InputFormat.imagenet()) of a torch module'
# The input of a predict function: the pixels as they are.
_PIXELS = InputFormat(scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True, init=False, repr=False)
class Member(Displayed):
    """One model of an ensemble: weights in a file, a network in memory, or a function.

    Args:
        name: tells the members of an ensemble apart.
        weights: file of any format that is recognised. What is not given, the file says.
        arch: architecture of the weights: a name of the registry, or `python:package.module:callable`; None for
            what the file says, which is opened for that.
        options: arguments of the architecture.
        sha256: of the file, in hexadecimal; checked when given.
        network: any torch module: normalised float32 [B, 3, S, S] -> logits [B, classes]. It needs `input`. A
            copy of it is evaluated, so it stays as it is.
        predict: a function: uint8 [B, 3, S, S], RGB, on the device of the run -> probabilities [B, classes].
            It does its own preprocessing and applies its own softmax.
        fingerprint: a text that changes whenever `predict` would return something else. A run that is stored
            needs it, because a function has no weights that identify it.
        input: how pixels become the network's input; for `weights`, what the file says, or ImageNet's format.
        outputs: the class of each output: None for the classes in their order, `background-first`, or the path of
            a table with the class of one output in each line, and `-` for an output without a class.
        renormalise: with `outputs`, whether the probabilities of the classes are divided by their sum.
        averaged: which of raw and averaged weights in a training script's file to take; None for the averaged
            where both are there.
        protocol: the multi-crop protocol of this member, by its name or as the path of a TOML file; None for that
            of the evaluation. All members of an ensemble need protocols with the same schemes.
        own_protocol: the single crop with which its publisher evaluates it, where that is known.

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
    protocol: Protocol | None
    own_protocol: Protocol | None

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
        protocol: str | Path | Protocol | None = None,
        own_protocol: Protocol | None = None,
    ) -> None:
        checked_value(str, "a member's name", name)
        declared: dict[str, Any] = {"arch": arch, "options": options or None, "sha256": sha256}
        declared |= {"fingerprint": fingerprint, "input": input, "outputs": outputs, "averaged": averaged}
        declared["renormalise"] = renormalise or None
        path: Path | None = checked_value(Path | None, "`weights`", weights)
        path = None if path is None else local_copy(path)
        with located(f"member {name}"):
            source = _the_source({"weights": weights, "network": network, "predict": predict})
            known = _known(source, network, predict)
            _refuse_contradictions(source, declared, known)
            if path is not None and arch is None:
                known |= _said_by(path, averaged, input)
                declared["options"] = {**known["options"], **(options or {})} or None
        given = {field: value for field, value in declared.items() if value is not None}
        values = {**dict.fromkeys(declared), "options": {}, "renormalise": False, **known, **given}
        if isinstance(protocol, str | Path):
            with located(f"member {name}"):
                protocol = protocol_named(str(protocol), own_protocol)
        checked_value(Protocol | None, "`protocol`", protocol, Rule(words="the name of a protocol, or a file"))
        protocols = {"protocol": protocol, "own_protocol": own_protocol}
        _set(self, name=name, weights=path, network=network, predict=predict, **protocols, **values)

    @property
    def weights_file(self) -> Path:
        """The member's file of weights.

        Raises:
            InputError: It has none.
        """
        if self.weights is None:
            raise InputError(
                f"member {self.name} is in memory and not in a file; save its weights, and give `weights` and "
                "`arch`"
            )
        return self.weights


@dataclass(frozen=True, init=False, repr=False)
class Ensemble(Displayed):
    """Ordered members that share one list of classes and one way of resizing images.

    Args:
        members: in order; of members with equal errors, the first is reported as the single model.
        classes: what the outputs stand for: `imagenet-1k`, a file with one class per line, or the names.
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
        checked_value(Interpolation, "`interpolation`", interpolation)
        checked_value(str, "`name`", name)
        _check_names([member.name for member in members])
        _set(self, members=members, classes=class_list(classes), name=name, interpolation=interpolation)

    def _facts(self) -> dict[str, object]:
        names = [member.name for member in self.members]
        return {"name": self.name, "members": names, "classes": self.classes.count, "source": self.classes.source}


def _check_names(names: Sequence[str]) -> None:
    """Refuse an ensemble without members, or whose members cannot be told apart."""
    if not names:
        raise InputError("the ensemble has no members; add at least one")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two members are named {name!r}; give each its own name")
        if name == ENSEMBLE_ROWS:
            raise InputError(f"the name {name!r} is kept for the ensemble's own rows; choose another")


def protocol_named(name: str, own: Protocol | None, folder: Path = Path()) -> Protocol:
    """The protocol of a name or a file, of which `timm` is the member's own.

    Raises:
        InputError: there is no such protocol, or the member has none of its own.
    """
    if name != OWN:
        return read_protocol(name, folder)
    if own is None:
        raise InputError(
            f"the protocol {OWN} is read from the configuration of published weights, and these have none; name "
            "another protocol"
        )
    return own


def _the_source(sources: Mapping[str, object]) -> str:
    """The name of the one source that is given."""
    given = [name for name, value in sources.items() if value is not None]
    if not given:
        raise InputError("there is nothing to predict with; give `weights` and `arch`, `network`, or `predict`")
    if len(given) > 1:
        raise InputError(f"`{given[0]}` and `{given[1]}` exclude each other; give one of them")
    return given[0]


def _refuse_contradictions(source: str, declared: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse statements that do not go with a member's source, and values of the wrong kind."""
    for name, value in declared.items():
        if value is not None and name not in _GOES_WITH[source] and value != known.get(name):
            raise InputError(f"`{name}` does not go with `{source}`; leave it out")
    if source == "network" and declared["input"] is None:
        raise InputError("`network` needs `input`, such as `input=InputFormat.imagenet()`; add it")
    checked_value(str | None, "`sha256`", declared["sha256"], _SHA256)
    checked_value(str | None, "`fingerprint`", declared["fingerprint"])
    for name in ("averaged", "renormalise"):
        checked_value(bool | None, f"`{name}`", declared[name])


def _known(source: str, network: "nn.Module | None", predict: PredictFunction | None) -> dict[str, Any]:
    """What the source of a member says about it, or what is taken unless declared."""
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


def _said_by(path: Path, averaged: bool | None, declared_input: InputFormat | None) -> dict[str, Any]:
    """What a file of weights states by itself about its member."""
    found = describe(path, averaged=averaged)
    if found.arch == GRAPH and found.input is None and declared_input is None:
        raise InputError(
            f"the weights {path} are {found.format}, which does not say how it wants its pixels; state `input`"
        )
    if found.arch is None:
        raise InputError(
            f"the weights {path} are {found.format} of no architecture that is known; state `arch` and `input`"
        )
    said = {"arch": found.arch, "options": dict(found.options), "input": found.input, "outputs": found.outputs}
    return {name: value for name, value in said.items() if value is not None}
