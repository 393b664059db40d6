"""The tables of a run of ten images whose label ranks are given, so that every number can be counted by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import CLASS_NAMES
from numpy.typing import NDArray
from simulated_runs import stored_run

from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import WNIDS
from ensemble_eval.paper.published import TABLE_2
from ensemble_eval.results.analyses import Analyses, analyse
from ensemble_eval.results.class_tables import calibration_tables, class_names, class_tables
from ensemble_eval.results.row_tables import (
    comparison_tables,
    member_tables,
    table2_table,
    table3_table,
    with_daggers,
)
from ensemble_eval.tables.formats import table_csv, table_latex
from ensemble_eval.tables.table import Table

# Four ants, three bees, three cats.
LABELS = (0, 0, 0, 0, 1, 1, 1, 2, 2, 2)
# The label ranks of two members in each image, by scheme.
RANKS = {1: ("0065020060", "0605006560"), 10: ("0050010006", "0500005060")}
# Which member has the greater differences between its scores, so that the ensemble ranks all classes as it does.
DECISIVE = {1: "aabaabaaba", 10: "aabaabaaaa"}
# Scores in the order of the ranking, whose sums are 1.
SURE = (0.42, 0.25, 0.14, 0.10, 0.05, 0.03, 0.01)
UNSURE = (0.146, 0.145, 0.144, 0.143, 0.142, 0.141, 0.139)


def _scores() -> Iterator[ImageScores]:
    for image, label in enumerate(LABELS):
        means = {crops: np.stack([_vector(label, image, crops, at) for at in (0, 1)]) for crops in (1, 10)}
        yield ImageScores(f"{CLASS_NAMES[label]}/{image}.png", label, means, passes=20)


def _vector(label: int, image: int, crops: int, member: int) -> NDArray[np.float64]:
    """Scores of seven classes, of which the label has its rank and the others follow their index."""
    order = [index for index in range(7) if index != label]
    order.insert(int(RANKS[crops][member][image]), label)
    vector = np.empty(7)
    vector[order] = SURE if DECISIVE[crops][image] == "ab"[member] else UNSURE
    return vector


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Analyses:
    return analyse(stored_run(tmp_path_factory.mktemp("run"), list(_scores())), margin_points=5)


def csv(tables: Sequence[Table], name: str) -> list[str]:
    [table] = [each for each in tables if each.name == name]
    return table_csv(table).splitlines()


def test_table3_has_wilsons_and_tangos_intervals_and_the_papers_figures(found: Analyses) -> None:
    """Wrong in the top 5: images 2, 3, 8; then 2, 9; the ensemble's 3, 8; then 9."""
    table = table3_table(found)
    assert table.title == "Table 3: errors on 10 images"
    assert table_csv(table.without("verdict")).splitlines() == [
        "models,crops,cost,top5_error,top5_low,top5_high,compared_to_base,paired_low,paired_high,"
        "fixed,broken,adjusted_p,top1_error,paper_top5_error,paper_compared_to_base",
        "1,1,1,30.0000,10.7791,60.3222,0.0000,,,,,,40.0000,10.0700,0.0000",
        "1,10,10,20.0000,5.6682,50.9838,-10.0000,-45.3544,28.0053,2,1,1,30.0000,9.1500,-0.9200",
        "2,1,2,20.0000,5.6682,50.9838,-10.0000,-40.4150,20.5286,1,0,1,20.0000,,",
        "2,10,20,10.0000,1.7876,40.4150,-20.0000,-55.1453,21.7085,3,1,1,10.0000,,",
    ]
    assert [row[0] for row in table.only("verdict").rows] == ["base", *["cannot be told apart"] * 3]
    assert "adjusted by Holm's method over 3 comparisons" in table.notes[-1]
    bare = table3_table(found, with_paper=False)
    assert bare == replace(table.without("paper_top5_error", "paper_compared_to_base"), notes=bare.notes)


