"""What a report says of more crops, of views and of averages, for a run that kept every rank."""

from pathlib import Path

import pandas as pd
import pytest
from nasty_run import surface_run

import ensemble_eval as ee
from ensemble_eval.tables.table import in_words

pytestmark = pytest.mark.slow
MEMBERS = 3


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ee.Results:
    return surface_run(tmp_path_factory.mktemp("surface"), MEMBERS)


@pytest.fixture(scope="module")
def folder(results: ee.Results) -> Path:
    return results.report(gallery=False).folder


def test_the_surface_has_every_cell_and_its_corner_is_the_last_row(results: ee.Results, folder: Path) -> None:
    surface = pd.read_csv(folder / "surface.csv")
    expected = results.crop_study().surface(5)
    assert surface["top5_error"].tolist() == expected["error_percent"].round(4).tolist()
    assert len(surface) == MEMBERS * 144
    table3 = pd.read_csv(folder / "table3.csv")
    assert surface["top5_error"].iloc[-1] == table3["top5_error"].iloc[-1]
    assert surface["top1_error"].iloc[-1] == table3["top1_error"].iloc[-1]


def test_views_and_averages_are_those_of_the_study(results: ee.Results, folder: Path) -> None:
    views = pd.read_csv(folder / "views.csv").query("error_of == 'top-5'")
    assert (
        views["error_without"].tolist() == results.crop_study().views()["error_without_percent"].round(4).tolist()
    )
    averaging = pd.read_csv(folder / "averaging.csv").query("error_of == 'top-1'")
    expected = results.crop_study().averaging(1)
    assert averaging["rule"].tolist() == expected["rule"].tolist()
    assert averaging["error"].tolist() == expected["error_percent"].round(4).tolist()
    assert averaging["verdict"].tolist() == ["the paper's", *expected["verdict"][1:]]


def test_the_page_says_where_more_crops_stop_paying(results: ee.Results, folder: Path) -> None:
    page = (folder / "report.html").read_text()
    found = results.crop_study().enough_crops()
    said = f"going beyond {in_words(found.crops, 'crop')} brings no significant improvement."
    assert (said in page) == (found.crops < 144)
    assert (folder / "plots" / "surface.svg").exists()
    assert pd.read_csv(folder / "enough_crops.csv")["crops"].iloc[0] == found.crops
    assert 'href="#table-surface"' in page
