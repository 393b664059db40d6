from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ensemble_eval import toml_tables
from ensemble_eval.errors import InputError
from ensemble_eval.fields import bounds


@dataclass(frozen=True)
class Row:
    low: float = field(default=1.0, metadata=bounds(0, above_low=True))
    high: float = 2.0
    note: str | None = None

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise InputError("low is at most high")


def test_a_table_becomes_its_dataclass() -> None:
    assert toml_tables.fill(Row, {"low": 1, "note": "one"}, "x.toml") == Row(1.0, 2.0, "one")
    assert toml_tables.fill(Row, {}, "x.toml") == Row()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"low": 0}, "low is a number above 0, not 0"),
        ({"low": 3}, "low is at most high"),
        ({"note": 3}, "note is a text, not 3"),
        ({"colour": 3}, "unknown field 'colour'; remove it or fix its name (known are low, high, note)"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_its_place(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        toml_tables.fill(Row, table, "x.toml")
    assert str(refusal.value) == f"x.toml: {sentence}"


def test_a_field_may_have_a_default_and_still_be_required() -> None:
    with pytest.raises(InputError, match=r"^x\.toml: the field 'high' is missing; add it$"):
        toml_tables.fill(Row, {"low": 1.0}, "x.toml", required=("low", "high"))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    path.write_bytes(b"# " + b"x" * (1 << 20))
    with pytest.raises(InputError, match=r"large\.toml is larger than 1048576 bytes; is it the right file\?$"):
        toml_tables.read(path)
