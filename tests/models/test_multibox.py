import pytest
import torch

from ensemble_eval.models.multibox import MultiBox, offsets_of
from ensemble_eval.models.registry import build

SHAPES = [[(0.2, 0.1), (0.1, 0.2)], [(0.6, 0.5)]]


@pytest.fixture(scope="module")
def network() -> MultiBox:
    torch.manual_seed(0)
    return MultiBox(SHAPES, 0.05).eval()


def test_every_cell_of_both_maps_has_its_priors(network: MultiBox) -> None:
    assert network.priors.shape == (14 * 14 * 2 + 7 * 7, 4)
    # The second cell of the first row of the finer map, its second shape.
    expected = torch.tensor([1.5 / 14 - 0.05, 0.5 / 14 - 0.1, 1.5 / 14 + 0.05, 0.5 / 14 + 0.1])
    assert torch.allclose(network.priors[3], expected)
    x = y = 6.5 / 7
    assert torch.allclose(network.priors[-1], torch.tensor([x - 0.3, y - 0.25, x + 0.3, y + 0.25]))


def test_outputs_stand_for_the_priors_in_their_order(network: MultiBox) -> None:
    pictures = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        offsets, logits = network(pictures)
        assert offsets.shape == (2, 441, 4)
        assert logits.shape == (2, 441)
        assert offsets.dtype == logits.dtype == torch.float32
        finer, coarser = network.trunk.feature_maps(pictures, ("inception4e", "inception5b"))
        by_cell = network.heads[0](finer)[1, :, 2, 5]
    index = (2 * 14 + 5) * 2
    assert torch.equal(torch.cat([offsets[1, index], logits[1, index, None]]), by_cell[:5])
    assert coarser.shape[2:] == (7, 7)


def test_before_training_hardly_anything_is_an_object(network: MultiBox) -> None:
    with torch.inference_mode():
        confidence = network(torch.rand(1, 3, 224, 224)).logits.sigmoid()
    assert 0.001 < float(confidence.mean()) < 0.05


def test_boxes_are_the_inverse_of_offsets(network: MultiBox) -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(441, 2, generator=generator) * 0.5
    boxes = torch.cat([corners, corners + 0.1 + torch.rand(441, 2, generator=generator) * 0.3], dim=1)
    found = network.boxes(offsets_of(boxes, network.priors)[None])[0]
    assert torch.allclose(found, boxes, atol=1e-5)


def test_boxes_stay_within_the_image(network: MultiBox) -> None:
    wild = torch.randn(1, 441, 4, generator=torch.Generator().manual_seed(2)) * 20
    found = network.boxes(wild)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert bool(found.isfinite().all())


def test_the_trunk_is_googlenets_but_for_the_classifier(network: MultiBox) -> None:
    trunk = {name.removeprefix("trunk.") for name in network.state_dict() if name.startswith("trunk.")}
    assert trunk == {name for name in build("googlenet", 1, width=0.05).state_dict() if not name.startswith("fc.")}
