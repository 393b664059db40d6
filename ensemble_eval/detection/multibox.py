"""MultiBox as a source of proposals: reading and writing its file, and its best boxes in an image."""

from pathlib import Path

from torch import Tensor

from ensemble_eval.detection.regions import suppress
from ensemble_eval.errors import InputError
from ensemble_eval.members.described import read_described, save_described
from ensemble_eval.members.loading import load_tensors
from ensemble_eval.models.multibox import MAPS, MultiBox, MultiBoxOutputs

_KIND = "multibox"
# A box that overlaps a better one by more repeats its proposal.
MAX_OVERLAP = 0.75


def save_multibox(path: Path, network: MultiBox, width: float) -> str:
    """Write a MultiBox with its width, as a whole or not at all; return the file's SHA-256 in hexadecimal.

    Raises:
        InputError: The folder or disk does not take the file.
    """
    return save_described(path, network.state_dict(), {"width": width}, _KIND)


def load_multibox(path: Path) -> MultiBox:
    """Read a MultiBox that `save_multibox` wrote, on the CPU and in eval mode.

    Raises:
        InputError: The file is missing, damaged, or no MultiBox.
    """
    tensors, description = read_described(path, _KIND, "the MultiBox")
    try:
        width = float(description["width"])
        shapes = [len(tensors[f"heads.{index}.bias"]) // 5 for index in range(len(MAPS))]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no MultiBox; `ensemble-eval train` writes one from a recipe with the table [multibox]"
        ) from error
    if not 0 < width <= 16:
        raise InputError(f"{path}: the width is above 0 and at most 16, not {width}")
    # The priors are among the tensors.
    network = MultiBox([[(1.0, 1.0)] * count for count in shapes], width)
    load_tensors(network, tensors, weights=str(path), arch="MultiBox")
    return network.eval()


def best_boxes(network: MultiBox, outputs: MultiBoxOutputs, most: int) -> list[tuple[Tensor, Tensor]]:
    """The boxes of highest confidence for each image of a batch, the best first.

    Boxes without an area are left out, and so are boxes that overlap a better one by more than `MAX_OVERLAP`.

    Args:
        network: The network that computed the outputs.
        outputs: The outputs for the batch.
        most: The number of boxes to return for an image, at most.

    Returns:
        For each image the boxes, float32 [boxes, 4], as fractions of the image, and their confidences, float32
        [boxes].
    """
    found = []
    for boxes, logits in zip(network.boxes(outputs.offsets), outputs.logits, strict=True):
        with_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1).nonzero()[:, 0]
        kept = with_area[suppress(boxes[with_area], logits[with_area], MAX_OVERLAP)[:most]]
        found.append((boxes[kept], logits[kept].sigmoid()))
    return found
