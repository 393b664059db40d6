"""Scores of the shipped members on drawn pictures, as they were when the expected files were written.

`RENEW_GOLDEN=1 pytest tests/test_golden_scores.py` writes the files. It runs these commands, the second
with the other numbers of pictures, members and crops:

    ensemble-eval demo-data val --split val --images 8 --seed 15
    ensemble-eval run val --models 7 --crops 10 --scores all --backend torch --device cpu
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Cli

from ensemble_eval.demo_data.writing import draw_dataset

PROJECT = Path(__file__).parents[1]
ROWS = ["image", "member", "crops"]


@pytest.mark.slow
@pytest.mark.parametrize(("models", "crops", "images", "seed"), [(7, 10, 8, 15), (2, 144, 4, 2015)])
def test_scores_are_the_expected_ones_and_the_table_counts_them(
    cli: Cli, tmp_path: Path, models: int, crops: int, images: int, seed: int
) -> None:
    draw_dataset(tmp_path / "val", "val", images=images, seed=seed, workers=1)
    finished = cli(
        *("run", tmp_path / "val", "--ensemble", PROJECT / "manifests" / "default.toml", "--models", models),
        *("--crops", crops, "--scores", "all", "--backend", "torch", "--device", "cpu", "--out", tmp_path / "out"),
    )
    assert finished.code == 0, finished.err
    found = pd.read_parquet(tmp_path / "out" / "predictions").sort_values(ROWS, ignore_index=True)
    scores = np.stack(list(found["scores"]))
    actual = found[ROWS].assign(best=scores.max(axis=1), of_label=scores[np.arange(len(found)), found["label"]])
    golden = PROJECT / "tests" / "golden" / f"scores-{models}-members-{crops}-crops-{images}-pictures.csv"
    if os.environ.get("RENEW_GOLDEN"):
        actual.to_csv(golden, index=False, float_format="%.4f")
    # Without AVX2, torch resizes some pixels to the next grey level: that changes scores by up to 0.0028, and a
    # convolution's last bits by less than the files print (ATEN_CPU_CAPABILITY=default, ONEDNN_MAX_CPU_ISA=SSE41).
    pd.testing.assert_frame_equal(actual, pd.read_csv(golden), check_dtype=False, rtol=0, atol=3e-3)

    table = pd.read_csv(tmp_path / "out" / "table3.csv")
    for row in table[table["models"] == models].itertuples():
        ranks = found.query(f"member == 'ensemble' and crops == {row.crops}")["rank"]
        assert (row.top1_wrong, row.top5_wrong, row.images) == ((ranks >= 1).sum(), (ranks >= 5).sum(), images)
