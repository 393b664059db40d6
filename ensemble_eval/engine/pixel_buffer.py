"""Memory of a device in which the pixels of all images of the pool lie, so that one operation reaches them all."""

import torch

from ensemble_eval.crops.gathering import ROW_BYTES

_ALIGNMENT = 256
# What a few batches of single crops need; it doubles when it is full.
_FIRST_BYTES = 1 << 26


class FreeList:
    """Which parts of a run of bytes are free: the first gap that is long enough is taken.

    Args:
        size: of the run.
        reserved: bytes at its beginning that are never given away.
    """

    def __init__(self, size: int, reserved: int = 0) -> None:
        self.size = size
        self._end = _aligned(reserved)
        # By their beginnings, ascending; what follows the last is free too.
        self._taken: dict[int, int] = {}
        self._gaps: list[tuple[int, int]] = []

    def take(self, length: int) -> int | None:
        """Where `length` bytes may lie; None if they fit nowhere."""
        needed = _aligned(max(1, length))
        for index, (start, gap) in enumerate(self._gaps):
            if gap >= needed:
                self._gaps[index : index + 1] = [(start + needed, gap - needed)] if gap > needed else []
                self._taken[start] = needed
                return start
        start = self._end
        if start + needed > self.size:
            return None
        self._end += needed
        self._taken[start] = needed
        return start

    def give_back(self, start: int) -> None:
        """Free what was taken at `start`, and join it with the gaps around it."""
        length = self._taken.pop(start)
        joined: list[tuple[int, int]] = []
        for gap in sorted([*self._gaps, (start, length)]):
            if joined and sum(joined[-1]) == gap[0]:
                joined[-1] = (joined[-1][0], joined[-1][1] + gap[1])
            else:
                joined.append(gap)
        if joined and sum(joined[-1]) == self._end:
            self._end = joined.pop()[0]
        self._gaps = joined


class PixelBuffer:
    """One tensor of bytes on a device, which begins with a row of black pixels and grows when it is full.

    All that is done to it must be done in one order, that of the device's queue for loading.

    Args:
        device: where it is.
        first_bytes: its size to begin with.

    Attributes:
        bytes: uint8 [size], empty to begin with; another tensor after it has grown, so ask anew for each batch.
    """

    def __init__(self, device: torch.device, first_bytes: int = _FIRST_BYTES) -> None:
        self.bytes = torch.empty(0, dtype=torch.uint8, device=device)
        self._free_list = FreeList(max(first_bytes, ROW_BYTES), reserved=ROW_BYTES)

    def take(self, length: int) -> int:
        """Where `length` bytes may be written; `grow` must follow where they reach beyond its end."""
        while (start := self._free_list.take(length)) is None:
            self._free_list.size *= 2
        return start

    def grow(self) -> None:
        """Become as large as what was taken needs; what lies in it stays where it is."""
        if len(self.bytes) < self._free_list.size:
            grown = torch.zeros(self._free_list.size, dtype=torch.uint8, device=self.bytes.device)
            grown[: len(self.bytes)].copy_(self.bytes)
            self.bytes = grown

    def give_back(self, start: int) -> None:
        """Let others be written where something was taken at `start`."""
        self._free_list.give_back(start)


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT
