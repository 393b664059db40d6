"""Variables of the environment that were meant to be options."""

import click
import pytest
from builders import all_commands
from conftest import Cli

from ensemble_eval.cli import cli as group
from ensemble_eval.cli.environment import unknown_variables


def _warnings(**environment: str) -> list[str]:
    return list(unknown_variables(group, environment))


def test_a_mistyped_variable_is_told_with_the_nearest_that_is_read() -> None:
    assert _warnings(ENSEMBLE_EVAL_RUN_BATCHSIZE="8", ENSEMBLE_EVAL_DEMODATA_SEED="1") == [
        "ENSEMBLE_EVAL_DEMODATA_SEED has no effect, no option has that name; the nearest is "
        "ENSEMBLE_EVAL_DEMO_DATA_SEED",
        "ENSEMBLE_EVAL_RUN_BATCHSIZE has no effect, no option has that name; the nearest is "
        "ENSEMBLE_EVAL_RUN_BATCH_SIZE",
    ]


def test_an_option_that_is_never_read_from_the_environment_is_told_as_that() -> None:
    [warning] = _warnings(ENSEMBLE_EVAL_RUN_FRESH="1")
    assert warning == "ENSEMBLE_EVAL_RUN_FRESH has no effect: --fresh must be given on the command line"


def test_what_something_reads_and_what_is_not_ours_is_not_warned_of() -> None:
    ours = ("RUN_CROPS", "SUBMIT_GPUS_PER_NODE", "DEMO_DATA_SEED", "TRAIN_DEVICE", "PARENT")
    assert not _warnings(**{f"ENSEMBLE_EVAL_{name}": "1" for name in ours})
    assert not _warnings(_ENSEMBLE_EVAL_COMPLETE="bash_source", ENSEMBLE_EVALUATION="1", ENSEMBLE="1")


@pytest.mark.parametrize("command", ["run", "check", "submit", "demo-data", "train"])
def test_the_known_variables_are_those_that_click_reads(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An impossible value in each of them is seen by click."""
    required = ["--split=val"] if command == "demo-data" else []
    for parameter in all_commands()[command].params:
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            name = f"ENSEMBLE_EVAL_{command.replace('-', '_').upper()}_{(parameter.name or '').upper()}"
            assert not _warnings(**{name: "x"})
            monkeypatch.setenv(name, "x")
            with pytest.raises(click.BadParameter):
                group.main([command, "x", *required], standalone_mode=False)
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("launcher", "speaks"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, False),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "ENSEMBLE_EVAL_PARENT": "42"}, False),
        ({"WORLD_SIZE": "2"}, True),
    ],
)
def test_of_several_processes_one_warns(launcher: dict[str, str], speaks: bool) -> None:
    assert len(_warnings(ENSEMBLE_EVAL_RUN_CROP="1", **launcher)) == speaks


def test_the_command_line_warns_on_stderr(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSEMBLE_EVAL_DESCRIBE_WIDHT", "0.5")
    finished = cli("describe", "--width", "0.1")
    assert finished.code == 0
    assert finished.err == (
        "warning: ENSEMBLE_EVAL_DESCRIBE_WIDHT has no effect, no option has that name; the nearest is "
        "ENSEMBLE_EVAL_DESCRIBE_WIDTH\n"
    )
