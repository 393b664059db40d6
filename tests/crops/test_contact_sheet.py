import os
from pathlib import Path

import numpy as np
import pytest
from builders import picture, tiff_with_offsets_in_text
from conftest import Cli
from PIL import Image
from pillow_crops import pillow_crops


@pytest.mark.slow
def test_144_numbered_pictures_and_a_sheet_that_shows_every_crop_under_its_own_number_are_written(
    cli: Cli, tmp_path: Path
) -> None:
    """Cells of the sheet found by their size alone: below each label the crop of the file of that number."""
    image = picture(20, 15).resize((320, 240), Image.Resampling.BICUBIC)  # smooth, so quick to compress
    image.save(tmp_path / "a.png")
    finished = cli("crops", tmp_path / "a.png", "--out", tmp_path / "out")
    assert finished.code == 0
    assert finished.out == f"144 crops, sheet.png and overview.png written to {tmp_path / 'out'}\n"
    names = [f"{index:03}.png" for index in range(144)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "overview.png", "sheet.png"]
    for name, expected in zip(names, pillow_crops(image), strict=True):
        written = np.asarray(Image.open(tmp_path / "out" / name)).astype(int)
        assert np.abs(written - expected).max() <= 2
    with Image.open(tmp_path / "out" / "sheet.png") as opened:
        sheet = np.asarray(opened.convert("RGB")).astype(int)
    cell, label = 112, 14
    left = sheet.shape[1] - 12 * cell
    labels = set()
    for index in range(144):
        row, column = divmod(index, 12)
        y, x = row * (cell + label), left + column * cell
        shown = sheet[y + label : y + label + cell - 2, x : x + cell - 2]
        with Image.open(tmp_path / "out" / f"{index:03}.png") as crop:
            expected = np.asarray(crop.resize((cell - 2, cell - 2), Image.Resampling.BOX)).astype(int)
        assert np.abs(shown - expected).mean() < 1 < np.abs(shown - expected[:, ::-1]).mean(), index
        text = sheet[y : y + label, x : x + cell]
        assert text.min() < 64 < 192 < text.max()
        labels.add(text.tobytes())
    assert len(labels) == 144


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read (No such file or directory); check the path"),
        (b"not an image", "is not usable: not an image of a known format"),
        (tiff_with_offsets_in_text(), "is not usable: damaged: 'str' object cannot be interpreted as an integer"),
    ],
)
def test_what_is_no_image_is_refused(cli: Cli, tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    finished = cli("crops", tmp_path / "a.png", "--out", tmp_path / "out")
    assert (finished.code, finished.out) == (2, "")
    assert finished.err == f"error: {tmp_path / 'a.png'} {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_a_named_pipe_is_refused(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    finished = cli("crops", tmp_path / "a.png", "--out", tmp_path / "out")
    assert finished.code == 2
    assert (
        finished.err
        == f"error: {tmp_path / 'a.png'} cannot be read (it is a named pipe, not a file); check the path\n"
    )


def test_a_folder_that_cannot_be_written_is_refused(cli: Cli, tmp_path: Path) -> None:
    picture(30, 30).save(tmp_path / "a.png")
    finished = cli("crops", tmp_path / "a.png", "--out", tmp_path / "a.png")
    assert finished.code == 2
    assert "cannot be written" in finished.err
