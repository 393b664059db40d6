from pathlib import Path

import pytest
from builders import encoded, picture

from benchmarks.compare import command_text, counts_from, image_counts
from benchmarks.files import sample, write_images
from benchmarks.memory import report
from benchmarks.registry import chosen
from benchmarks.results import Measurement, Spread, best_script, paired_ratio, results_text, spread
from benchmarks.work import Cost


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
        "| ours over | asked | measured | n | reached |\n"
        "|---|--:|--:|--:|---|\n"
        "| the bound | 0.95× | – | 0 | not measured |\n"
        "| the script with batches of 144 | 3× | 3.25× (2.50–4.00) | 2 | yes |\n"
        "| the script with its best batch (c16) | 1.6× | 1.75× (1.50–2.00) | 2 | yes |\n"
        "| six runs | 12× | 16.80× (12.60–21.00) | 2 | yes |\n"
        "\n"
        "- A note.\n"
    )


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
