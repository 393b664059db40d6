"""What the pages name is there: commands, their options, make targets, modules, variables, files and headings."""

import contextlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from builders import all_commands
from pages import PAGES, PROJECT, command_lines, inline_code, name_of

from ensemble_eval.cli import cli as group
from ensemble_eval.cli.environment import unknown_variables

# Of torchrun, srun, sbatch, docker, git and pip.
OTHERS_OPTIONS = {
    *("--rdzv-id", "--rdzv-backend", "--rdzv-endpoint", "--nnodes", "--nproc-per-node", "--standalone"),
    *("--no-python", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--constraint", "--build-arg"),
}
COMMANDS = all_commands()
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=name_of)


def _arguments(words: list[str]) -> list[str] | None:
    """What stands after `ensemble-eval` or `-m ensemble_eval`; None in other commands."""
    for index, word in enumerate(words):
        if word == "ensemble-eval" or (word == "ensemble_eval" and words[index - 1] == "-m"):
            return words[index + 1 :]
    return None


def _parse(arguments: list[str]) -> None:
    """Parse, without running anything, as the command line does.

    Raises:
        click.ClickException: there is no such command or option, or a value or an argument is wrong.
    """
    name, *rest = arguments
    if name not in COMMANDS and not name.startswith("-"):
        raise click.UsageError(f"no such command: {name}")
    with contextlib.suppress(click.exceptions.Exit):  # of --help and --version
        if name in COMMANDS:
            parent = click.Context(group, info_name="ensemble-eval", **group.context_settings)
            COMMANDS[name].make_context(name, rest, parent)
        else:
            group.make_context("ensemble-eval", list(arguments))


@EVERY_PAGE
def test_every_command_line_parses(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for line in command_lines(page):
        arguments = _arguments(shlex.split(line, comments=True))
        if arguments is not None:
            try:
                _parse(arguments)
            except click.ClickException as error:
                pytest.fail(f"{line}: {error.format_message()}")


def test_command_lines_that_do_not_parse_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for line in ("runs val", "run val --crop-scheme 10", "run", "run val --precision int8", "run a b"):
        with pytest.raises(click.ClickException):
            _parse(line.split())


@EVERY_PAGE
def test_every_command_named_in_a_sentence_is_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    for code in inline_code(page):
        if code.startswith("ensemble-eval "):
            try:
                _parse(shlex.split(code)[1:])
            except click.MissingParameter:
                pass  # a sentence may leave out what does not matter to it
            except click.ClickException as error:
                pytest.fail(f"{code}: {error.format_message()}")


@EVERY_PAGE
def test_every_option_named_in_a_sentence_is_there(page: Path) -> None:
    options = [option for command in COMMANDS.values() for option in command.params]
    known = {"--help", "--version"}.union(*([*option.opts, *option.secondary_opts] for option in options))
    benchmarks = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "benchmarks").rglob("*.py"))
    for code in inline_code(page):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code):
            assert option in known | OTHERS_OPTIONS or f'"{option}"' in benchmarks, code


@EVERY_PAGE
def test_every_make_target_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in (*command_lines(page), *inline_code(page)):
        if match := re.match(r"make ([a-z-]+)", code):
            assert match[1] in targets, code


@EVERY_PAGE
def test_every_benchmark_is_there_with_its_options(page: Path) -> None:
    for code in (*command_lines(page), *inline_code(page)):
        for module in re.findall(r"-m (benchmarks[\w.]*)", code):
            assert importlib.util.find_spec(module), code
            source = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "benchmarks").rglob("*.py"))
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code):
                assert f'"{option}"' in source, code


@EVERY_PAGE
def test_every_variable_is_read(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"\bENSEMBLE_EVAL_[A-Z_]+[A-Z]\b", text)
    assert not list(unknown_variables(group, dict.fromkeys(names, "1")))


@EVERY_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if heading:
            assert heading in _headings(linked), target


@EVERY_PAGE
def test_every_file_of_the_project_that_is_named_is_there(page: Path) -> None:
    folders = "ensemble_eval|benchmarks|manifests|tests|docs|checkpoints"
    for code in (*command_lines(page), *inline_code(page)):
        for path in re.findall(rf"(?<![\w/.])(?:{folders})/[\w/.-]+\.(?:py|md|toml|png)\b", code):
            # What a documented command is to make need not be there.
            assert (PROJECT / path).exists() or "mine" in path, code


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    pages = [page for page in PAGES if f"ensemble-eval {name}" in page.read_text(encoding="utf-8")]
    assert pages, f"no page shows ensemble-eval {name}"
    assert f"ensemble-eval {name}" in (PROJECT / "README.md").read_text(encoding="utf-8")


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_page_on_architecture_lists_the_packages_in_the_order_of_their_contract() -> None:
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [name for layer in contract["contracts"][0]["layers"][::-1] for name in layer.split(" | ")]
    packages = [name for name in layers if (PROJECT / "ensemble_eval" / name).is_dir()]
    page = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page.partition("\n## ")[0], re.MULTILINE) == packages


def test_every_module_that_the_page_on_architecture_names_is_there() -> None:
    named = [code for code in inline_code(PROJECT / "docs" / "architecture.md") if code.endswith(".py")]
    assert not [code for code in named if not (PROJECT / "ensemble_eval" / code).is_file()]
    assert len(named) > 20
