"""Whole batches against crops that are cut one by one, and the buffer against a map of each byte."""

import numpy as np
import pytest
import torch
from builders import encoded, googlenet_plan, picture
from counted_operations import counted_operations
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.crops.gathering import BLACK, Address, Gatherer, PixelBuffer
from ensemble_eval.crops.protocols import CROP_SIZE, MAX_SIDE

CPU = torch.device("cpu")
# Of which three eighths are black, so that the rest is soon taken.
RUN = 1 << 14
ROW_BYTES, BLACK_BYTES = 3 * CROP_SIZE, 3 * MAX_SIDE
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
    source = pixels.prepare(image, googlenet_plan(*size, scheme))
    views = source.plan.views
    assert {view.mirrored for view in views} == ({False, True} if scheme > 1 else {False})
    gathered = _gathered(source.pixels, [source.address(view) for view in views])
    assert gathered.is_contiguous(memory_format=torch.channels_last)
    for crop, view in zip(gathered, views, strict=True):
        assert torch.equal(crop, source.cut(view))


def test_images_lie_one_behind_the_other_and_black_pads() -> None:
    sizes = SIZES[:3]
    sources = [pixels.prepare(pixels.decode(encoded(picture(*size))), googlenet_plan(*size, 10)) for size in sizes]
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
    assert len(operations) == 14, operations


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60))
def test_nothing_that_was_taken_overlaps(steps: list[tuple[bool, int]]) -> None:
    buffer, taken = PixelBuffer(CPU, RUN), dict[int, int]()
    size = RUN
    for gives_back, number in steps:
        if gives_back and taken:
            start = sorted(taken)[number % len(taken)]
            buffer.free(start)
            del taken[start]
            continue
        used = bytearray(size)
        used[:BLACK_BYTES] = b"x" * BLACK_BYTES
        for start, length in taken.items():
            used[start : start + length] = b"x" * length
        place = buffer.allocate(number)
        # At whole multiples of 256.
        needed = -(-max(1, number) // 256) * 256
        fits = any(not any(used[at : at + needed]) for at in range(0, size - needed + 1, 256))
        buffer.grow()
        assert len(buffer.bytes) == (size if fits else 2 * size)
        size = len(buffer.bytes)
        assert place + number <= size
        assert not any(used[place : place + number])
        taken[place] = number


def test_a_buffer_grows_and_keeps_what_it_holds() -> None:
    buffer = PixelBuffer(CPU, first_bytes=1 << 14)
    first = buffer.allocate(1000)
    buffer.grow()
    assert int(buffer.bytes[:BLACK_BYTES].max()) == 0
    assert len(buffer.bytes) == 1 << 14
    buffer.bytes[first : first + 1000] = 5
    second = buffer.allocate(20_000)
    buffer.grow()
    assert len(buffer.bytes) == 1 << 16
    buffer.bytes[second : second + 20_000] = 6
    assert (buffer.bytes[first : first + 1000] == 5).all()
    assert int(buffer.bytes[:BLACK_BYTES].max()) == 0
    buffer.free(first)
    assert buffer.allocate(1000) == first


def test_what_was_not_taken_cannot_be_given_back() -> None:
    with pytest.raises(KeyError):
        PixelBuffer(CPU).free(0)
