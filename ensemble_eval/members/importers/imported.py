"""What an importer finds in a file of weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ensemble_eval.members.ensemble import InputFormat

if TYPE_CHECKING:
    from torch import Tensor

# TensorFlow's models see pixels from -1 to 1.
PLUS_MINUS_ONE = InputFormat(scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A file of weights: what it says about its member, and its tensors under our names.

    Attributes:
        format: a phrase for messages, such as "a Caffe model".
        arch: a name of the registry; None where the tensors are of no architecture that we know.
        options: of the architecture, those that are not as in the paper.
        input: how the network wants its pixels; None where the format does not say.
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
