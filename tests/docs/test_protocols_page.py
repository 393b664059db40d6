"""The page on protocols agrees with the protocols, and its TOML files are valid."""

import re
import tomllib
from dataclasses import MISSING, fields

import numpy as np
import pytest
from pages import PROJECT, blocks

from ensemble_eval import toml_tables
from ensemble_eval.crops.protocols import OWN, PROTOCOLS, Protocol

PAGE = PROJECT / "docs" / "protocols.md"
TEXT = PAGE.read_text(encoding="utf-8")
TABLES = [tomllib.loads(block.text) for block in blocks(PAGE) if block.language == "toml"]


def _rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    table = re.search(r"(?:^\|.*\n)+", TEXT.partition(f"\n## {heading}\n")[2], re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def _numbers(cell: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", cell)]


def test_the_table_lists_every_protocol_with_its_size_scales_crops_and_schemes() -> None:
    rows = {re.sub(r"[\[\]`]|\(.*\)", "", cells[0]): cells for cells in _rows("The shipped protocols")}
    assert list(rows) == [*PROTOCOLS, OWN]
    for name, protocol in PROTOCOLS.items():
        _, size, scales, _, _, _, crops, schemes, _ = rows[name]
        stated = [int(size), _numbers(scales), int(crops), _numbers(schemes)]
        assert stated == [protocol.size, [*protocol.scales], len(protocol.crops), [*protocol.schemes]]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_part_of_an_image_that_a_scheme_sees(name: str) -> None:
    protocol = PROTOCOLS[name]
    [cell] = [cells[-1] for cells in _rows("The shipped protocols") if cells[0].startswith(f"[`{name}`]")]
    assert [_seen(protocol, crops) for crops in protocol.schemes] == _numbers(cell)


def _seen(protocol: Protocol, crops: int, side: int = 2000) -> int:
    """The percentage of a fine raster over an image of 500 × 375 pixels that the crops cover."""
    seen = np.zeros((side, side), bool)
    for view in protocol.views_of(500, 375, crops):
        width, height = view.canvas.padded(500, 375)
        left, right = (round(side * edge / width) for edge in (view.left, view.left + view.side))
        top, bottom = (round(side * edge / height) for edge in (view.top, view.top + view.side))
        seen[top:bottom, left:right] = True
    return round(100 * float(seen.mean()))


def test_every_field_of_a_protocol_is_explained_with_its_default() -> None:
    rows = {cells[0].strip("`"): cells[1] for cells in _rows("Write your own")}
    assert list(rows) == [field.name for field in fields(Protocol)]
    for field in fields(Protocol):
        if field.default is MISSING:
            assert rows[field.name] == "required"
        elif field.default is not None:
            written = tomllib.loads(f"value = {rows[field.name].strip('`')}")["value"]
            assert written == (list(field.default) if isinstance(field.default, tuple) else field.default)


def test_the_protocols_that_are_written_out_are_valid() -> None:
    written = [toml_tables.fill(Protocol, table, str(PAGE)) for table in TABLES if "schemes" in table]
    assert [(each.size, each.schemes) for each in written] == [(224, (10, 90)), (224, (2, 6)), (224, (1, 12, 144))]
    # The last is `googlenet` with the schemes of `inception-299`.
    assert written[-1].crops == PROTOCOLS["googlenet"].crops
    assert written[-1].schemes == PROTOCOLS["inception-299"].schemes


def test_every_protocol_of_a_manifest_is_shipped_or_written_out() -> None:
    names = {table["name"] for table in TABLES if "schemes" in table}
    for table in TABLES:
        for member in table.get("members", []):
            protocol = member["protocol"]
            assert protocol in PROTOCOLS or protocol.removesuffix(".toml") in names
