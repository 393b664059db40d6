"""Errors under other labels, from stored best classes: against runs that were evaluated with these labels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from scipy import stats
from simulated_runs import decided_run, simulated_scores, stored_run

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError, UnavailableError
from ensemble_eval.reports.api import Results
from ensemble_eval.results.analyses import analyse
from ensemble_eval.results.label_sets import label_table

SCORES = [
    replace(each, id=f"ILSVRC2012_val_{number:08}.png") for number, each in enumerate(simulated_scores(50, 3), 1)
]
# None, one or two labels for each image, of which the first is that of the run.
SEVERAL = [[(each.label + shift) % 7 for shift in range(number % 3)] for number, each in enumerate(SCORES)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return stored_run(tmp_path_factory.mktemp("run"), SCORES, keeps_scores=False)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    (tmp_path / "real.json").write_text(json.dumps(SEVERAL))
    return tmp_path / "real.json"


def test_each_label_set_gives_the_table_of_a_run_with_these_labels(
    run: Results, real: Path, tmp_path: Path
) -> None:
    (tmp_path / "blacklist").write_text("2\n3\n50\n")
    table = label_table(run, analyse(run), [real], None, tmp_path / "blacklist")
    known = {each.id: labels for each, labels in zip(SCORES, SEVERAL, strict=True) if labels}
    some = [each for each in SCORES if each.id in known]
    with_real = stored_run(tmp_path / "real", some, scope=Scope(several_labels=True), labels=known)
    kept = [each for number, each in enumerate(SCORES, 1) if number not in (2, 3, 50)]
    without = stored_run(tmp_path / "without", kept)
    # The member that stands for one model may be another with other labels.
    models: list[int | list[str]] = [[run.decisions().one_model_member], 3]
    expected = {"of the run": run, "real.json": with_real, "of the run, without blacklist": without}
    for name, results in expected.items():
        rows = results.table3(models)
        for k in (5, 1):
            found = [row for row in table.rows if row[:2] == (f"top-{k}", name)]
            assert [row[2] for row in found] == ["1×1", "1×10", "3×1", "3×10"]
            assert [row[3] for row in found] == list(rows["images"])
            assert [row[4] for row in found] == pytest.approx(list(rows[f"top{k}_error"]), abs=1e-4)
            if k == 5:
                bounds = rows[["top5_low", "top5_high"]].to_numpy()
                assert np.array([row[5] for row in found]) == pytest.approx(bounds, abs=1e-4)


def test_the_labels_of_the_run_stand_beside_on_the_same_images(run: Results, real: Path) -> None:
    table = label_table(run, analyse(run), [real], None, None)
    wrong = run.predictions(["image", "member", "crops", "rank"]).query("member == 'ensemble' and crops == 10")
    counted = [image for image, labels in zip(run.images, SEVERAL, strict=True) if labels]
    own = 100 * float((wrong[wrong["image"].isin(counted)]["rank"] >= 5).mean())
    [line] = [row for row in table.rows if row[:3] == ("top-5", "real.json", "3×10")]
    assert line[6] == pytest.approx(own)
    of_file = [row for row in table.rows if row[:2] == ("top-5", "real.json")]
    errors = np.array([row[4] for row in of_file], float)
    assert [row[-1] for row in of_file] == list(stats.rankdata(errors, "min"))
    assert ("is the same with all labels" in table.notes[0]) == (
        "differs with the labels real.json" not in table.notes[0]
    )


def test_what_is_not_there_is_said(run: Results, real: Path, tmp_path: Path) -> None:
    decided = decided_run(tmp_path / "decided", run, knows_top1=True)
    with pytest.raises(UnavailableError, match="does not store; evaluate without `until_decided=True`"):
        label_table(decided, analyse(decided), [real], None, None)
    (tmp_path / "others.csv").write_text("file,label\nelse.png,3\n")
    with pytest.raises(
        InputError, match=r"others\.csv has no label for any image of the run; is it the right file?"
    ):
        label_table(run, analyse(run), [tmp_path / "others.csv"], None, None)


@pytest.mark.slow
def test_the_report_has_the_table_or_says_why_not(run: Results, real: Path, tmp_path: Path, cli: Cli) -> None:
    given = ("--labels", real, "--no-gallery", "--out")
    assert cli("report", run.folder, *given, tmp_path / "report").code == 0
    assert (
        (tmp_path / "report" / "labels.csv").read_text().startswith("error_of,labels,row,images,error,error_low,")
    )
    decided = decided_run(tmp_path / "decided", run, knows_top1=True)
    told = cli("report", decided.folder, *given, tmp_path / "other")
    assert "evaluate without --until-decided" in " ".join(told.out.split())
