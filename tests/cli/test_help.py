import re
import shlex
import subprocess
import sys
import textwrap

import click
import pytest
from builders import all_commands
from click.testing import CliRunner
from conftest import Cli

from ensemble_eval import __version__
from ensemble_eval.cli import cli as group
from ensemble_eval.settings import BACKENDS, PRECISIONS

COMMANDS = sorted(all_commands())

ASK_ALL = """
import sys
from ensemble_eval.cli import cli, main
for arguments in [[], *([name] for name in cli.list_commands(None))]:
    sys.argv = ["ensemble-eval", *arguments, "--help"]
    try:
        main()
    except SystemExit as stopped:
        assert stopped.code == 0
heavy = {"torch", "torchvision", "pandas", "pyarrow", "numpy", "rich", "tarfile"}
print("loaded:", *sorted(heavy & set(sys.modules)))
"""


def test_only_the_command_that_is_called_is_imported() -> None:
    ask = "import sys; from ensemble_eval.cli import cli; cli.main(['--help'], standalone_mode=False)"
    list_modules = "print([name for name in sys.modules if name.startswith('ensemble_eval.cli.')])"
    command = [sys.executable, "-c", f"{ask}; {list_modules}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "'ensemble_eval.cli.output'" in finished.stdout
    assert "'ensemble_eval.cli.run'" not in finished.stdout


def test_asking_for_help_loads_nothing_heavy() -> None:
    finished = subprocess.run([sys.executable, "-c", ASK_ALL], capture_output=True, text=True, check=True)
    assert finished.stdout.count("Usage: ensemble-eval") == 1 + len(COMMANDS)
    assert finished.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = all_commands()[name]
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_every_command_are_some_that_it_takes(name: str) -> None:
    command = all_commands()[name]
    text = CliRunner().invoke(group, [name, "--help"], terminal_width=80).output
    assert command.epilog
    assert f"Example:\n{textwrap.indent(command.epilog, '  ')}\n" in text
    assert max(map(len, text.splitlines())) <= 80
    for example in command.epilog.replace("\\\n", "").splitlines():
        program, named, *words = shlex.split(example)
        assert (program, named) == ("ensemble-eval", name)
        # Parsing refuses unknown options, values of another type, and words that are missing or too many.
        command.make_context(name, words)


def test_the_options_of_run_stand_in_groups_after_the_three_that_everybody_needs() -> None:
    text = CliRunner().invoke(group, ["run", "--help"], terminal_width=80).output
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    sections = ["Options:", "Data:", "Ensemble and crops:", "Speed:", "Output:", "Distribution:", "Example:"]
    assert titles == sections
    first = text.split("Options:\n")[1].split("Data:")[0]
    assert re.findall(r"^  (-\S+)", first, re.MULTILINE) == ["--ensemble", "--crops", "--out", "-h,"]


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
    [parameter] = [each for each in all_commands()["run"].params if each.name == option]
    assert isinstance(parameter.type, click.Choice)
    assert sorted(parameter.type.choices) == sorted(known)
