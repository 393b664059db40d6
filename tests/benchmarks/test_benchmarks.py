from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import encoded, googlenet_plan, picture
from torchvision.models import GoogLeNet_Weights

from benchmarks.ceiling import ceiling_text, gflop_per_pass
from benchmarks.compare import command_text, counts_from, image_counts
from benchmarks.early_exit import Outcome
from benchmarks.early_exit import report as early_exit_report
from benchmarks.files import labels_of, sample, write_images
from benchmarks.memory import report
from benchmarks.pipeline import crops_tensor
from benchmarks.registry import chosen
from benchmarks.results import Measurement, Spread, best_script, paired_ratio, results_text, spread
from benchmarks.scaling import Round
from benchmarks.scaling import report as scaling_report
from benchmarks.work import Cost
from ensemble_eval.crops import pixels


def measured(contender: str, number: int, useful: int, seconds: float, run: int | None = None) -> Measurement:
    return Measurement(contender, number, Cost(2, useful, useful if run is None else run, seconds))


MEASUREMENTS = [
    measured("a", 1, 2016, 10.0),
    measured("c16", 1, 2016, 20.0),
    measured("c144", 1, 2016, 25.0),
    measured("d", 1, 2016, 126.0, run=2480),
    measured("d", 2, 2016, 168.0, run=2480),
    measured("a", 2, 2016, 8.0),
    measured("c16", 2, 2016, 12.0),
    measured("c144", 2, 2016, 32.0),
    measured("a", 3, 2016, 9.0),
]


def test_a_spread_is_the_median_and_both_ends() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0, 4)
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0, 1)


def test_ratios_are_taken_within_rounds_that_have_both() -> None:
    assert paired_ratio(MEASUREMENTS, "a", "c16") == Spread(1.75, 1.5, 2.0, 2)
    assert paired_ratio(MEASUREMENTS, "a", "g") is None


def test_the_best_script_has_the_highest_median() -> None:
    assert best_script(MEASUREMENTS) == "c16"
    assert best_script([measured("a", 1, 1, 1.0)]) is None


def test_the_results_are_written_literally() -> None:
    titles = {"a": "ours", "c16": "script 16", "c144": "script 144", "d": "six runs", "g": "bound"}
    assert results_text(titles, MEASUREMENTS, {"machine": "two cores", "date": "2014-09-17"}, ["A note."]) == (
        "# Passes per second, side by side\n"
        "\n"
        "- machine: two cores\n"
        "- date: 2014-09-17\n"
        "\n"
        "| | contender | images | useful passes/s | forward passes/s | run/useful | n | ours over it |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|\n"
        "| a | ours | 2 | 224.0 (201.6–252.0) | 224.0 (201.6–252.0) | 100% | 3 | – |\n"
        "| c16 | script 16 | 2 | 134.4 (100.8–168.0) | 134.4 (100.8–168.0) | 100% | 2 | 1.75× (1.50–2.00) |\n"
        "| c144 | script 144 | 2 | 71.8 (63.0–80.6) | 71.8 (63.0–80.6) | 100% | 2 | 3.25× (2.50–4.00) |\n"
        "| d | six runs | 2 | 14.0 (12.0–16.0) | 17.2 (14.8–19.7) | 123% | 2 | 16.80× (12.60–21.00) |\n"
        "\n"
        "## Against the targets\n"
        "\n"
        "| ours | asked | measured | n | reached |\n"
        "|---|--:|--:|--:|---|\n"
        "| full over the bound | 0.95× | – | 0 | not measured |\n"
        "| full over the script with batches of 144 | 3× | 3.25× (2.50–4.00) | 2 | yes |\n"
        "| full over the script with its best batch (c16) | 1.6× | 1.75× (1.50–2.00) | 2 | yes |\n"
        "| full over six runs | 12× | 16.80× (12.60–21.00) | 2 | yes |\n"
        "\n"
        "- A note.\n"
    )


def test_trained_networks_show_what_until_decided_saves() -> None:
    measurements = [*MEASUREMENTS, measured("b", 1, 2016, 4.0), measured("b", 2, 2016, 5.0)]
    text = results_text({}, measurements, {}, [], trained=True)
    assert "| until decided over full | 2.4× | 2.05× (1.60–2.50) | 2 | no |\n" in text
    assert "| until decided over the script with batches of 144 | 7× | 6.32× (6.25–6.40) | 2 | no |\n" in text
    assert "| until decided over six runs | 28× | 32.55× (31.50–33.60) | 2 | yes |\n" in text
    assert "until decided" not in results_text({}, measurements, {}, [])


def test_the_decided_report_counts_rows_that_differ() -> None:
    table = pd.DataFrame({"models": [1, 3], "crops": [144, 144], "top5_error": [10.0, 8.0]})
    full, same = Outcome(1000, 30.0, table), Outcome(400, 10.0, table)
    other = Outcome(400, 12.0, table.assign(top5_error=[10.0, 8.5]))
    assert early_exit_report([(full, same), (full, other)]) == (
        "passes: 400 of 1000, 40.0% (40.0–40.0)\n"
        "until decided over in full: 2.75× (2.50–3.00), n = 2\n"
        "rows of the table with another top-5 cell: 1 of 4"
    )