def test_verdicts_become_signs_that_a_note_explains(found: Analyses) -> None:
    base, *others = found.comparisons[5].against_base
    verdicts = [
        replace(base, adjusted_p=0.01, difference_points=-3),
        replace(base, adjusted_p=0.01, difference_points=3, adjusted_equivalence_p=0.01),
        replace(base, adjusted_equivalence_p=0.01),
    ]
    comparisons = replace(found.comparisons[5], against_base=tuple(verdicts[: len(others) + 1]))
    table = with_daggers(table3_table(replace(found, comparisons={5: comparisons})).only("crops", "verdict"))
    assert [row[1] for row in table.rows] == ["", "†", "‡", "§"]
    assert table.notes[-1] == (
        "Compared with the first row: † better, ‡ worse, § equal. Rows without a sign cannot be told apart from "
        "the first row."
    )
    assert r"10 & \textdagger{} \\" in table_latex(table)
    assert (
        with_daggers(table3_table(found)).notes[-1]
        == "Rows without a sign cannot be told apart from the first row."
    )
    assert with_daggers(table2_table(found, "images")) == table2_table(found, "images")


def test_the_papers_figures_are_marked_only_where_a_run_counts_otherwise(found: Analyses) -> None:
    """The images are of three of the seven classes."""
    usual = replace(found, counted=())
    titles = [
        [column.title for column in table3_table(each).columns if column.key.startswith("paper")]
        for each in (found, usual)
    ]
    assert titles[0] == [f"{title} (not comparable)" for title in titles[1]]
    assert "they are not comparable" in table3_table(found).notes[0]
    assert "measured here, not comparable" in table_csv(table2_table(found, "ten images"))
    for each in (table3_table(usual), table3_table(found, with_paper=False), table2_table(usual, "ten images")):
        assert not any("not comparable" in note for note in each.notes)


def test_table2_has_the_last_row_of_the_run(found: Analyses) -> None:
    """Its error of 10% stands behind all entries with a higher one."""
    table = table2_table(replace(found, counted=()), "ten images")
    place = sum(row[3] > 10 for row in TABLE_2.rows)  # type: ignore[operator]  # an error
    assert 0 < place < len(TABLE_2.rows)
    here = '"this run, 2 × 10",,,10.0000,1.7876,40.4150,,measured here,ten images'
    assert table_csv(table).splitlines()[1:][place] == here


def test_rows_are_compared_with_the_first_and_with_every_later_one(found: Analyses) -> None:
    tables = comparison_tables(found)
    header, *lines = csv(tables, "against_base_top1")
    assert header == (
        "base,other,base_error,other_error,fixed,broken,difference,difference_low,difference_high,"
        "bootstrap_low,bootstrap_high,mcnemar_p,adjusted_p,adjusted_equivalence_p,detectable,verdict"
    )
    assert lines == [
        "1×1,1×10,40.0000,30.0000,2,1,-10.0000,-45.3544,28.0053,,,1,1,1,,cannot be told apart",
        "1×1,2×1,40.0000,20.0000,2,0,-20.0000,-50.9838,13.3039,,,0.5,1,1,,cannot be told apart",
        "1×1,2×10,40.0000,10.0000,4,1,-30.0000,-63.9782,15.2925,,,0.375,1,1,,cannot be told apart",
    ]
    pairs = [line.split(",")[:6] for line in csv(tables, "between_rows_top5")[1:]]
    assert pairs == [
        ["1×1", "1×10", "30.0000", "20.0000", "2", "1"],
        ["1×1", "2×1", "30.0000", "20.0000", "1", "0"],
        ["1×1", "2×10", "30.0000", "10.0000", "3", "1"],
        ["1×10", "2×1", "20.0000", "20.0000", "2", "2"],
        ["1×10", "2×10", "20.0000", "10.0000", "1", "0"],
        ["2×1", "2×10", "20.0000", "10.0000", "2", "1"],
    ]


