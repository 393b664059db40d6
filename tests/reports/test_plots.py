"""Plots: the same bytes for the same numbers, names as they are, and nothing left behind."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.paper.published import published_errors
from ensemble_eval.reports.plots import (
    calibration_plot,
    classes_plot,
    cost_plot,
    members_plot,
    sizes_plot,
    surface_plot,
    table3_plot,
)
from ensemble_eval.results.analyses import analyse
from ensemble_eval.scoring.calibration import reliability
from ensemble_eval.scoring.classes import ClassAnalysis, ClassErrors
from ensemble_eval.scoring.subsets import greedy_selection, size_summaries
from ensemble_eval.scoring.table3 import Configuration, Row
from ensemble_eval.tables.drawing import Picture

pytestmark = pytest.mark.slow
ROWS = [
    Row(1, 1, 1, 10.0, 0.0, None, 100, None, 1000, 9.0, 11.2),
    Row(7, 144, 1008, 6.5, -3.5, None, 65, None, 1000, 5.9, 7.4),
]
NAMES = ("<b>$x^2$</b>", "中文 & кот", "b")


def every_plot() -> list[Picture]:
    surface = 10 - np.add.outer(np.arange(2.0), np.linspace(0, 3, 10))
    wrong, subsets = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]], bool), [(0,), (1,), (0, 1)]
    errors = (ClassErrors(0, 4, 0, 0, 0, 0), *(ClassErrors(index, 4, 2, 1, 1, 0) for index in (1, 2)))
    ends = Configuration(1, 1, "a"), Configuration(7, 144, "ensemble")
    plots = [
        table3_plot(ROWS, published_errors("googlenet", [], "")),
        cost_plot(ROWS, surface),
        sizes_plot(size_summaries(wrong, subsets), greedy_selection(wrong, subsets, folds=2), 10),
        surface_plot(surface, ROWS),
        calibration_plot({"1×1": reliability(np.array([0.2, 0.9]), np.array([False, True]))}),
        classes_plot(ClassAnalysis(*ends, {5: errors}, {}, None)),
    ]
    return [plot.drawn() for plot in plots]


@pytest.fixture(scope="module")
def plots() -> dict[str, Picture]:
    return {each.plot.name: each for each in every_plot()}


def test_the_same_numbers_give_the_same_bytes(plots: dict[str, Picture]) -> None:
    assert {each.plot.name: each for each in every_plot()} == plots


def test_pictures_are_files_of_their_format_without_a_date(plots: dict[str, Picture]) -> None:
    for plot in plots.values():
        assert plot.png.startswith(b"\x89PNG")
        assert ET.fromstring(plot.svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert "dc:date" not in plot.svg
        assert b"Software" not in plot.png


def test_names_are_words_and_not_formulas(tmp_path: Path) -> None:
    found = analyse(stored_run(tmp_path, simulated_scores(30, 3), names=NAMES))
    drawing = ET.fromstring(members_plot(found).drawn().svg)
    assert set(NAMES) <= {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}


def test_alternatives_say_the_numbers(plots: dict[str, Picture]) -> None:
    assert "1×1 10.00%; 7×144 6.50%" in plots["rows"].alternative
    assert plots["surface"].alternative.startswith("Top-5 error of the first 1 to 2 models and 1 to 10 crops")
    assert "falls in 2 classes, rises in 0, and stays the same in 1" in plots["classes"].alternative
    assert plots["cost"].plot.table == "surface"


@pytest.mark.parametrize(
    ("costs", "ticks"), [((12, 24), {"20"}), ((1, 7), {"1", "2", "5"}), ((1, 1008), {"1", "1000"})]
)
def test_the_axis_of_costs_has_labels_however_short_it_is(costs: tuple[int, int], ticks: set[str]) -> None:
    rows = [replace(row, cost=cost) for row, cost in zip(ROWS, costs, strict=True)]
    drawing = ET.fromstring(cost_plot(rows).drawn().svg)
    assert ticks <= {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}


def test_points_have_numbers_where_their_marks_are(plots: dict[str, Picture]) -> None:
    (x, y, low), (more, below, high) = plots["rows"].points[:2]
    assert (low, high) == ("1×1: 10.00% (95% interval 9.0 to 11.2%)", "7×144: 6.50% (95% interval 5.9 to 7.4%)")
    assert 0 < more < x < 1
    assert 0 < y < below < 1
    assert "the paper, 7×144: 6.67%" in {point[2] for point in plots["rows"].points}
    assert len(plots["surface"].points) == 20
    assert {point[2] for point in plots["classes"].points} == {
        "class 0: 0.0% with 1×1, 0.0% with 7×144",
        "class 1 and 1 more: 50.0% with 1×1, 25.0% with 7×144",
    }


@pytest.mark.processes
def test_matplotlib_leaves_home_folder_and_environment_as_they_were(tmp_path: Path) -> None:
    code = (
        "import os; before = dict(os.environ)\n"
        "from ensemble_eval.reports.plots import table3_plot; from ensemble_eval.scoring.table3 import Row\n"
        "table3_plot([Row(1, 1, 1, 10.0, 0.0, None, 100, None, 1000, 9.0, 11.2)], None).drawn()\n"
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
