import pytest
from conftest import Cli


def test_table_1_is_printed_with_differences_and_claims(cli: Cli) -> None:
    finished = cli("describe")
    assert finished.code == 0
    lines = {line.split("│")[1].strip(): line for line in finished.out.splitlines() if line.count("│") > 2}
    assert "2.7K" in lines["conv1"]
    assert "≠" in lines["conv1"]
    assert "≠" not in lines["inception3a"]
    assert "multiply-adds 1,582,671,872: 1.58 billion; the paper says 1.5 billion" in finished.out
    assert "8.7 times as many; the paper says 12 times" in finished.out


@pytest.mark.parametrize("arch", ["googlenet", "googlenet-naive"])
def test_other_architectures_are_described_too(cli: Cli, arch: str) -> None:
    finished = cli("describe", "--arch", arch, "--width", "0.5", "--classes", "10")
    assert finished.code == 0
    assert f"Table 1: {arch}, width 0.5, 10 classes" in finished.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--arch", "resnet"], "unknown architecture 'resnet'; known are googlenet, googlenet-paper"),
        (["--width", "-1"], "width is above 0 and at most 16, not -1.0"),
        (["--width", "nan"], "width is above 0 and at most 16, not nan"),
        (["--classes", "0"], "a network needs at least one class, not 0"),
    ],
)
def test_what_cannot_be_described_is_refused(cli: Cli, options: list[str], sentence: str) -> None:
    finished = cli("describe", *options)
    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith("error: ")
    assert sentence in finished.err
