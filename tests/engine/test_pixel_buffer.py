"""Where pixels may lie, against a map that has one entry for each byte."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ensemble_eval.crops.gathering import ROW_BYTES
from ensemble_eval.engine.pixel_buffer import FreeList, PixelBuffer

CPU = torch.device("cpu")
SIZE = 1 << 13


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60))
def test_nothing_that_was_taken_overlaps(steps: list[tuple[bool, int]]) -> None:
    free_list, taken = FreeList(SIZE, reserved=ROW_BYTES), dict[int, int]()
    for gives_back, number in steps:
        if gives_back and taken:
            start = sorted(taken)[number % len(taken)]
            free_list.give_back(start)
            del taken[start]
            continue
        used = bytearray(SIZE)
        used[:ROW_BYTES] = b"x" * ROW_BYTES
        for start, length in taken.items():
            used[start : start + length] = b"x" * length
        place = free_list.take(number)
        if place is None:
            # At whole multiples of 256 nothing fits indeed.
            needed = -(-max(1, number) // 256) * 256
            assert not any(not any(used[at : at + needed]) for at in range(0, SIZE - needed + 1, 256))
        else:
            assert place + number <= SIZE
            assert not any(used[place : place + number])
            taken[place] = number


def test_a_buffer_grows_and_keeps_what_it_holds() -> None:
    buffer = PixelBuffer(CPU, first_bytes=2048)
    first = buffer.take(1000)
    buffer.grow()
    assert int(buffer.bytes[:ROW_BYTES].max()) == 0
    assert len(buffer.bytes) == 2048
    buffer.bytes[first : first + 1000] = 5
    second = buffer.take(5000)
    buffer.grow()
    assert len(buffer.bytes) == 8192
    buffer.bytes[second : second + 5000] = 6
    assert (buffer.bytes[first : first + 1000] == 5).all()
    assert int(buffer.bytes[:ROW_BYTES].max()) == 0
    buffer.give_back(first)
    assert buffer.take(1000) == first


def test_what_was_not_taken_cannot_be_given_back() -> None:
    with pytest.raises(KeyError):
        FreeList(SIZE).give_back(0)
