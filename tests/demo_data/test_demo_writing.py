import json
from pathlib import Path

import pytest
from PIL import Image

from ensemble_eval.demo_data import writing
from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.pictures import Split, draw_picture
from ensemble_eval.demo_data.scene import DIFFICULTY, Difficulty
from ensemble_eval.demo_data.writing import DrawnDataset, draw_dataset
from ensemble_eval.errors import InputError


def _pictures(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.glob("*/*")}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("drawn") / "val"
    draw_dataset(directory, "val", images=16, seed=4, workers=1)
    return directory


def test_every_picture_lies_in_its_class_folder_and_every_folder_exists(drawn: Path) -> None:
    assert sorted(p.name for p in drawn.iterdir()) == sorted([*CLASS_NAMES, "demo-data.json"])
    expected = [f"{draw_picture('val', 4, index).class_name}/val_{index:08d}.JPEG" for index in range(16)]
    assert sorted(_pictures(drawn)) == sorted(expected)


def test_a_file_holds_the_picture_as_jpeg(drawn: Path) -> None:
    picture = draw_picture("val", 4, 0)
    with Image.open(drawn / picture.class_name / "val_00000000.JPEG") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", picture.image.mode, picture.image.size)


def test_several_processes_write_the_same_files_as_one(drawn: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "val", "val", images=16, seed=4, workers=2)
    assert _pictures(tmp_path / "val") == _pictures(drawn)


def test_a_smaller_data_set_is_a_prefix_of_a_larger_one(drawn: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path, "val", images=6, seed=4, workers=1)
    fewer = _pictures(tmp_path)
    assert len(fewer) == 6
    assert fewer.items() <= _pictures(drawn).items()


def test_train_and_val_of_one_seed_share_no_file(drawn: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path, "train", images=16, seed=4, workers=1)
    assert not set(_pictures(tmp_path).values()) & set(_pictures(drawn).values())


def test_the_description_names_all_that_the_pixels_depend_on(drawn: Path) -> None:
    description = json.loads((drawn / "demo-data.json").read_text())
    assert description.pop("difficulty")["grey_share"] == DIFFICULTY.grey_share
    assert description == {"split": "val", "images": 16, "seed": 4, "generator_version": 1}


def test_a_half_drawn_data_set_is_completed(drawn: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path, "val", images=16, seed=4, workers=1)
    files = sorted(tmp_path.glob("*/*.JPEG"))
    for path in files[:5]:
        path.unlink()
    steps: list[int] = []
    outcome = draw_dataset(tmp_path, "val", 16, 4, workers=1, on_progress=steps.append)
    assert outcome == DrawnDataset(found=11, drawn=5)
    assert steps == [12, 13, 14, 15, 16]
    assert _pictures(tmp_path) == _pictures(drawn)


def test_an_interrupted_drawing_is_completed(drawn: Path, tmp_path: Path) -> None:
    def interrupt(_finished: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path, "val", 16, 4, workers=2, on_progress=interrupt)
    draw_dataset(tmp_path, "val", 16, 4, workers=1)
    assert {name: data for name, data in _pictures(tmp_path).items() if name.endswith(".JPEG")} == _pictures(drawn)


def test_a_complete_data_set_is_left_as_it_is(drawn: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in drawn.rglob("*")}
    assert draw_dataset(drawn, "val", 16, 4) == DrawnDataset(found=16, drawn=0)
    assert {p: p.stat().st_mtime_ns for p in drawn.rglob("*")} == before


def test_a_full_disk_leaves_no_half_picture_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    draw_dataset(tmp_path, "val", 2, 4, workers=1)
    next(tmp_path.glob("*/*.JPEG")).unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", write_half)
        with pytest.raises(InputError, match="No space left on device"):
            draw_dataset(tmp_path, "val", 2, 4, workers=1)
    assert len(_pictures(tmp_path)) == 1
    assert draw_dataset(tmp_path, "val", 2, 4, workers=1) == DrawnDataset(found=1, drawn=1)


@pytest.mark.parametrize(
    ("split", "images", "seed", "difficulty", "difference"),
    [
        ("train", 16, 4, DIFFICULTY, "split val, not train"),
        ("val", 21, 4, DIFFICULTY, "images 16, not 21"),
        ("val", 16, 5, DIFFICULTY, "seed 4, not 5"),
        ("val", 16, 4, Difficulty(grey_share=0.5), "difficulty"),
    ],
)
def test_another_data_sets_directory_is_refused_with_the_difference(
    drawn: Path,
    monkeypatch: pytest.MonkeyPatch,
    split: Split,
    images: int,
    seed: int,
    difficulty: Difficulty,
    difference: str,
) -> None:
    monkeypatch.setattr(writing, "DIFFICULTY", difficulty)
    with pytest.raises(InputError, match=difference):
        draw_dataset(drawn, split, images, seed)


def test_a_data_set_of_another_generator_is_refused(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GENERATOR_VERSION", 2)
    with pytest.raises(InputError, match="generator_version 1, not 2"):
        draw_dataset(drawn, "val", 16, 4)


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"is not empty and holds no demo-data\.json; name an empty or a new"):
        draw_dataset(tmp_path, "val", 2, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["not json", "[1]"])
def test_a_broken_description_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo-data.json").write_text(text)
    with pytest.raises(InputError, match="is no description of a data set; name an empty"):
        draw_dataset(tmp_path, "val", 2, 4)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; name a directory"):
        draw_dataset(tmp_path / "file", "val", 2, 4)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"\(Not a directory\); make room or name"):
        draw_dataset(tmp_path / "file" / "below", "val", 2, 4)


@pytest.mark.parametrize(
    ("images", "seed", "workers", "message"),
    [
        (0, 0, None, "cannot draw 0 images; ask for at least 1"),
        (1, -1, None, "seed -1 is out of range; choose one from 0"),
        (1, 2**32, None, "seed 4294967296 is out of range"),
        (1, 0, 0, "cannot draw with 0 workers; ask for at least 1"),
    ],
)
def test_impossible_values_are_refused_before_anything_is_made(
    tmp_path: Path, images: int, seed: int, workers: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draw_dataset(tmp_path / "new", "val", images, seed, workers)
    assert not (tmp_path / "new").exists()
