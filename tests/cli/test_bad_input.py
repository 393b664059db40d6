"""Whatever a user can get wrong: one sentence that says what to do, exit code 2, and nothing written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders import CLASS_NAMES, TINY, tiny_network, write_dataset
from conftest import Cli, Finished
from safetensors.torch import load_file, save_file

from ensemble_eval.errors import InputError
from ensemble_eval.settings import RunSettings


@pytest.fixture
def mine(ensemble: Path, tmp_path: Path) -> Path:
    """A copy of the tiny ensemble's folder, to be spoilt."""
    folder = tmp_path / "mine"
    shutil.copytree(ensemble.parent, folder)
    return folder


def _assert_refused(finished: Finished, out: Path, *sentences: str) -> None:
    assert finished.code == 2
    assert finished.out == ""
    assert finished.err.count("\n") == 1
    assert finished.err.startswith("error: ")
    for sentence in sentences:
        assert sentence in finished.err
    assert not out.exists()


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--models", "3"], "3 models were asked for and"),
        (["--models", "0"], "choose --models from 1 to 2"),
        (["--crops", "12"], "there is no scheme of 12 crops in googlenet; choose one of 1, 10, 144"),
        (["--device", "gpu"], "--device is auto, cpu, cuda or cuda:N, not 'gpu'"),
        (["--device", "meta"], "--device is auto, cpu, cuda or cuda:N, not 'meta'"),
        (["--batch-size", "0"], "--batch-size is a whole number of at least 1, not 0"),
        (["--workers", "0"], "--workers is a whole number of at least 1, not 0"),
        (["--sample", "3", "--seed", "-1"], "--seed is a whole number of at least 0, not -1"),
        (["--labels", "no.csv"], "no.csv cannot be read (No such file or directory); check the path"),
        (["--ensemble", "no.toml"], "no.toml cannot be read (No such file or directory); check the path"),
    ],
)
def test_impossible_options(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, command: str, options: list[str], sentence: str
) -> None:
    finished = cli(command, dataset, "--ensemble", ensemble, "--out", tmp_path / "out", *options)
    _assert_refused(finished, tmp_path / "out", sentence)


def test_cuda_where_there_is_none(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finished = cli("run", dataset, "--ensemble", ensemble, "--out", tmp_path / "out", "--device", "cuda")
    _assert_refused(finished, tmp_path / "out", "this machine has no usable CUDA device; choose --device cpu")


def test_no_default_ensemble(cli: Cli, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = "there is no manifests/default.toml in this folder (it is part of a clone of the repository); "
    for command in ("run", "check", "submit"):
        refused = cli(command, dataset)
        _assert_refused(refused, tmp_path / "results", sentence, "folder of checkpoints with --ensemble")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["timeout", "save_every"])
def test_what_is_no_number_of_seconds(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    option = f"--{name.replace('_', '-')}"
    sentence = f"{option} is a number of seconds, not {value}"
    arguments = ("run", dataset, "--ensemble", ensemble, "--out", tmp_path / "out")
    _assert_refused(cli(*arguments, option, value), tmp_path / "out", sentence)
    monkeypatch.setenv(f"ENSEMBLE_EVAL_RUN_{name.upper()}", value)
    _assert_refused(cli(*arguments), tmp_path / "out", sentence)
    timeout, save_every = (float(value) if name == each else 9.0 for each in ("timeout", "save_every"))
    with pytest.raises(InputError, match=f"`{name}` is a number of seconds, not {value}"):
        RunSettings(dataset=dataset, ensemble=ensemble, timeout=timeout, save_every=save_every)


def _no_folder(root: Path) -> None:
    assert not root.exists()


def _empty(root: Path) -> None:
    root.mkdir()


def _flat(root: Path) -> None:
    root.mkdir()
    (root / "a.png").write_bytes(b"")


def _other_classes(root: Path) -> None:
    write_dataset(root, [(8, 8)])
    (root / "ant").rename(root / "cow")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_no_folder, "does not exist; give the folder that holds the images"),
        (_empty, "holds no images in class folders"),
        (_flat, "or --labels for a flat one"),
        (_other_classes, "1 folders are not among the ensemble's 7 classes (cow"),
    ],
)
def test_unusable_data_sets(
    cli: Cli, ensemble: Path, tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path / "val")
    finished = cli("run", tmp_path / "val", "--ensemble", ensemble, "--out", tmp_path / "out")
    _assert_refused(finished, tmp_path / "out", str(tmp_path / "val"), sentence)


