import pytest

from ensemble_eval.errors import LateRanksError
from ensemble_eval.jobs.runner import Watch


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tells_when_the_whole_shard_is_there() -> None:
    watch = Watch([{"a", "b"}, {"c"}, set()], timeout=10)
    assert not watch.update({"a"})
    assert not watch.update({"a", "b"})
    assert watch.update({"a", "b", "c", "of another start"})


def test_names_the_rank_that_came_to_a_halt_and_its_images() -> None:
    clock = Clock()
    watch = Watch([{"a", "b"}, {"c", "d", "e", "f"}], timeout=10, clock=clock)
    clock.now = 9
    watch.update({"a"})
    clock.now = 11
    with pytest.raises(
        LateRanksError, match=r"rank 1 of 2 has stored nothing for 10 s .* 4 images to do \(c, d, e, …\)"
    ) as error:
        watch.update({"a"})
    assert "rank 0" not in str(error.value)


def test_a_rank_that_is_through_is_never_late() -> None:
    clock = Clock()
    watch = Watch([{"a"}, {"b"}], timeout=10, clock=clock)
    watch.update({"a"})
    clock.now = 5
    watch.update({"a", "b"})
    clock.now = 100
    assert watch.update({"a", "b"})
