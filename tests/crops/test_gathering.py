"""Whole batches out of one run of bytes, against crops that are cut one by one."""

import numpy as np
import pytest
import torch
from builders import encoded, picture
from counted_operations import counted_operations
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.crops.gathering import BLACK, ROW_BYTES, Address, Gatherer
from ensemble_eval.crops.schemes import CROP_SIZE, plan

CPU = torch.device("cpu")
# Landscape, portrait and square, odd and even, smaller and larger than the scales, and a strip.
SIZES = ((101, 67), (60, 91), (64, 64), (500, 375), (353, 352), (257, 641), (1, 40))


def _gathered(buffer: Tensor, addresses: list[Address]) -> Tensor:
    crops = torch.full((len(addresses), CROP_SIZE, CROP_SIZE, 3), 77, dtype=torch.uint8)
    Gatherer(CPU)(buffer, torch.tensor(addresses), crops)
    return crops.permute(0, 3, 1, 2)


@pytest.mark.parametrize("scheme", [1, 10, 144])
@pytest.mark.parametrize("size", SIZES)
def test_every_view_is_the_crop_that_is_cut(size: tuple[int, int], scheme: int) -> None:
    image = pixels.decode(encoded(picture(*size)))
    source = pixels.prepare(image, plan(*size, scheme))
    views = source.plan.views
    assert {view.mirrored for view in views} == ({False, True} if scheme > 1 else {False})
    gathered = _gathered(source.pixels, [source.address(view) for view in views])
    assert gathered.is_contiguous(memory_format=torch.channels_last)
    for crop, view in zip(gathered, views, strict=True):
        assert torch.equal(crop, source.cut(view))


def test_images_lie_one_behind_the_other_and_black_pads() -> None:
    sizes = SIZES[:3]
    sources = [pixels.prepare(pixels.decode(encoded(picture(*size))), plan(*size, 10)) for size in sizes]
    starts = np.cumsum([ROW_BYTES, *(len(source.pixels) for source in sources)]).tolist()
    buffer = torch.cat([torch.zeros(ROW_BYTES, dtype=torch.uint8), *(source.pixels for source in sources)])
    # In another order than they lie, and one of them twice.
    rows = [(2, 9), (0, 5), (1, 0), (2, 9), (0, 6)]
    addresses = []
    for index, view in rows:
        moved = sources[index].moved_to(starts[index])
        assert len(moved.pixels) == 0
        addresses.append(moved.address(moved.plan.views[view]))
    gathered = _gathered(buffer, [BLACK, *addresses, BLACK])
    assert int(gathered[0].max()) == int(gathered[-1].max()) == 0
    for crop, (index, view) in zip(gathered[1:-1], rows, strict=True):
        assert torch.equal(crop, sources[index].cut(sources[index].plan.views[view]))


@pytest.mark.parametrize("rows", [1, 16, 288])
def test_operations_do_not_grow_with_the_batch(rows: int) -> None:
    gather, buffer = Gatherer(CPU), torch.zeros(ROW_BYTES, dtype=torch.uint8)
    addresses = torch.tensor([BLACK] * rows)
    crops = torch.empty(rows, CROP_SIZE, CROP_SIZE, 3, dtype=torch.uint8)
    with counted_operations() as operations:
        gather(buffer, addresses, crops)
    # Views included, which launch nothing.
    assert len(operations) == 13, operations
