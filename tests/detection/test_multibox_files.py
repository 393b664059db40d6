"""A MultiBox in its file, and the best boxes of its outputs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from ensemble_eval.detection.multibox import best_boxes, load_multibox, save_multibox
from ensemble_eval.errors import InputError
from ensemble_eval.members.described import save_described
from ensemble_eval.models.multibox import MAPS, MultiBox, MultiBoxOutputs

HEADS = {f"heads.{index}.bias": torch.zeros(5) for index in range(len(MAPS))}


def test_a_multibox_comes_back_with_its_priors(tmp_path: Path) -> None:
    network = MultiBox([[(0.2, 0.3)] * (1 + index) for index in range(len(MAPS))], 0.05).eval()
    save_multibox(tmp_path / "m.safetensors", network, 0.05)
    loaded = load_multibox(tmp_path / "m.safetensors")
    assert not loaded.training
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("tensors", "description", "sentence"),
    [
        (HEADS, {"width": 17}, "the width is above 0 and at most 16, not 17"),
        (HEADS, {"width": 0}, "the width is above 0 and at most 16, not 0"),
        # One tensor after the other would be missing, so that its width of 1 is none that is refused.
        (HEADS, {"width": 1}, r"m.safetensors lacks \d+ of the keys of MultiBox"),
        (HEADS, {}, "is no MultiBox; `ensemble-eval train` writes one"),
        ({}, {"width": 1}, "is no MultiBox; `ensemble-eval train` writes one"),
        (HEADS, {"width": "wide"}, "is no MultiBox; `ensemble-eval train` writes one"),
    ],
)
def test_a_file_that_holds_no_multibox_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], description: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "m.safetensors"
    save_described(path, tensors, description, "multibox")
    with pytest.raises(InputError, match=sentence):
        load_multibox(path)


def test_boxes_without_an_area_are_left_out_and_the_best_come_first() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.6], [0.6, 0.6, 0.9, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0.5, 0.45]]
    )
    network = cast("MultiBox", SimpleNamespace(boxes=lambda offsets: offsets))
    # The last overlaps the first by 0.9.
    outputs = MultiBoxOutputs(boxes[None], torch.tensor([[0.0, 5, 4, 1, -1]]))
    [(found, confidences)] = best_boxes(network, outputs, 10)
    assert found.tolist() == [[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]]
    assert confidences.tolist() == pytest.approx([0.7310586, 0.5])
    [(found, _)] = best_boxes(network, outputs, 1)
    assert found.tolist() == [[0.5, 0.5, 1, 1]]
