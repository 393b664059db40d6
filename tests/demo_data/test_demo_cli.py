import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from ensemble_eval.cli.demo_data import demo_data
from ensemble_eval.cli.progress import progress_updates
from ensemble_eval.errors import InputError


def _invoke(directory: Path, *options: str) -> Result:
    return CliRunner().invoke(demo_data, [str(directory), "--split", "val", "--seed", "4", *options])


def test_it_draws_completes_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    directory = tmp_path / "val"
    options = ("--images", "4", "--workers", "1")
    assert _invoke(directory, *options).stdout == f"Drew 4 pictures into {directory}.\n"
    next(directory.glob("*/*.JPEG")).unlink()
    assert (
        _invoke(directory, *options).stdout == f"{directory} already held 3 of these pictures; drew the other 1.\n"
    )
    assert _invoke(directory, *options).stdout == (
        f"{directory} already holds all 4 pictures of this data set; nothing to draw.\n"
    )


def test_the_end_is_a_plain_line_where_there_is_no_terminal(tmp_path: Path) -> None:
    lines = _invoke(tmp_path, "--images", "20", "--workers", "1").stderr.splitlines()
    assert lines[-1] == "20/20 pictures, 0:00:00 left"


def test_progress_is_a_bar_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with progress_updates(console, 5, units="pictures") as update:
        update(5)
    assert isinstance(console.file, io.StringIO)
    assert "pictures" in console.file.getvalue()
    assert "5/5" in console.file.getvalue()


def test_bad_input_is_an_input_error_with_exit_code_2(tmp_path: Path) -> None:
    error = _invoke(tmp_path, "--images", "0").exception
    assert isinstance(error, InputError)
    assert error.exit_code == 2


@pytest.mark.parametrize("option", ["--split", "--images", "--seed", "--workers"])
def test_every_option_is_explained(option: str) -> None:
    assert option in CliRunner().invoke(demo_data, ["--help"]).stdout
