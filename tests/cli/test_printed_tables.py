"""Tables on terminals of every width and encoding: nothing is cut, broken or refused."""

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Cli, Finished
from rich.console import Console

from ensemble_eval.cli import run_command_line
from ensemble_eval.cli.output import print_in_any_encoding, print_sentence
from ensemble_eval.cli.tables import (
    fitting_columns,
    gain_text,
    print_table,
    print_table3,
    saved_text,
    table3_for_people,
)
from ensemble_eval.evaluation.finishing import Outcome
from ensemble_eval.paper.published import published_errors
from ensemble_eval.scoring.table3 import Gain, Row

# Intervals as wide as they come.
ROWS = [
    Row(1, 1, 1, 100.0, 0.0, 100.0, 6, 6, 6, 60.9666, 100.0),
    Row(1, 144, 144, 50.0, -50.0, 66.6667, 3, 4, 6, 18.7622, 81.2378),
    Row(7, 144, 1008, 0.0, -100.0, 16.6667, 0, 1, 6, 0.0, 39.0334),
]
PAPER = published_errors("googlenet", [], "")
OUTCOME = Outcome(ROWS, Gain(-100.0, -96.61, -3.19, -100.0), "größte", {}, 300, 700, Path("out/table3.csv"), PAPER)
TABLE = table3_for_people(OUTCOME)
HEADER, LINES = [column.title for column in TABLE.columns], TABLE.cells()
ALWAYS = [HEADER.index(title) for title in ("models", "crops", "top-5")]


def _cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


@pytest.mark.parametrize("width", range(20, 121))
def test_every_cell_is_whole_on_one_line_at_any_width(width: int) -> None:
    screen = io.StringIO()
    print_table3(OUTCOME, Console(width=width, force_terminal=True, color_system=None, file=screen))
    printed = screen.getvalue()
    *lines, last = printed.splitlines()
    assert last == "written to out/table3.csv"  # a path stays as it is, to be copied
    assert max(map(len, lines)) <= width
    if width < 22:
        # By hand: three columns of 6, 5 and 7 characters with four lines between them take 22.
        listed = printed.partition("models")[2].partition("last row")[0].split("\n\n")
        for block, cells in zip(listed, LINES, strict=False):
            assert all(re.search(rf"^(\S.* )?{re.escape(cell)}$", block, re.MULTILINE) for cell in cells[1:])
        return
    shown = _cells(printed)
    assert len(shown) == len(LINES)
    columns = [[cells[index] for cells in shown] for index in range(len(shown[0]))]
    everything = [list(column) for column in zip(*LINES, strict=True)]
    assert all(column in everything for column in columns)
    assert all(everything[index] in columns for index in ALWAYS)
    assert (columns == everything) == (width >= 66)  # by hand: 57 characters in cells and 9 lines


def test_what_is_counted_stands_above_the_table_and_marks_the_papers_column() -> None:
    screen = io.StringIO()
    counted = ("the first 8 of 12 images", "labels are ranked among 5 classes only")
    print_table3(replace(OUTCOME, counted=counted), Console(width=120, file=screen))
    assert screen.getvalue().splitlines()[:3] == [
        "Errors on 6 images, and the paper's top-5 (not comparable); one model is größte",
        *(f"counted: {phrase}" for phrase in counted),
    ]


def test_table_3_has_the_papers_column_and_marks_what_a_decided_run_does_not_know() -> None:
    rows = [*ROWS[:1], Row(7, 144, 1008, 6.67, -3.4, None, 3335, None, 50000, 6.4543, 6.8923)]
    table = table3_for_people(replace(OUTCOME, rows=rows))
    assert [[column.title for column in table.columns], *table.cells()] == [
        ["models", "crops", "cost", "top-5", "95% interval", "vs. base", "top-1", "paper"],
        ["1", "1", "1", "100.00%", "61.0 to 100.0%", "0.00", "100.00%", "10.07%"],
        ["7", "144", "1008", "6.67%", "6.5 to 6.9%", "-3.40", "–", "6.67%"],
    ]


def test_the_gain_is_one_sentence() -> None:
    assert gain_text(Gain(-3.4, -3.61, -3.19, -33.76)) == (
        "last row against the first: -3.40 points of top-5 error (-34% of the base's error); "
        "95% interval of the difference, paired by image: -3.61 to -3.19"
    )
    assert "base's" not in gain_text(Gain(0.0, -1.0, 1.0, None))


def test_the_passes_that_were_saved_are_one_sentence() -> None:
    assert saved_text(300, 700) == "300 passes decided the table; in full they would have been 1000 (30.0%)"


