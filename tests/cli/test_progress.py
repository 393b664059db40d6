import io
import re
from collections.abc import Iterator

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
