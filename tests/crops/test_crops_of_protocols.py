"""The command `crops` for every shipped protocol: a file for each crop, a sheet and an overview."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from PIL import Image, ImageDraw

from ensemble_eval.crops.pictures import overview
from ensemble_eval.crops.protocols import PROTOCOLS, Protocol, own_protocol


@pytest.mark.parametrize(
    "name",
    # All of Inception differ in nothing but lengths.
    [
        pytest.param(name, marks=[pytest.mark.slow] * (len(protocol.crops) > 100))
        for name, protocol in PROTOCOLS.items()
        if name not in ("googlenet", "inception-235", "inception-320")
    ],
)
def test_as_many_files_as_crops_a_sheet_and_an_overview(cli: Cli, tmp_path: Path, name: str) -> None:
    protocol, out = PROTOCOLS[name], tmp_path / "out"
    # Of one colour, so quick to compress.
    Image.new("RGB", (120, 90), "teal").save(tmp_path / "a.png")
    finished = cli("crops", tmp_path / "a.png", "--protocol", name, "--out", out)
    assert finished.code == 0, finished.err
    count = len(protocol.crops)
    assert finished.out == f"{count} crops, sheet.png and overview.png written to {out}\n"
    names = [f"{index:03}.png" for index in range(count)]
    assert sorted(path.name for path in out.iterdir()) == [*names, "overview.png", "sheet.png"]
    for each in names:
        with Image.open(out / each) as crop:
            assert crop.size == (protocol.size, protocol.size)
    with Image.open(out / "sheet.png") as sheet:
        # A heading beside at most twelve thumbnails of 112 pixels, each below a label of 14.
        rows = {"vgg-150": 3 * 5, "torchvision-ten-crop": 1, "resnet-10": 1, "krizhevsky-10": 1, "googlenet-12": 1}
        columns = {"torchvision-ten-crop": 10, "resnet-10": 10, "krizhevsky-10": 10}
        assert sheet.size == (92 + 112 * columns.get(name, 12), 126 * rows.get(name, 12))


SHAPES = [(500, 375), (67, 101), (30, 900)]
ALL = [*PROTOCOLS.values(), own_protocol(224, 224, "border", "bicubic", (0.5, 0.5, 0.5))]


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_no_text_of_an_overview_is_cut_or_written_over_another(
    monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    """Every text lies in the picture that it is drawn on, and shares no pixel with another one of that picture."""
    drawn: list[tuple[tuple[int, int], tuple[int, int, int, int], int]] = []
    text = ImageDraw.ImageDraw.text

    def recorded(
        self: ImageDraw.ImageDraw, at: tuple[float, float], words: str, *given: object, **named: object
    ) -> None:
        left, top, right, bottom = self.textbbox(at, words, font=named.get("font"))  # type: ignore[arg-type]  # the arguments of Pillow
        drawn.append((self.im.size, (int(left), int(top), round(right), round(bottom)), id(self.im)))
        text(self, at, words, *given, **named)  # type: ignore[arg-type]  # the arguments of Pillow

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", recorded)
    kept = list[Image.Image]()
    new = Image.new

    def keeping(*given: Any, **named: Any) -> Image.Image:
        kept.append(new(*given, **named))
        return kept[-1]

    # Pictures that are let go could give another one their identity.
    monkeypatch.setattr(Image, "new", keeping)
    for shape in SHAPES:
        assert max(overview(new("RGB", shape), protocol).size) < 3000
    assert len(drawn) >= 3 * len(SHAPES)
    for (width, height), (left, top, right, bottom), _ in drawn:
        # A letter may reach a pixel to the left of where it begins.
        assert -1 <= left < right <= width
        assert 0 <= top < bottom <= height
    for number, (_, one, picture_of_one) in enumerate(drawn):
        for _, other, picture_of_other in drawn[:number]:
            if picture_of_one == picture_of_other:
                apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
                assert apart, (one, other)