def test_members_are_described_for_each_error_and_scheme(found: Analyses) -> None:
    """Wrong of a and b, top-5: 2 and 3 with ten crops, 3 and 5 with one; top-1: 3 and 3, 4 and 5."""
    tables = member_tables(found)
    # The folds are drawn.
    assert csv([tables[0].without("cross_fitted_error")], "one_model") == [
        "error_of,crops,chosen,chosen_error,first,first_error,mean_error,spread,members_error_low,members_error_high",
        "top-5,10,a,20.0000,a,20.0000,25.0000,5,20.0000,30.0000",
        "top-5,1,a,30.0000,a,30.0000,40.0000,10,30.0000,50.0000",
        "top-1,10,a,30.0000,a,30.0000,30.0000,0,30.0000,30.0000",
        "top-1,1,a,40.0000,a,40.0000,45.0000,5,40.0000,50.0000",
    ]
    # The correlation of 10 images of which a alone has two wrong and b alone three: -6 / sqrt(2 × 8 × 3 × 7).
    assert csv(tables, "diversity") == [
        "error_of,crops,one,other,disagreement,both_wrong,error_correlation",
        "top-5,10,a,b,50.0000,0.0000,-0.327327",
        "top-5,1,a,b,40.0000,20.0000,0.218218",
        "top-1,10,a,b,60.0000,0.0000,-0.428571",
        "top-1,1,a,b,50.0000,20.0000,0.000000",
    ]


def test_ensembles_are_listed_by_size_and_one_by_one(found: Analyses) -> None:
    tables = member_tables(found)
    assert csv(tables, "sizes")[:5] == [
        "error_of,crops,size,subsets,mean_error,spread,best,best_error,worst,worst_error",
        "top-5,10,1,2,25.0000,5,a,20.0000,b,30.0000",
        "top-5,10,2,1,10.0000,0,a + b,10.0000,a + b,10.0000",
        "top-5,1,1,2,40.0000,10,a,30.0000,b,50.0000",
        "top-5,1,2,1,20.0000,0,a + b,20.0000,a + b,20.0000",
    ]
    assert csv(tables, "subsets")[:7] == [
        "error_of,crops,size,members,wrong,error,error_low,error_high,whole_p,whole_rate",
        "top-5,10,1,a,2,20.0000,5.6682,50.9838,1,1",
        "top-5,10,1,b,3,30.0000,10.7791,60.3222,0.625,1",
        "top-5,10,2,a + b,1,10.0000,1.7876,40.4150,,",
        "top-5,1,1,a,3,30.0000,10.7791,60.3222,1,1",
        "top-5,1,1,b,5,50.0000,23.6593,76.3407,0.25,0.75",
        "top-5,1,2,a + b,2,20.0000,5.6682,50.9838,,",
    ]
    # The folds are drawn, so that only the error on the images that chose the members is the same in every run.
    assert [line.rpartition(",")[0] for line in csv(tables, "greedy")[:5]] == [
        "error_of,crops,size,added,in_sample_error",
        "top-5,10,1,a,20.0000",
        "top-5,10,2,b,10.0000",
        "top-5,1,1,a,30.0000",
        "top-5,1,2,b,20.0000",
    ]
    left_out = [line.split(",")[:8] for line in csv(tables, "leave_one_out")]
    assert left_out[1:5] == [
        ["top-5", "10", "a", "10.0000", "30.0000", "1", "3", "20.0000"],
        ["top-5", "10", "b", "10.0000", "20.0000", "0", "1", "10.0000"],
        ["top-5", "1", "a", "20.0000", "50.0000", "0", "3", "30.0000"],
        ["top-5", "1", "b", "20.0000", "30.0000", "0", "1", "10.0000"],
    ]


def test_one_member_has_no_tables_of_pairs(tmp_path: Path) -> None:
    alone = [
        replace(each, mean_softmax={crops: scores[:1] for crops, scores in each.mean_softmax.items()})
        for each in _scores()
    ]
    tables = member_tables(analyse(stored_run(tmp_path, alone)))
    assert [table.name for table in tables] == ["one_model", "sizes", "subsets", "greedy"]


