import json
from pathlib import Path

import numpy as np
from builders import CLASS_NAMES, run_key

from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.evaluation.finishing import Outcome, finish_run, gain_record
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.scoring.table3 import Gain, Row
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

ROWS = [
    Row(1, 1, 1, 10.07, 0.0, 30.5, 5035, 15250, 50000, 9.809, 10.337),
    Row(1, 10, 10, 10.07, -1e-9, 30.0, 5035, 15000, 50000, 9.809, 10.337),
    Row(7, 144, 1008, 6.67, -3.4, 25.0, 3335, 12500, 50000, 6.4543, 6.8923),
]


def test_the_record_says_what_was_compared_and_in_which_unit() -> None:
    assert gain_record(Gain(-3.4, -3.61, -3.19, None), ROWS) == {
        "base": {"models": 1, "crops": 1},
        "compared": {"models": 7, "crops": 144},
        "top5_difference": -3.4,
        "top5_difference_low": -3.61,
        "top5_difference_high": -3.19,
        "top5_difference_percent_of_base": None,
    }


def test_a_single_row_is_compared_with_nothing(tmp_path: Path) -> None:
    key = run_key(images=1, scores=True)
    store = Store(tmp_path, RUN, key)
    scores = ImageScores("a.png", 0, {1: np.full((1, len(CLASS_NAMES)), 1 / len(CLASS_NAMES))}, passes=1)
    store.write(Part(list(rows_of(scores, key, [0])), ["a.png"]))
    store.open()
    outcome = finish_run(store, {})
    assert (len(outcome.rows), outcome.gain) == (1, None)
    assert json.loads((tmp_path / "run.json").read_text())["gain"] is None


def test_an_outcome_is_one_readable_line() -> None:
    outcome = Outcome(ROWS, None, "a", {}, 300, 700, Path("out/table3.csv"))
    assert str(outcome) == "6.67% top-5 error with 7 models × 144 crops on 50000 images; written to out/table3.csv"
    outcome = Outcome(ROWS, None, "a", {"b.png": "damaged"}, 300, 700, Path("out/table3.csv"))
    assert "on 50000 images, 1 more unreadable; written" in str(outcome)
