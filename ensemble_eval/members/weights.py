"""Files of weights on disk: their tensors by name, and what tells one file from another."""

from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_eval.errors import InputError
from ensemble_eval.files import sha256_of

if TYPE_CHECKING:
    from torch import Tensor


def load_state_dict(path: Path, sha256: str | None = None) -> "dict[str, Tensor]":
    """Read the tensors of a file of weights, whatever format it is of; see `read_weights`.

    Raises:
        InputError: missing, truncated, of another SHA-256, or of no format that is known.
    """
    from ensemble_eval.members.importers.opening import read_weights

    return dict(read_weights(path, sha256=sha256).tensors)


def weights_sha256(path: Path) -> str:
    """The SHA-256 of a file of weights.

    Raises:
        InputError: there is none.
    """
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist; check the path in the manifest")
    return sha256_of(path)
