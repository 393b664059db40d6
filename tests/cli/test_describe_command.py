import io
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from conftest import Cli

from ensemble_eval.paper.counting import count_network
from ensemble_eval.paper.published import TABLE_1


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


def test_the_csv_has_whole_counts_beside_what_is_printed(cli: Cli) -> None:
    frame = pd.read_csv(io.StringIO(cli("describe", "--format", "csv").out)).set_index("layer")
    counts = {count.name: count for count in count_network("googlenet-paper", 1000)}
    assert frame.loc["conv1", "weights"] == 7 * 7 * 3 * 64
    assert frame.loc["inception5b", "multiply_adds"] == counts["inception5b"].multiply_adds
    assert frame["weights_printed"].dropna().to_dict() == {
        name: parameters for name, (parameters, _) in TABLE_1.items()
    }


def test_markdown_marks_what_differs_and_ends_with_the_claims(cli: Cli) -> None:
    lines = cli("describe", "--format", "md").out.splitlines()
    assert lines[0] == "**Table 1: googlenet-paper, width 1, 1000 classes**"
    cells = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert cells["conv1"].count("≠") == 2
    assert "≠" not in cells["inception3a"]
    assert any("the paper says 1.5 billion" in line for line in lines)


def test_the_latex_has_every_row_and_compiles(cli: Cli, tmp_path: Path) -> None:
    latex = cli("describe", "--format", "tex").out
    assert latex.count(r"\\" + "\n") >= len(TABLE_1)
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no pdflatex")
    text = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + latex + r"\end{document}"
    (tmp_path / "table1.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table1.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
