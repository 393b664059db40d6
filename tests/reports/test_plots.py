"""Plots: the same bytes for the same numbers, names as they are, and nothing left behind."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from ensemble_eval.reports.plots import (
    ErrorPoint,
    ReliabilityCurve,
    SizeCurve,
    classes_plot,
    cost_plot,
    matrix_plot,
    reliability_plot,
    rows_plot,
    sizes_plot,
    surface_plot,
)
from ensemble_eval.tables.drawing import Plot

pytestmark = pytest.mark.slow
POINTS = [ErrorPoint("1×1", 1, 10.0, 9.0, 11.2, 10.07), ErrorPoint("7×144", 1008, 6.5, 5.9, 7.4)]
NAMES = ["<b>$x^2$</b>", "中文 & кот", "a\nb"]


def every_plot() -> list[Plot]:
    matrix = np.array([[np.nan, 0.2, 0.9], [0.2, np.nan, 0.4], [0.9, 0.4, np.nan]])
    surface = 10 - np.add.outer(np.arange(2.0), np.linspace(0, 3, 10))
    return [
        rows_plot(POINTS),
        cost_plot(POINTS, {1: [(1, 10.0), (2, 9.0)], 2: [(2, 9.5), (4, 8.0)]}),
        sizes_plot(SizeCurve([1, 2], [10.0, 8.0], [9.0, 8.0], [12.0, 8.0], [9.5, 8.1]), 10),
        matrix_plot(NAMES, matrix, name="matrix", title="A matrix", alternative="Numbers.", table="diversity"),
        surface_plot(surface, [(1, 1), (2, 10), (7, 144)]),
        reliability_plot([ReliabilityCurve("1×1", [0.2, 0.9], [0.1, 1.0])], {"1×1": 0.12}),
        classes_plot([0.0, 50.0, 50.0], [0.0, 25.0, 25.0], "1×1", "7×144", "classes_top5"),
    ]


@pytest.fixture(scope="module")
def plots() -> dict[str, Plot]:
    return {plot.name: plot for plot in every_plot()}


def test_the_same_numbers_give_the_same_bytes(plots: dict[str, Plot]) -> None:
    assert {plot.name: plot for plot in every_plot()} == plots


def test_pictures_are_files_of_their_format_without_a_date(plots: dict[str, Plot]) -> None:
    for plot in plots.values():
        assert plot.png.startswith(b"\x89PNG")
        assert ET.fromstring(plot.svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert "dc:date" not in plot.svg
        assert b"Software" not in plot.png


def test_names_are_words_and_not_formulas(plots: dict[str, Plot]) -> None:
    words = {
        element.text for element in ET.fromstring(plots["matrix"].svg).iter("{http://www.w3.org/2000/svg}text")
    }
    assert {"<b>$x^2$</b>", "中文 & кот", "0.90"} <= words


def test_alternatives_say_the_numbers(plots: dict[str, Plot]) -> None:
    assert "1×1 10.00%; 7×144 6.50%" in plots["rows"].alternative
    assert plots["surface"].alternative.startswith("Top-5 error of the first 1 to 2 models and 1 to 10 crops")
    assert "falls in 2 classes, rises in 0, and stays in 1" in plots["classes"].alternative
    assert plots["cost"].table == "surface"


@pytest.mark.processes
def test_matplotlib_leaves_home_folder_and_environment_as_they_were(tmp_path: Path) -> None:
    code = (
        "import os; before = dict(os.environ)\n"
        "from ensemble_eval.reports.plots import ErrorPoint, rows_plot\n"
        "rows_plot([ErrorPoint('1×1', 1, 10.0, 9.0, 11.2)])\n"
        "assert dict(os.environ) == before\n"
        "import sys; assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary)}
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []
