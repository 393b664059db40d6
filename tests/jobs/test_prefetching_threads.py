import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from ensemble_eval.jobs.prefetch import prefetched


def _joined() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("load_"):
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 5), (3, 0), (3, 1), (8, 20)])
def test_outcomes_come_in_order_whoever_is_done_first(threads: int, ahead: int) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.002 * (10 - number))
        return number * number

    expected = [number * number for number in range(10)]
    assert list(prefetched(slow_at_first, range(10), threads=threads, ahead=ahead)) == expected
    assert list(prefetched(slow_at_first, [], threads=threads, ahead=ahead)) == []
    _joined()


def test_what_the_function_raises_comes_in_its_place_and_ends_it() -> None:
    outcomes = prefetched(lambda number: 6 // (2 - number), range(9), threads=3, ahead=8)
    assert [next(outcomes), next(outcomes)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(outcomes)
    _joined()


def test_what_the_things_raise_comes_after_those_that_were_there() -> None:
    def two_things() -> Iterator[int]:
        yield from (1, 2)
        raise KeyError("third")

    outcomes = prefetched(str, two_things(), threads=2, ahead=8)
    assert [next(outcomes), next(outcomes)] == ["1", "2"]
    with pytest.raises(KeyError, match="third"):
        next(outcomes)
    _joined()


def _begun_after_one(threads: int, ahead: int, ahead_bytes: float) -> int:
    """How many are begun when one was taken and nobody asks for more."""
    begun: list[int] = []
    outcomes = prefetched(
        lambda number: begun.append(number) or number,  # type: ignore[func-returns-value]  # None is falsy
        range(100),
        threads=threads,
        ahead=ahead,
        ahead_bytes=ahead_bytes,
        bytes_of=lambda _: 10,
    )
    next(outcomes)
    # They go on by themselves, as far as they may.
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        time.sleep(0.01)
    outcomes.close()
    _joined()
    return len(begun)


def test_no_more_is_begun_than_may_be_ahead_in_number_and_bytes() -> None:
    assert _begun_after_one(2, 7, float("inf")) == 1 + 7
    # 50 bytes are five outcomes; each thread may have had one at hand when the last of them was ready.
    assert 1 + 5 <= _begun_after_one(2, 50, 50) <= 1 + 5 + 2
    # However large they are, no thread is idle.
    assert _begun_after_one(3, 50, 1) == 1 + 3
    assert _begun_after_one(3, 2, 1) == 1 + 2


@pytest.mark.processes
def test_a_program_ends_though_it_forgot_to_close() -> None:
    program = (
        "from ensemble_eval.jobs.prefetch import prefetched\n"
        "outcomes = prefetched(str, range(99), threads=3, ahead=2); print(next(outcomes))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
