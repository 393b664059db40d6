"""Published errors that stand beside a run: only where protocol and architectures match."""

from collections.abc import Sequence
from typing import Any

import pytest

from ensemble_eval.crops.protocols import PROTOCOLS
from ensemble_eval.paper.published import NOTHING_PUBLISHED, OTHER_ERRORS, TABLE_3, published_errors
from ensemble_eval.scoring.table3 import Row


def _errors(
    protocol: str, archs: Sequence[str], one_model: str
) -> dict[tuple[int, int], tuple[float, float | None]]:
    """Top-5 and top-1 errors by models and crops."""
    found = published_errors(protocol, archs, one_model).errors
    return {key: (each.top5_error, each.top1_error) for key, each in found.items()}


# As the papers print them: Szegedy et al., AAAI 2017, tables 1 to 4; Simonyan & Zisserman, tables 5 and 6; He et
# al., table 3.
@pytest.mark.parametrize(
    ("protocol", "archs", "expected"),
    [
        ("inception-299", ["inception_v3"], {(1, 1): (5.6, 21.2), (1, 12): (4.6, 19.8), (1, 144): (4.3, 18.9)}),
        ("inception-299", ["inception_v4"], {(1, 1): (5.0, 20.0), (1, 12): (4.2, 18.7), (1, 144): (3.8, 17.7)}),
        (
            "inception-299",
            ["inception_resnet_v2"],
            {(1, 1): (4.9, 19.9), (1, 12): (4.1, 18.7), (1, 144): (3.7, 17.8)},
        ),
        (
            "inception-299",
            ["inception_v3"] * 4,
            {(1, 1): (5.6, 21.2), (1, 12): (4.6, 19.8), (1, 144): (4.3, 18.9), (4, 144): (3.6, 17.3)},
        ),
        # Three of one and one of the other, in any order; one model is the first here.
        (
            "inception-299",
            ["inception_v4", "inception_resnet_v2", "inception_resnet_v2", "inception_resnet_v2"],
            {(1, 1): (5.0, 20.0), (1, 12): (4.2, 18.7), (1, 144): (3.8, 17.7), (4, 144): (3.1, 16.4)},
        ),
        ("vgg-150", ["vgg16"], {(1, 150): (7.5, 24.6)}),
        ("vgg-150", ["vgg19", "vgg16"], {(1, 150): (7.4, 24.6), (2, 150): (7.2, 23.9)}),
        ("resnet-10", ["resnet34"], {(1, 10): (7.46, 24.52)}),
        ("resnet-10", ["resnet50"], {(1, 10): (6.71, 22.85)}),
        ("resnet-10", ["resnet101"], {(1, 10): (6.05, 21.75)}),
        ("resnet-10", ["resnet152"], {(1, 10): (5.71, 21.43)}),
        # Two of them are in no table, but one of them is.
        ("resnet-10", ["resnet50", "resnet101"], {(1, 10): (6.71, 22.85)}),
        (
            "inception-299",
            ["inception_v3"] * 3,
            {(1, 1): (5.6, 21.2), (1, 12): (4.6, 19.8), (1, 144): (4.3, 18.9)},
        ),
        ("inception-299", ["resnet50"], {}),
        ("resnet-10", ["inception_v3"], {}),
        ("torchvision-ten-crop", ["resnet50"], {}),
        ("timm", ["inception_v3"], {}),
        ("small and large", ["inception_v3", "inception_v3"], {}),
        ("inception-299", ["inception_v3_like"], {}),
    ],
)
def test_what_the_papers_print_stands_beside_a_run_of_the_same(
    protocol: str, archs: list[str], expected: dict[tuple[int, int], tuple[float, float]]
) -> None:
    assert _errors(protocol, archs, archs[0]) == expected
    assert not published_errors(protocol, archs, archs[0]).of_the_paper


@pytest.mark.parametrize("arch", ["timm:inception_v3.tv_in1k", "torchvision:inception_v3", "timm:inception_v3"])
def test_the_librarys_name_of_an_architecture_does_not_matter(arch: str) -> None:
    assert _errors("inception-299", [arch], arch) == _errors("inception-299", ["inception_v3"], "inception_v3")


@pytest.mark.parametrize("archs", [["googlenet"], ["resnet50"] * 7, ["googlenet", "python:mine:net"]])
def test_the_papers_table_3_stands_beside_every_run_of_its_protocol(archs: list[str]) -> None:
    found = published_errors("googlenet", archs, archs[0])
    assert found.of_the_paper
    assert {key: each.top5_error for key, each in found.errors.items()} == TABLE_3
    assert {each.top1_error for each in found.errors.values()} == {None}
    assert (found.who, found.sources) == ("the paper", "")
    titles = [column[1] for column in found.columns()]
    assert titles == ["paper, top-5", "paper, vs. base"]


def test_every_number_has_a_source_and_a_shipped_protocol() -> None:
    for each in OTHER_ERRORS:
        assert each.crops in PROTOCOLS[each.protocol].schemes
        assert list(each.archs) == sorted(each.archs)
        assert "table" in each.source
        assert 0 < each.top5_error < (each.top1_error or 0) < 100
    keys = [(each.protocol, each.archs, each.crops) for each in OTHER_ERRORS]
    assert len(set(keys)) == len(keys)


def test_the_sources_are_named_in_a_sentence() -> None:
    assert published_errors("resnet-10", ["resnet50"], "resnet50").sources == (
        "The published errors are from 10 crops: He et al., arXiv:1512.03385, table 3."
    )
    assert published_errors("resnet-10", ["a"], "a").sources == ""
    assert NOTHING_PUBLISHED.columns() == ()


def _row(models: int, crops: int) -> Row:
    return Row(models, crops, models * crops, 9.0, 0.0, 20.0, 9, 20, 100, 8.0, 10.0)


def _differences(protocol: str, archs: Sequence[str], rows: Sequence[Row]) -> list[Any]:
    """What the column says that compares published errors with the published one of the first row."""
    [difference] = [
        value for _, title, _, value in published_errors(protocol, archs, archs[0]).columns() if "base" in title
    ]
    return [difference(row) for row in rows]


def test_published_errors_are_compared_with_that_of_one_model_with_the_fewest_crops() -> None:
    rows = [_row(1, 1), _row(1, 12), _row(1, 144), _row(4, 1), _row(4, 144)]
    expected = [0, 4.6 - 5.6, 4.3 - 5.6, None, 3.6 - 5.6]
    assert _differences("inception-299", ["inception_v3"] * 4, rows) == expected
    assert _differences("googlenet", ["a"], [_row(1, 1), _row(1, 10), _row(7, 144)]) == pytest.approx(
        [0, 9.15 - 10.07, 6.67 - 10.07]
    )


@pytest.mark.parametrize(("protocol", "arch"), [("resnet-10", "resnet50"), ("vgg-150", "vgg16")])
def test_without_a_published_error_for_the_first_row_nothing_is_compared_with_it(protocol: str, arch: str) -> None:
    """The papers print no error with one crop, or with the 50 of one scale."""
    titles = [column[1] for column in published_errors(protocol, [arch], arch).columns()]
    assert titles == ["published, top-5", "published, top-1"]