def test_labels_that_do_not_match(cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\nant/00.png,0\n")
    finished = cli("run", dataset, "--ensemble", ensemble, "--labels", labels, "--out", tmp_path / "out")
    _assert_refused(
        finished, tmp_path / "out", "5 images have no label in ", "(bee/01.png, cat/02.png, dog/03.png"
    )


def _spoil_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        state_dict = load_file(folder / "b.safetensors")
        change(state_dict)
        save_file(state_dict, folder / "b.safetensors")

    return spoil


def _delete(folder: Path) -> None:
    (folder / "b.safetensors").unlink()


def _truncate(folder: Path) -> None:
    data = (folder / "b.safetensors").read_bytes()
    (folder / "b.safetensors").write_bytes(data[: len(data) // 2])


def _wider(folder: Path) -> None:
    save_file(tiny_network(width=2 * TINY).state_dict(), folder / "b.safetensors")


@pytest.mark.parametrize(
    ("spoil", "sentences"),
    [
        (_delete, ["b.safetensors do not exist; check the path in the manifest"]),
        (_truncate, ["b.safetensors are damaged or truncated", "get the file again"]),
        (_wider, ["member b: ", "has the shape (6,", "with these options and classes needs (3,", "check options"]),
        (
            _spoil_weights(lambda weights: weights.update({"fc.bias": torch.zeros(1000)})),
            ["member b: ", "fc.bias has the shape (1000,)", "needs (7,); check options and classes"],
        ),
        (
            _spoil_weights(lambda weights: weights.update({"fc.scale": torch.ones(1)})),
            ["member b: ", "has 1 keys that googlenet does not have: fc.scale"],
        ),
        (
            _spoil_weights(lambda weights: weights.pop("fc.bias")),
            ["member b: ", "lacks 1 of the keys of googlenet: fc.bias"],
        ),
        (
            _spoil_weights(lambda weights: weights["fc.bias"].fill_(float("nan"))),
            ["member b: ", "fc.bias holds NaN or infinity"],
        ),
    ],
    ids=["missing", "truncated", "shape", "classes", "unexpected", "lacking", "nan"],
)
def test_unusable_weights(
    cli: Cli,
    dataset: Path,
    mine: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    sentences: list[str],
) -> None:
    spoil(mine)
    finished = cli("run", dataset, "--ensemble", mine / "ensemble.toml", "--out", tmp_path / "out")
    _assert_refused(finished, tmp_path / "out", *sentences)


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._marker}",)


def test_weights_that_want_to_run_code(cli: Cli, dataset: Path, mine: Path, tmp_path: Path) -> None:
    torch.save({"fc.bias": _Malicious(tmp_path / "marker")}, mine / "b.safetensors")
    finished = cli("run", dataset, "--ensemble", mine / "ensemble.toml", "--out", tmp_path / "out")
    _assert_refused(finished, tmp_path / "out", "hold more than tensors", "nothing in them was run")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "b"', 'name = "b"\nsha256 = "' + 64 * "0" + '"', "have the SHA-256 "),
        ('name = "b"', 'name = "b"\ncolour = 1', "member 2: unknown field 'colour'; remove it or fix its name"),
        ('name = "b"\n', "", "member 2: the field 'name' is missing; add it"),
        ('name = "b"', 'name = "a"', "two members are named 'a'"),
        ("b.safetensors", "../no.safetensors", "no.safetensors do not exist; check the path in the manifest"),
        ('classes = "classes.txt"', 'classes = "no.txt"', "no.txt cannot be read (No such file or directory)"),
        ('arch = "googlenet"', 'arch = "resnet"', "unknown architecture 'resnet'; known are googlenet, "),
        (
            'arch = "googlenet"',
            'arch = "python:os:abort"',
            "runs installed code (python:os:abort); add --trust-python",
        ),
        ("width = ", "depth = ", "googlenet: unknown option 'depth'; known are width"),
        ("[[members]]", "[[members", "is not valid TOML"),
    ],
)
def test_unusable_manifests(
    cli: Cli, dataset: Path, mine: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    manifest = mine / "ensemble.toml"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    finished = cli("run", dataset, "--ensemble", manifest, "--out", tmp_path / "out")
    _assert_refused(finished, tmp_path / "out", sentence)


@pytest.mark.parametrize("options", [[], ["--fresh"]])
def test_an_output_folder_that_is_a_file(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    finished = cli("run", dataset, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out", *options)
    assert finished.code == 2
    assert "Traceback" not in finished.err
    assert (tmp_path / "out").read_text() == "mine"


def _unwritable(tmp_path: Path) -> list[Path]:
    """Folders that no permission makes writable: root runs tests too."""
    (tmp_path / "file").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "predictions").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    folders = [tmp_path / name for name in ("file/out", "file/a/b", "results", "dangling")]
    return [*folders, *(Path(mount, "out") for mount in ("/proc", "/sys") if Path(mount).is_dir())]


@pytest.mark.slow
def test_check_finds_out_that_the_output_folder_takes_no_files(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    unwritable = _unwritable(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for out in unwritable:
        refused = cli("check", dataset, "--ensemble", ensemble, "--crops", "1", "--out", out)
        assert (refused.code, refused.out) == (2, ""), out
        assert re.fullmatch(
            rf"error: {out}/predictions takes no files \(.+\); free space or choose another folder\n", refused.err
        )
    assert sorted(tmp_path.rglob("*")) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_output_folder_of_another_run_is_left_as_it_is(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    arguments = ("run", dataset, "--ensemble", ensemble, "--out", tmp_path / "out")
    assert cli(*arguments, "--crops", "1").code == 0
    before = _contents(tmp_path / "out")
    finished = cli(*arguments, "--crops", "10")
    assert finished.code == 2
    assert "another run" in finished.err
    assert "crops 1, now 10" in finished.err
    assert "choose another --out, or run with --fresh" in finished.err
    assert _contents(tmp_path / "out") == before


def test_a_table_of_somebody_else_is_not_overwritten(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    (tmp_path / "table3.csv").write_text("mine")
    finished = cli("run", dataset, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path)
    assert finished.code == 2
    assert "holds a table3.csv without its run.json" in finished.err
    assert (tmp_path / "table3.csv").read_text() == "mine"


def test_all_images_unreadable(cli: Cli, ensemble: Path, tmp_path: Path) -> None:
    folder = tmp_path / "val" / CLASS_NAMES[0]
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"not an image")
    finished = cli("run", tmp_path / "val", "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out")
    assert finished.code == 2
    assert finished.err.splitlines()[-1].startswith("error: none of the images could be read; ")
    assert not (tmp_path / "out" / "table3.csv").exists()
    unreadable = (tmp_path / "out" / "unreadable.csv").read_text()
    assert unreadable == "image,reason\nant/a.png,not an image of a known format\n"


NO_UTF8 = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("run", "val", "--out", "größe"), "--out"),
        (("submit", "val", "--out", "größe"), "--out"),
        (("propose", "größe"), "DATASET"),
        (("check", "val", "--labels", "größe.csv"), "--labels"),
        (("report", "größe"), "RUN"),
        (("inspect", "größe"), "FILE"),
        (("crops", "größe.png"), "IMAGE"),
    ],
)
def test_a_path_that_the_locale_cannot_write_is_refused(
    words: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ensemble_eval", *words],
        env=NO_UTF8,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(
        rb"error: %b is '.*', which cannot be written in this locale \(\S+\); set PYTHONUTF8=1\n" % named.encode(),
        done.stderr,
    ), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_empty_path_is_not_the_folder_that_one_is_in(cli: Cli, dataset: Path, ensemble: Path) -> None:
    refused = cli("run", dataset, "--ensemble", ensemble, "--out", "")
    assert (refused.code, refused.err) == (2, "error: --out is a path, not ''\n")
