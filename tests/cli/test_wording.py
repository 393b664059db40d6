"""Errors of the library speak of arguments; the command line says them as its options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from builders import all_commands
from conftest import Cli

import ensemble_eval
from ensemble_eval.cli.wording import in_options

PACKAGE = Path(ensemble_eval.__file__).parent
RUN, TRAIN, SUBMIT, MERGE = (all_commands()[name] for name in ("run", "train", "submit", "merge"))


@pytest.mark.parametrize(
    ("commands", "text", "said"),
    [
        ([RUN], "`batch_size` is at least 1, not 0", "--batch-size is at least 1, not 0"),
        ([RUN], 'choose `precision="float32"`', "choose --precision float32"),
        ([RUN], "add `trust_python=True`", "add --trust-python"),
        ([RUN], "start over with `fresh=True`", "start over with --fresh"),
        ([RUN], "leave out `fresh=False`", "leave out fresh=False"),
        ([RUN], "leave out `store_scores=True`", "leave out --scores all"),
        ([RUN], "`store_scores=False` or `store_scores`", "--scores none or --scores"),
        ([RUN], "`until_decided=True` knows no scores", "--until-decided knows no scores"),
        ([RUN], "`timeout=9` is longer than `save_every=2.5`", "--timeout 9 is longer than --save-every 2.5"),
        ([RUN], "give `dataset` another folder", "give DATASET another folder"),
        ([RUN], 'no `time=""` here, `no option` and `Item.read()`', 'no time="" here, no option and Item.read()'),
        ([SUBMIT, RUN], '`time=""` is no limit', "--time  is no limit"),
        ([SUBMIT, RUN], "use `dry_run=True`", "use --dry-run"),
        ([RUN], "use `dry_run=True`", "use dry_run=True"),
        (
            [TRAIN, RUN],
            "`config` and another `out`, at least `crops=10`",
            "CONFIG and another --out, at least --crops 10",
        ),
        ([MERGE, RUN], "within `save_every` seconds", "within --save-every seconds"),
        ([], "`out` stays as it is", "out stays as it is"),
    ],
)
def test_arguments_are_said_as_options_of_the_command(commands: list[click.Command], text: str, said: str) -> None:
    assert in_options(text, *commands) == said


def test_an_error_and_a_warning_of_the_library_name_options(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("run", dataset, "--ensemble", ensemble, "--out", tmp_path / "out", "--crops", "1")
    assert cli(*arguments, "--workers", "0").err == "error: --workers is a whole number of at least 1, not 0\n"
    assert "a smaller --batch-size wastes less" in cli(*arguments, "--batch-size", "32").err
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    assert cli(*arguments, "--fresh").err.startswith("error: rank 0: --fresh could remove")


def _literals(tree: ast.AST) -> Iterator[str]:
    """Every text of a module that is no docstring, with `0` where a value is formatted into it."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(map(id, node.values))
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | parts:
            yield node.value


def _texts(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    if path.name not in ("slurm.py", "kubernetes.py"):
        return list(_literals(tree))
    # Their other texts are commands, which have options of their own.
    return [text for node in ast.walk(tree) if isinstance(node, ast.Raise) for text in _literals(node)]


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_message_below_the_command_line_speaks_of_options(path: Path) -> None:
    texts = _texts(path)
    assert [text for text in texts if re.search(r"(?<![\w-])--[a-z][a-z-]*", text)] == []
    said = [in_options(text, *all_commands().values()) for text in texts]
    assert [text for text in said if "`" in text] == []
