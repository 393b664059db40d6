"""What `--help` says of every command, to the letter. `make golden` writes the expected texts anew."""

import os
from pathlib import Path

import pytest
from builders import all_commands
from click.testing import CliRunner

from ensemble_eval.cli import cli as group

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = ("ensemble-eval", *sorted(all_commands()))


def _help(name: str) -> str:
    words = [] if name == "ensemble-eval" else [name]
    finished = CliRunner().invoke(group, [*words, "--help"], prog_name="ensemble-eval", terminal_width=80)
    assert finished.exit_code == 0
    return finished.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_text_is_the_expected_one(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("RENEW_GOLDEN"):
        path.write_text(_help(name), encoding="utf-8")
    assert path.is_file(), "there is no expected text; look at `ensemble-eval --help` and run `make golden`"
    assert _help(name) == path.read_text(encoding="utf-8")


def test_every_expected_text_belongs_to_a_command() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(COMMANDS)
