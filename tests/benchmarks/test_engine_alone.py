import re

import pytest

from benchmarks import engine_alone


def test_every_configuration_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    engine_alone.main(["--rounds", "1", "--shorten", "400", "--batch-size", "16"])
    rows = re.findall(
        r"^(\d+) × (\d+) of ([\w-]+), batches of 16: [\d.]+ \([\d.]+–[\d.]+\) images/s, n = 1$", _out(capsys), re.M
    )
    assert rows == [
        ("1", "1", "googlenet"),
        ("1", "10", "googlenet"),
        ("7", "144", "googlenet"),
        ("7", "144", "inception-299"),
    ]


def _out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out
