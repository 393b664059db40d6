import re

import pytest

from benchmarks import engine_alone


def test_every_configuration_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    engine_alone.main(["--rounds", "1", "--shorten", "400", "--batch-size", "16"])
    rows = re.findall(
        r"^(\d+) × (\d+), batches of 16: [\d.]+ \([\d.]+–[\d.]+\) images/s, n = 1$", _out(capsys), re.M
    )
    assert rows == [("1", "1"), ("1", "10"), ("7", "144")]


def _out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out
