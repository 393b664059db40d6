"""The wheel that the Dockerfile builds, installed elsewhere: the library, every command, no default manifest."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from builders import all_commands, write_dataset, write_ensemble

from ensemble_eval import __version__

pytestmark = [pytest.mark.slow, pytest.mark.processes]

CLONE = Path(__file__).parents[1]
# pip asks no index for anything: what builds the wheel is in the environment already.
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what the Dockerfile copies, and so with no build folder left in the clone."""
    source = tmp_path_factory.mktemp("source")
    for name in _copied():
        if (CLONE / name).is_dir():
            shutil.copytree(CLONE / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CLONE / name, source)
    wheels = source / "wheels"
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, source], check=True)
    [path] = wheels.glob("*.whl")
    return path


def _instructions() -> list[list[str]]:
    """The words of each instruction of the Dockerfile."""
    text = (CLONE / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def _copied() -> list[str]:
    """What the Dockerfile copies from the clone."""
    copies = [words[1:-1] for words in _instructions() if words[0] == "COPY" and "--from" not in words[1]]
    return [name for names in copies for name in names]


def test_the_image_is_built_from_what_its_build_may_see_and_does_not_run_as_root() -> None:
    ignored, *seen, caches = (CLONE / ".dockerignore").read_text().splitlines()[1:]
    assert (ignored, caches) == ("*", "**/__pycache__")
    assert sorted(seen) == sorted(f"!{name}" for name in _copied())
    [(_, user)] = [words for words in _instructions() if words[0] == "USER"]
    assert int(user) > 0
    assert f"useradd --uid {user} " in (CLONE / "Dockerfile").read_text()
    assert ["ENTRYPOINT", '["ensemble-eval"]'] in _instructions()


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone in a folder of its own; what it needs is taken from the environment."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    return folder


def _python(elsewhere: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Python in an empty working directory, with the installed copy ahead of any other."""
    empty = elsewhere / "empty"
    empty.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(elsewhere / "site")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_every_module_and_its_data(wheel: Path) -> None:
    files = [path for path in (CLONE / "ensemble_eval").rglob("*") if path.is_file()]
    expected = {path.relative_to(CLONE).as_posix() for path in files if "__pycache__" not in path.parts}
    assert "ensemble_eval/py.typed" in expected
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in packed if ".dist-info/" not in name} == expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


def test_the_library_is_the_installed_one(elsewhere: Path) -> None:
    finished = _python(elsewhere, "-c", "import ensemble_eval as ee; print(ee.__file__, ee.__version__)")
    path, version = finished.stdout.split()
    assert Path(path).is_relative_to(elsewhere / "site")
    assert version == __version__


def test_help_names_every_command(elsewhere: Path) -> None:
    finished = _python(elsewhere, "-m", "ensemble_eval", "--help")
    assert finished.returncode == 0
    for name in all_commands():
        assert f"\n  {name} " in finished.stdout


def test_where_the_default_manifest_is_not_there_it_says_what_to_give(elsewhere: Path) -> None:
    finished = _python(elsewhere, "-m", "ensemble_eval", "check", "val")
    assert finished.returncode == 2
    assert "name your manifest or folder of checkpoints with --ensemble" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_it_evaluates(elsewhere: Path) -> None:
    dataset, manifest = write_dataset(elsewhere / "val"), write_ensemble(elsewhere / "mine")
    options = ("--crops", "1", "--backend", "torch", "--device", "cpu", "--out", elsewhere / "out")
    finished = _python(elsewhere, "-m", "ensemble_eval", "run", dataset, "--ensemble", manifest, *options)
    assert finished.returncode == 0, finished.stderr
    assert (elsewhere / "out" / "table3.csv").is_file()