def test_what_has_no_room_is_named_and_nothing_else_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    dispensable = ["cost", ["paper_top5_error"]]
    print_table(Console(width=64), TABLE, dispensable)
    printed = capsys.readouterr().out
    assert printed.endswith("no room in 64 columns for: cost\n")
    assert _cells(printed)[0] == [cell for cell, title in zip(LINES[0], HEADER, strict=True) if title != "cost"]
    print_table(Console(width=120), TABLE, dispensable)
    printed = capsys.readouterr().out
    assert _cells(printed) == LINES
    assert "no room" not in printed


def test_blanks_go_before_columns_and_columns_in_their_order() -> None:
    # By hand: 3 cells of 4 characters, 4 lines between them, 6 blanks.
    assert fitting_columns([4, 4, 4], [(2,), (0,)], 22) == ([0, 1, 2], 1)
    assert fitting_columns([4, 4, 4], [(2,), (0,)], 21) == ([0, 1, 2], 0)
    assert fitting_columns([4, 4, 4], [(2,), (0,)], 15) == ([0, 1], 1)
    assert fitting_columns([4, 4, 4], [(2,), (0,)], 9) == ([1], 1)
    assert fitting_columns([4, 4, 4], [(2,), (0,)], 5) is None


@pytest.mark.parametrize("width", range(20, 121))
def test_sentences_break_between_words_and_never_within_an_interval(width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    print_sentence(
        console, "95% interval of the difference, paired by image: -96.61 to -3.19, 1,582,671,872 in all"
    )
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("-96.61 to -3.19," in line for line in lines)
    assert any("1,582,671,872" in line for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_table_3_is_printed_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stdout", stdout := io.TextIOWrapper(io.BytesIO(), encoding))
    print_in_any_encoding()
    print_table3(OUTCOME)
    stdout.seek(0)
    printed = stdout.read()
    assert "one model is " + ("gr\\xf6\\xdfte" if encoding == "ascii" else "größte") in printed
    assert "61.0 to 100.0%" in printed
    assert "95% interval of the difference, paired by image: -96.61 to -3.19" in printed
    if encoding == "ascii":
        assert re.search(r"\|\s+7 \|\s+144 \|\s+1008 \|", printed)


def test_every_command_speaks_ascii_where_nothing_else_can_be_shown(
    dataset: Path, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")

    def in_ascii(*arguments: object) -> Finished:
        """Run a command in this process; strict streams refuse what they cannot show."""
        streams = [io.TextIOWrapper(io.BytesIO(), "ascii") for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        monkeypatch.setattr(sys, "argv", ["ensemble-eval", *map(str, arguments)])
        code = run_command_line()
        for stream in streams:
            stream.seek(0)
        return Finished(code, *(stream.read() for stream in streams))

    ran = in_ascii("run", dataset, "--ensemble", ensemble, "--crops", 1, "--out", tmp_path / "größte")
    assert ran.code == 0, ran.err
    assert "2 models x 1 crops x 6 images on cpu" in ran.err
    assert f"written to {tmp_path}/gr\\xf6\\xdfte/table3.csv" in ran.out
    described = in_ascii("describe", "--width", "0.1")
    assert described.code == 0
    assert "112x112x" in described.out
    assert "!=" in described.out
    refused = in_ascii("run", "größte")
    assert refused.code == 2
    assert "gr\\xf6\\xdfte" in refused.err
    drawn = in_ascii("demo-data", tmp_path / "größe", "--split", "val", "--images", 1, "--workers", 1)
    assert drawn.out.endswith("/gr\\xf6\\xdfe.\n")


@pytest.mark.processes
@pytest.mark.parametrize(("words", "shown"), [("run --help", b"(python:...)"), ("größte", b"gr\\xf6\\xdfte")])
def test_a_started_command_speaks_ascii(words: str, shown: bytes) -> None:
    command = [sys.executable, "-m", "ensemble_eval", *words.split()]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1", "COLUMNS": "100"}
    finished = subprocess.run(command, capture_output=True, env=ascii_only, check=False, timeout=120)
    assert finished.returncode in (0, 2)
    assert shown in finished.stdout + finished.stderr
    assert (finished.stdout + finished.stderr).isascii()


def test_describe_never_cuts_a_figure(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (20, 30, 60, 90):
        monkeypatch.setenv("COLUMNS", str(width))
        finished = cli("describe")
        assert finished.code == 0
        assert "…" not in finished.out
        assert "2.7K" in finished.out
        assert "inception5b" in finished.out