def test_the_scaling_report_is_written_literally() -> None:
    rounds = [Round(1.8, 1.95, 2.0), Round(1.9, 2.05, 1.9), Round(1.85, 2.0, 1.95)]
    assert scaling_report(rounds, 2) == (
        "2 ranks against one, a thread each, n = 3\n"
        "the whole command: 1.85× (1.80–1.90)\n"
        "the work in it: 2.00× (1.95–2.05)\n"
        "the bound, that many processes at once: 1.95× (1.90–2.00)"
    )


def test_the_ceiling_is_told_in_passes_where_one_pass_is_known() -> None:
    products = Spread(400.0, 390.0, 410.0, 9)
    assert ceiling_text(products, None) == "400 (390–410) GFLOP/s, n = 9"
    assert ceiling_text(products, 3.2) == (
        "400 (390–410) GFLOP/s, n = 9; a pass takes 3.20 GFLOP, and at that rate there would be 125 passes/s"
    )
    # torchvision publishes billions of multiply-adds.
    published = GoogLeNet_Weights.IMAGENET1K_V1.meta["_ops"]
    assert gflop_per_pass(1.0, 1000) == pytest.approx(2 * published, abs=0.002)


def test_contenders_are_chosen_by_key_or_letter() -> None:
    assert chosen(["g", "c", "a"]) == ["a", "c16", "c48", "c144", "g"]
    assert chosen(["c48"]) == ["c48"]
    with pytest.raises(ValueError, match="no contender 'c1'; choose among a, b, c16"):
        chosen(["c1"])


def test_slow_contenders_get_fewer_images_unless_told() -> None:
    assert image_counts(["a", "c16", "d"], 8, {}) == {"a": 8, "c16": 8, "d": 2}
    assert image_counts(["a", "c16", "d"], 1, counts_from("c=3,a=5")) == {"a": 5, "c16": 3, "d": 1}


def test_the_printed_command_names_no_place_outside() -> None:
    words = ["--images", "/home/me/jpeg", "--out=../there/r.md", "--counts", "d=2,f=4", "--seed", "1"]
    assert command_text(words) == (
        "`python -m benchmarks.compare --images jpeg --out=r.md --counts d=2,f=4 --seed 1`"
    )


def test_too_few_images_come_again_and_square_ones_not_at_all(tmp_path: Path) -> None:
    given = tmp_path / "given"
    (given / "deeper").mkdir(parents=True)
    (given / "deeper" / "wide.JPG").write_bytes(encoded(picture(40, 30), "JPEG"))
    (given / "tall.png").write_bytes(encoded(picture(30, 40)))
    (given / "square.png").write_bytes(encoded(picture(30, 30)))
    (given / "notes.txt").write_text("")
    assert {path.name for path in sample(given, seed=1)} == {"wide.JPG", "tall.png"}

    flat, labels = write_images(tmp_path, sample(given, seed=1), 5)
    names = sorted(path.name for path in flat.iterdir())
    assert [name.partition(".")[0] for name in names] == ["000000", "000001", "000002", "000003", "000004"]
    assert len({path.stat().st_ino for path in flat.iterdir()}) == 2
    assert labels.read_text() == "file,label\n" + "".join(f"{name},0\n" for name in names)


def test_labels_come_from_the_table_given(tmp_path: Path) -> None:
    image = tmp_path / "given" / "wide.jpg"
    image.parent.mkdir()
    image.write_bytes(encoded(picture(40, 30), "JPEG"))
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nval/wide.jpg,7\n")
    _, labels = write_images(tmp_path, [image], 2, labels_of(table))
    assert labels.read_text() == "file,label\n000000.jpg,7\n000001.jpg,7\n"

    table.write_text("file,label\nother.jpg,7\n")
    with pytest.raises(ValueError, match=r"no label for wide\.jpg"):
        labels_of(table)(image)
    table.write_text("name,class\n")
    with pytest.raises(ValueError, match="no columns file and label"):
        labels_of(table)


@pytest.mark.parametrize("size", [(400, 300), (270, 360)])
def test_the_peers_cut_the_crops_that_ours_cuts(tmp_path: Path, size: tuple[int, int]) -> None:
    """Else their time would be that of another work."""
    path = tmp_path / "image.png"
    path.write_bytes(encoded(picture(*size)))
    theirs = crops_tensor(path)
    crop_plan = googlenet_plan(*size, 144)
    source = pixels.prepare(pixels.decode(path.read_bytes()), crop_plan)
    ours = torch.stack([source.cut(view) for view in crop_plan.views])
    assert theirs.shape == ours.shape == (144, 3, 224, 224)
    # The same crops, perhaps in another order: each of theirs is nearest to another one of ours, and equal to it.
    few, theirs_few = (crops[:, :, ::8, ::8].int() for crops in (ours, theirs))
    nearest = [int((few - crop).abs().sum(dim=(1, 2, 3)).argmin()) for crop in theirs_few]
    assert sorted(nearest) == list(range(144))
    assert int((ours[nearest].int() - theirs.int()).abs().max()) <= 1


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        next(sample(tmp_path, seed=1))


def test_the_memory_report_is_written_literally() -> None:
    assert report(500.0, {100: 1500.0, 1000: 1600.4}) == (
        "importing alone: 500 MiB\n"
        "100 images: 1500 MiB, 1000 beyond\n"
        "1000 images: 1600 MiB, 1100 beyond\n"
        "1000 images over 100, beyond importing: 1.10×"
    )
