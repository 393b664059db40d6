"""Watching the ranks of a run by what they have stored, and naming those that came to a halt."""

import time
from collections.abc import Callable, Collection, Sequence

from ensemble_eval.errors import LateRanksError

_NAMED_IMAGES = 3


class Watch:
    """Remembers when each rank last stored something.

    Args:
        shards: the image ids of each rank.
        timeout: seconds without anything new after which a rank is late.
        clock: seconds, monotonic.
    """

    def __init__(
        self, shards: Sequence[Collection[str]], timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._missing = [set(shard) for shard in shards]
        self._timeout = timeout
        self._clock = clock
        self._moved = [clock()] * len(shards)

    def update(self, accounted: Collection[str]) -> bool:
        """Take note of all images that are accounted for; tells whether these are all that were dealt.

        Raises:
            LateRanksError: ranks have stored nothing for too long; they and their images are named.
        """
        now = self._clock()
        for rank, missing in enumerate(self._missing):
            before = len(missing)
            missing.difference_update(accounted)
            if len(missing) < before:
                self._moved[rank] = now
        late = [
            rank
            for rank, missing in enumerate(self._missing)
            if missing and now - self._moved[rank] > self._timeout
        ]
        if late:
            raise LateRanksError("; ".join(self._sentence(rank) for rank in late))
        return not any(self._missing)

    def _sentence(self, rank: int) -> str:
        missing = sorted(self._missing[rank])
        more = ", …" if len(missing) > _NAMED_IMAGES else ""
        return (
            f"rank {rank} of {len(self._missing)} has stored nothing for {self._timeout:.0f} s and still has "
            f"{len(missing)} images to do ({', '.join(missing[:_NAMED_IMAGES])}{more})"
        )
