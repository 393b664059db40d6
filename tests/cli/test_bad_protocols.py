"""Protocols that cannot be: one sentence that names the field, exit code 2, and nothing written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from builders import picture
from conftest import Cli

from ensemble_eval.crops.protocols import PROTOCOLS, Protocol, read_protocol
from ensemble_eval.errors import InputError

GOOD: dict[str, Any] = {"name": "mine", "size": 64, "scales": [64, 80], "mirror": "crop", "schemes": [2, 4]}


def _refused(cli: Cli, tmp_path: Path, arguments: Sequence[object]) -> str:
    """The sentence with which a command refuses."""
    finished = cli(*arguments, "--out", tmp_path / "out")
    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith("error: ")
    assert finished.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    return finished.err.removeprefix("error: ").rstrip("\n")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "zero-scale": ({"scales": [0, 80]}, "scales is a whole number of at least 1 and at most 4096, not 0"),
    "vast-scale": (
        {"scales": [5000]},
        "scales is a whole number of at least 1 and at most 4096, not 5000",
    ),
    "no-size": ({"size": 0}, "size is a whole number of at least 1 and at most 4096, not 0"),
    "crop-above-scale": (
        {"size": 65},
        "the protocol mine: a side of 64 pixels holds no crops of 65; use larger scales, or pad with fill",
    ),
    "longer-side": (
        {"fit": "longer"},
        "the protocol mine: a side of 64 pixels holds no crops of 64; use larger scales, or pad with fill",
    ),
    "not-ascending": (
        {"schemes": [4, 2]},
        "the protocol mine: schemes are numbers of crops, ascending, of which the last is all 4",
    ),
    "twice": (
        {"schemes": [2, 2, 4]},
        "the protocol mine: schemes are numbers of crops, ascending, of which the last is all 4",
    ),
    "last-is-not-all": (
        {"schemes": [1, 3]},
        "the protocol mine: schemes are numbers of crops, ascending, of which the last is all 4",
    ),
    "more-than-all": (
        {"schemes": [2, 5]},
        "the protocol mine: schemes are numbers of crops, ascending, of which the last is all 4",
    ),
    "no-scheme": (
        {"schemes": []},
        "the protocol mine: schemes are numbers of crops, ascending, of which the last is all 4",
    ),
    "scheme-of-nothing": ({"schemes": [0, 4]}, "schemes is a whole number of at least 1, not 0"),
    "ten-million-crops": (
        {"scales": list(range(64, 564)), "grid": 100, "schemes": [10_001_000]},
        "the protocol mine: it cuts 10001000 crops, and 10000 are the most",
    ),
    "unknown-field": (
        {"crop_size": 64},
        "unknown field 'crop_size'; remove it or fix its name (known are name, size, scales, fit, squares, "
        "positions, grid, mirror, order, resampling, kernel, fill, schemes)",
    ),
    "text-for-a-number": ({"size": "64"}, "size is a whole number, not '64'"),
    "fraction": ({"scales": [64.5]}, "scales is a whole number, not 64.5"),
    "number-for-a-list": ({"scales": 64}, "scales is a list, not 64"),
    "truth-for-a-word": ({"mirror": True}, "mirror is one of 'none', 'crop', 'image', not True"),
    "unknown-square": (
        {"squares": ["center"]},
        "squares is one of 'centre', 'centre-floor', 'first', 'last', 'image', not 'center'",
    ),
    "two-colours": ({"fill": [0, 0]}, "fill is a list of 3 numbers, not [0, 0]"),
    "bright-colour": (
        {"fill": [0, 0, 256]},
        "fill[2] is a whole number of at least 0 and at most 255, not 256",
    ),
    "grid-of-one": ({"grid": 1}, "the protocol mine: a grid of 1 has no steps; use the position centre"),
    "whole-image": (
        {"squares": ["image"], "positions": ["whole"]},
        "the protocol mine: the whole image is no square; leave out whole, or use the squares centre, "
        "first and last",
    ),
    "no-positions": ({"positions": []}, "the protocol mine: positions is empty; name at least one"),
    "no-squares": ({"squares": []}, "the protocol mine: squares is empty; name at least one"),
    "no-scales": ({"scales": []}, "the protocol mine: scales is empty; name at least one"),
    "scale-twice": ({"scales": [64, 64]}, "the protocol mine: scales holds a value twice; keep one"),
    "position-twice": (
        {"positions": ["centre", "centre"]},
        "the protocol mine: positions holds a value twice; keep one",
    ),
    "order-of-three": (
        {"order": ["scale", "position", "mirror"]},
        "the protocol mine: order names scale, square, position, mirror, each once",
    ),
    "filter-of-pillow": (
        {"resampling": "lanczos"},
        'the protocol mine: resampling = "lanczos" needs kernel = "pillow"',
    ),
    "unknown-filter": (
        {"resampling": "cubic"},
        "resampling is one of 'nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos', not 'cubic'",
    ),
    "no-name": ({"name": ""}, "name is a text, not ''"),
}


@pytest.mark.parametrize(("changes", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_sentence(
    cli: Cli, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    file, image = tmp_path / "bad.toml", tmp_path / "a.png"
    file.write_text(tomli_w.dumps(GOOD | changes))
    picture(30, 30).save(image)
    assert _refused(cli, tmp_path, ("crops", image, "--protocol", file)) == f"{file}: {sentence}"


def test_the_file_that_the_bad_ones_change_is_good(cli: Cli, tmp_path: Path) -> None:
    file, image = tmp_path / "good.toml", tmp_path / "a.png"
    file.write_text(tomli_w.dumps(GOOD))
    picture(30, 30).save(image)
    assert cli("crops", image, "--protocol", file, "--out", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out").glob("00?.png"))) == 4


@pytest.mark.parametrize("field", ["name", "size", "scales", "schemes"])
def test_what_every_protocol_has_is_asked_for(tmp_path: Path, field: str) -> None:
    (tmp_path / "bad.toml").write_text(tomli_w.dumps({name: GOOD[name] for name in GOOD if name != field}))
    with pytest.raises(InputError, match=rf"bad.toml: the field '{field}' is missing; add it$"):
        read_protocol("bad.toml", tmp_path)


@pytest.mark.parametrize("command", ["run", "check"])
def test_names_and_files_that_are_not_there(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "bad.toml").write_text("size = ")
    shipped = ", ".join(PROTOCOLS)
    timm = "member a: the protocol timm is read from the configuration of published weights, and these have none;"
    sentences = {
        "inception": f"there is no protocol inception; choose one of {shipped}, timm, or a .toml file",
        str(
            tmp_path / "no.toml"
        ): f"{tmp_path / 'no.toml'} cannot be read (No such file or directory); check the path",
        str(
            tmp_path / "bad.toml"
        ): f"{tmp_path / 'bad.toml'} is not valid TOML: Invalid value (at end of document)",
        "timm": f"{timm} name another protocol",
    }
    for name, sentence in sentences.items():
        arguments = (command, dataset, "--ensemble", ensemble, "--protocol", name)
        assert _refused(cli, tmp_path, arguments) == sentence


def test_a_scheme_of_another_protocol(cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path) -> None:
    arguments = ("run", dataset, "--ensemble", ensemble, "--protocol", "inception-299", "--crops", "10")
    sentence = _refused(cli, tmp_path, arguments)
    assert "there is no scheme of 10 crops in inception-299; choose one of 1, 12, 144" in sentence


def test_a_member_of_another_input_size(cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sized"
    folder.mkdir()
    text = ensemble.read_text().replace('"classes.txt"', f'"{ensemble.parent / "classes.txt"}"')
    for name in "ab":
        text = text.replace(f'"{name}.safetensors"', f'"{ensemble.parent / name}.safetensors"')
    head, first, second = text.split("[[members]]")
    assert "[members.input]" in second
    (folder / "m.toml").write_text("[[members]]".join([head, first, f"{second}size = 299\n"]))
    sentence = _refused(cli, tmp_path, ("run", dataset, "--ensemble", folder / "m.toml"))
    assert sentence == (
        "member b: it takes 299 pixels, and the protocol googlenet cuts 224; choose another --protocol, or name "
        "one for the member in the manifest"
    )


def test_python_names_the_field_as_an_argument() -> None:
    with pytest.raises(InputError, match=r"^`scales` is a whole number of at least 1 and at most 4096, not 0$"):
        Protocol(name="mine", size=64, scales=(0,), schemes=(1,))
    with pytest.raises(InputError, match=r"^the protocol mine: a grid of 1 has no steps"):
        Protocol(name="mine", size=64, scales=(64,), grid=1, schemes=(2,))
