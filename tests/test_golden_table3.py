"""Table 3 of the shipped members on drawn pictures, as it was when the expected files were written.

They were written by these commands, the second with the other numbers of pictures, members and crops:

    ensemble-eval demo-data val --split val --images 64 --seed 15
    ensemble-eval run val --models 7 --crops 10 --backend torch --device cpu

With these seeds one member is the best by three pictures and more, so that the one-model rows are always its own.
"""

from pathlib import Path

import pandas as pd
import pytest
from conftest import Cli

from ensemble_eval.demo_data.writing import draw_dataset

PROJECT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(("models", "crops", "images", "seed"), [(7, 10, 64, 15), (2, 144, 16, 2015)])
def test_the_table_is_the_expected_one(
    cli: Cli, tmp_path: Path, models: int, crops: int, images: int, seed: int
) -> None:
    draw_dataset(tmp_path / "val", "val", images=images, seed=seed, workers=1)
    finished = cli(
        *("run", tmp_path / "val", "--ensemble", PROJECT / "manifests" / "default.toml", "--models", models),
        *("--crops", crops, "--backend", "torch", "--device", "cpu", "--out", tmp_path / "out"),
    )
    assert finished.code == 0, finished.err
    golden = PROJECT / "tests" / "golden" / f"table3-{models}-members-{crops}-crops-{images}-pictures.csv"
    expected, actual = pd.read_csv(golden), pd.read_csv(tmp_path / "out" / "table3.csv")
    assert list(actual.columns) == list(expected.columns)
    same = ["models", "crops", "cost", "images"]
    pd.testing.assert_frame_equal(actual[same], expected[same])
    # A convolution's last bits belong to the processor, and two classes of one image may be that close.
    wrong = ["top5_wrong", "top1_wrong"]
    assert (actual[wrong] - expected[wrong]).abs().to_numpy().max() <= 1
    for column in ("top5", "top1"):
        percent = 100 * actual[f"{column}_wrong"] / actual["images"]
        assert (actual[f"{column}_error"] - percent).abs().max() < 1e-4