def test_classes_and_images_that_move(found: Analyses) -> None:
    tables = class_tables(found, CLASS_NAMES)
    assert [table.name for table in tables] == [
        *("classes_top5", "moved_top5", "classes_top1", "moved_top1"),
        "confused",
    ]
    assert csv(tables, "classes_top5") == [
        "class_index,class,images,first_error,last_error,moved,fixed,broken,p,rate",
        "0,ant,4,50.0000,0.0000,-50.0000,2,0,0.5,1",
        "1,bee,3,0.0000,0.0000,0.0000,0,0,1,1",
        "2,cat,3,33.3333,33.3333,0.0000,1,1,1,1",
    ]
    assert csv(tables, "moved_top1") == [
        *("image,change", "cat/9.png,broken"),
        *("ant/2.png,fixed", "ant/3.png,fixed", "bee/5.png,fixed", "cat/8.png,fixed"),
    ]
    assert csv(tables, "confused") == ["label,answered,images,images_of_label", "cat,ant,1,3"]
    assert csv(class_tables(found, None), "confused")[1] == "class 2,class 0,1,3"
    assert not any("several labels" in note for table in tables for note in table.notes)
    several = replace(found.decisions, several_labels=tuple((label,) for label in LABELS))
    for table in class_tables(replace(found, decisions=several), None):
        if not table.name.startswith("moved"):
            assert table.notes[-1] == "An image with several labels is listed under each of them."


def test_calibration_is_the_distance_of_confidence_from_accuracy_in_each_bin(found: Analyses) -> None:
    """One model with one crop: 7 images at 0.42, of which 6 are right, and 3 at 0.146, of which none is."""
    tables = calibration_tables(found)
    assert [line.split(",")[:4] for line in csv(tables, "calibration")] == [
        ["row", "accuracy", "mean_confidence", "ece"],
        ["1×1", "0.600000", "0.337800", "0.349800"],  # 0.7 × (6 / 7 - 0.42) + 0.3 × 0.146
        ["1×10", "0.700000", "0.365200", "0.393200"],
        ["2×1", "0.800000", "0.281600", "0.518400"],
        ["2×10", "0.900000", "0.281800", "0.618200"],
    ]
    has_temperature = [row[4] is not None for row in tables[0].rows]
    assert has_temperature == [True, False, False, True]
    header, *bins = csv(tables, "reliability")
    assert header == "row,scores,low,high,images,mean_confidence,accuracy"
    curves = list(dict.fromkeys(tuple(line.split(",")[:2]) for line in bins))
    stored, fitted = "as stored", "cross-fitted"
    assert curves == [
        *(("1×1", stored), ("2×10", stored), ("2×10", fitted), ("1×1", fitted)),
        *(("1×10", stored), ("2×1", stored)),
    ]
    assert [line for line in bins if line.startswith("1×1,as stored") and not line.endswith(",0,,")] == [
        "1×1,as stored,0.133333,0.200000,3,0.146000,0.000000",
        "1×1,as stored,0.400000,0.466667,7,0.420000,0.857143",
    ]


def test_without_best_classes_there_are_no_such_tables(found: Analyses) -> None:
    less = replace(found, reliabilities={}, classes=replace(found.classes, confused=None))
    assert calibration_tables(less) == []
    assert "confused" not in [table.name for table in class_tables(less, None)]


def test_names_of_classes_are_as_many_as_the_classes_of_the_run(tmp_path: Path) -> None:
    nothing = np.array([], int)
    file = tmp_path / "names.txt"
    file.write_text("ant\nbee\n")
    assert class_names(file, [], nothing, 2) == ["ant", "bee"]
    assert class_names("imagenet-1k", [], nothing, 1000) == list(WNIDS)
    with pytest.raises(InputError, match="names 2 classes, and the run has 3"):
        class_names(file, [], nothing, 3)


def test_the_seed_is_nought_unless_another_is_given(tmp_path: Path) -> None:
    run = stored_run(tmp_path, list(_scores()))
    temperatures = analyse(run).temperatures
    assert temperatures == analyse(run, seed=0).temperatures
    assert temperatures != analyse(run, seed=1).temperatures
