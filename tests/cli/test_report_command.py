"""`ensemble-eval report` on the command line: what it prints, and how it says what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import CLASS_NAMES, member_key, run_key
from conftest import Cli

from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

pytestmark = pytest.mark.slow
IMAGES = 24


def write_run(out: Path, *, of_images: int = IMAGES) -> Path:
    """A run of two members whose scores are drawn."""
    rng = np.random.default_rng(0)
    key = run_key(images=of_images, scores=True, members=(member_key("a"), member_key("b")))
    scores = [
        ImageScores(
            f"{n:02}.png", n % len(CLASS_NAMES), {1: rng.dirichlet(np.ones(len(CLASS_NAMES)), 2)}, passes=2
        )
        for n in range(IMAGES)
    ]
    rows = [row for each in scores for row in rows_of(each, key, [each.label])]
    Store(out, RUN, key).write(Part(rows, [each.id for each in scores]))
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


def test_it_prints_what_may_be_claimed_and_where_the_page_is(run: Path, cli: Cli) -> None:
    done = cli("report", run)
    assert done.code == 0
    lines = done.out.splitlines()
    assert re.match(r"Two models with one crop make .* top-5 errors .* one model with one crop: ", lines[0])
    assert lines[-1] == f"written to {run / 'report' / 'report.html'}"
    assert "left out: The gallery of the hardest images needs the data set; name it with --data." in lines
    assert any("evaluate with --surface" in line for line in lines)


def test_options_reach_the_report(run: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    done = cli("report", run, "--out", out, "--margin", "7.5", "--no-gallery", "--no-paper", "--seed", "4")
    assert done.code == 0
    assert "--data" not in done.out
    assert "less than 7.5 points" in (out / "report.html").read_text()
    assert not (out / "table2.csv").exists()
    assert not (run / "elsewhere").exists()


def test_an_unfinished_run_needs_partial(cli: Cli, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", of_images=30)
    done = cli("report", run)
    assert done.code == 2
    assert "6 of 30 images" in done.err
    assert "or report on what is there with --partial" in done.err
    done = cli("report", run, "--partial", "--no-gallery")
    assert done.code == 0
    assert "images are missing; every table is marked as partial" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--margin", "0"), "--margin is more than 0 and less than 100 percentage points, not 0"),
        (
            ("--data", "nowhere"),
            "--data is not the data set that was evaluated: the data set nowhere does",
        ),
        (("--classes", "imagenet-1k"), "--classes names 1000 classes, and the run has 7"),
    ],
)
def test_bad_options_are_one_sentence(
    run: Path, cli: Cli, tmp_path: Path, options: tuple[str, str], said: str
) -> None:
    done = cli("report", run, "--out", tmp_path / "out", *options)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    done = cli("report", tmp_path)
    assert done.code == 2
    assert "holds no results yet" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.processes
def test_without_a_gallery_no_torch_is_loaded(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys, ensemble_eval as ee; "
        f"ee.read_results({str(run)!r}).report({str(tmp_path)!r}, gallery=False); "
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
