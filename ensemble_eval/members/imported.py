"""What a file of weights says about its network, and how pixels become its input (torch-free)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ensemble_eval import toml_tables
from ensemble_eval.errors import refusing
from ensemble_eval.fields import bounds
from ensemble_eval.tables.formats import Displayed

if TYPE_CHECKING:
    from torch import Tensor

# The first output has no class, and the others have the classes in their order.
BACKGROUND_FIRST = "background-first"
# The architecture of a file that is a whole network and runs as it is.
GRAPH = "graph"


@dataclass(frozen=True, repr=False)
class InputFormat(Displayed):
    """How pixels become a network's input: x = (uint8 / scale - mean) / std, per channel, in `channels` order.

    Attributes:
        channels: the order of the channels; `mean` and `std` are in the same order.
        scale: what the pixels, 0 to 255, are divided by.
        mean: subtracted after scaling.
        std: divided by at the end.
        size: width and height of the input, where the network takes only this one; None where the crops decide.
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
    size: int | None = field(default=None, metadata=bounds(1))

    def __post_init__(self) -> None:
        for name, value in toml_tables.checked(InputFormat, vars(self), "an InputFormat").items():
            object.__setattr__(self, name, value)

    def stated(self) -> dict[str, Any]:
        """Return the fields as a table; an open size is left out, as in files of earlier versions."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def imagenet(cls) -> "InputFormat":
        """RGB from 0 to 1, normalised by ImageNet's mean and deviation: the input of most published networks.

        Example:
            >>> InputFormat.imagenet().mean
            (0.485, 0.456, 0.406)
        """
        return cls()


def input_text(input_format: InputFormat) -> str:
    """An input format as a phrase.

    Example:
        >>> input_text(InputFormat.imagenet())
        'RGB / 255, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)'
    """
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (input_format.mean, input_format.std))
    remapped = ", re-mapped to the range ±1 (transform_input)" if input_format.transform_input else ""
    scale = f" / {input_format.scale:g}" if input_format.scale != 1 else " from 0 to 255"
    return f"{input_format.channels.upper()}{scale}, minus ({mean}), over ({std}){remapped}"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A file of weights: what it says about its network, and its tensors under our names.

    Attributes:
        format: a phrase for messages, such as "a Caffe model".
        arch: a name of the registry; None where the tensors are of no architecture that we know.
        options: of the architecture, those that are not as in the paper.
        input: how pixels become its input; None where the format does not say.
        outputs: `background-first`, or None where the outputs are the classes in their order, or are not known.
        num_outputs: of the classifier; None where the architecture is not known.
        certain: whether the format leaves no doubt of the architecture, so that another one is a contradiction.
        published: one-crop accuracy published for such a file, as a phrase; None where none is known.
        notes: sentences that a user should see, such as which of two sets of weights was taken.
        tensors: by the names of our network's state dict.
    """

    format: str
    arch: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    input: InputFormat | None = None
    outputs: str | None = None
    num_outputs: int | None = None
    certain: bool = False
    published: str | None = None
    notes: tuple[str, ...] = ()
    tensors: "Mapping[str, Tensor]" = field(default_factory=dict, repr=False)


def refusing_damage(weights: str, *errors: type[Exception]) -> AbstractContextManager[None]:
    """Turn what a reader makes of a damaged file into one sentence; most readers document no errors of their own.

    Args:
        weights: the file, as the plural subject of the sentence.
        errors: what damage may raise; none for any exception.

    Raises:
        InputError: the file is damaged, or what is read inside refuses it.
    """
    return refusing(f"{weights} are damaged or truncated", "get the file again", *errors)
