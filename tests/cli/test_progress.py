import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from ensemble_eval.cli.progress import PlainLines, progress_updates


def test_a_terminal_gets_a_bar_with_images_pace_and_time_left() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with progress_updates(console, total=8, start=2) as update:
        update(5, 700)
    drawn = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "\n", screen.getvalue())
    last = [line for line in drawn.splitlines() if line.strip()][-1]
    assert re.search(r"^images .* 5/8 \d+ crops/s (-:--:--|\d+:\d\d:\d\d)\s*$", last)


def test_elsewhere_plain_lines_come_now_and_then_and_at_the_end() -> None:
    times: Iterator[float] = iter([100.0, 104.0, 110.0, 115.0, 120.0])
    log = io.StringIO()
    lines = PlainLines(Console(file=log, width=100), total=12, start=2, clock=lambda: next(times))
    for done, passes in ((3, 500), (7, 2500), (9, 3500), (12, 5000)):
        lines.update(done, passes)
    # By hand: 5 images in 10 s leave 10 s for 5 more; the third call comes too soon after the second.
    assert log.getvalue() == "7/12 images, 250 crops/s, 0:00:10 left\n12/12 images, 250 crops/s, 0:00:00 left\n"


def _lines(total: int, start: int, updates: list[tuple[float, int, int]]) -> list[str]:
    """What is printed of updates (seconds, images done, passes) of a run that began at 0 seconds."""
    times = iter([0.0, *(now for now, _, _ in updates)])
    log = io.StringIO()
    lines = PlainLines(Console(file=log, width=100), total, start, clock=lambda: next(times))
    for _, done, passes in updates:
        lines.update(done, passes)
    return log.getvalue().splitlines()


@pytest.mark.parametrize("start", [0, 7])
def test_no_time_is_invented_while_nothing_is_done(start: int) -> None:
    assert _lines(50_000, start, [(10.0, start, 0)]) == [f"{start}/50000 images, time left not known yet"]


def test_the_time_left_follows_from_what_is_stored_and_how_old_that_is() -> None:
    """By hand: 20 images in 40 s leave 120 s for 60 more, of which 10 and 20 have passed already."""
    stored = [(40.0, 20, 4000), (50.0, 20, 4000), (60.0, 20, 4000), (100.0, 40, 8000)]
    assert _lines(80, 0, stored) == [
        "20/80 images, 100 crops/s, 0:02:00 left",
        "20/80 images, 100 crops/s, 0:01:50 left",
        "20/80 images, 100 crops/s, 0:01:40 left",
        "40/80 images, 80 crops/s, 0:01:40 left",
    ]


def test_work_that_is_overdue_is_told_as_that() -> None:
    assert _lines(12, 2, [(10.0, 10, 800), (15.0, 10, 800), (25.0, 10, 800)])[1:] == [
        "10/12 images, 80 crops/s, nothing new for 0:00:15"
    ]


def test_the_last_line_comes_once_while_ranks_leave() -> None:
    last = [(40.0, 80, 4000), (41.0, 80, 4000), (55.0, 80, 4000)]
    assert _lines(80, 0, last) == ["80/80 images, 100 crops/s, 0:00:00 left"]


def test_the_bar_tells_no_time_either_before_anything_is_done() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with progress_updates(console, total=8, start=2) as update:
        update(2, 0)
        update(2, 0)
    drawn = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "\n", screen.getvalue())
    last = [line for line in drawn.splitlines() if line.strip()][-1]
    assert re.search(r"^images .* 2/8\s+-:--:--\s*$", last)
