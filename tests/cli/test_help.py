import subprocess
import sys

import click
import pytest
from conftest import Cli

from ensemble_eval import __version__
from ensemble_eval.cli import cli as group
from ensemble_eval.settings import BACKENDS, PRECISIONS

COMMANDS = sorted(group.commands)

ASK_ALL = """
import sys
from ensemble_eval.cli import cli, main
for arguments in [[], *([name] for name in cli.commands)]:
    sys.argv = ["ensemble-eval", *arguments, "--help"]
    try:
        main()
    except SystemExit as stopped:
        assert stopped.code == 0
print("loaded:", *sorted({"torch", "torchvision", "pandas", "pyarrow", "numpy", "rich"} & set(sys.modules)))
"""


def test_asking_for_help_loads_nothing_heavy() -> None:
    finished = subprocess.run([sys.executable, "-c", ASK_ALL], capture_output=True, text=True, check=True)
    assert finished.stdout.count("Usage: ensemble-eval") == 1 + len(COMMANDS)
    assert finished.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = group.commands[name]
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_contracts_commands_are_there() -> None:
    assert {"run", "check", "crops", "describe"} <= set(COMMANDS)


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == f"ensemble-eval, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["no-such-command"], ["run"], ["run", "--no-such-option", "x"], ["run", "x", "--precision", "int8"]],
)
def test_wrong_usage_is_explained_with_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    finished = cli(*arguments)
    assert finished.code == 2
    assert "Usage: ensemble-eval" in finished.err
    assert "Error: " in finished.err


@pytest.mark.parametrize(("option", "known"), [("backend", ("auto", *BACKENDS)), ("precision", PRECISIONS)])
def test_what_can_be_chosen_is_what_there_is(option: str, known: tuple[str, ...]) -> None:
    """Stated twice, because the command line must not import what knows."""
    [parameter] = [each for each in group.commands["run"].params if each.name == option]
    assert isinstance(parameter.type, click.Choice)
    assert sorted(parameter.type.choices) == sorted(known)
