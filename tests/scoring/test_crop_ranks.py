"""Ranks in other means, against loops that say plainly what each of them is."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.scoring.crop_ranks import RULES, CropGroup, CropRanks, crop_ranks, groups_of
from ensemble_eval.scoring.metrics import label_rank

MEMBERS, CLASSES = 3, 9
RULE = {name: number for number, name in enumerate(RULES)}


def probabilities(crops: int, members: int = MEMBERS, seed: int = 0) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(0, 1, (crops, members, CLASSES))
    exponentials = np.exp(logits)
    softmax: NDArray[np.float32] = (exponentials / exponentials.sum(axis=2, keepdims=True)).astype(np.float32)
    return softmax


def groups(crops: int) -> tuple[CropGroup, ...]:
    return groups_of(CropRule((GOOGLENET,) * MEMBERS, crops))


def ranks(by_crop: NDArray[np.float32], label: int) -> CropRanks:
    schemes = [scheme for scheme in (1, 10, 144) if scheme <= len(by_crop)]
    means = {s: by_crop[:s].astype(np.float64).sum(axis=0) / s for s in schemes}
    return crop_ranks(by_crop, means, label, groups(len(by_crop)))


@pytest.mark.parametrize("label", [0, 4, 8])
def test_every_cell_is_the_rank_in_the_mean_of_the_first_models_and_crops(label: int) -> None:
    by_crop = probabilities(144)
    found = ranks(by_crop, label).surface
    assert found.shape == (MEMBERS, 144)
    for models in range(1, MEMBERS + 1):
        for crops in (1, 2, 3, 9, 10, 11, 71, 72, 143, 144):
            means = [by_crop[:crops, member].astype(np.float64).mean(axis=0) for member in range(models)]
            assert found[models - 1, crops - 1] == label_rank(np.mean(means, axis=0), label)


def test_groups_alone_and_left_out() -> None:
    by_crop, label = probabilities(144, seed=1), 5
    found = ranks(by_crop, label).groups
    assert [len(groups(144)), found.shape] == [4 + 3 + 6 + 2, (MEMBERS + 1, 15, 2)]
    for number, group in enumerate(groups(144)):
        attribute = {"mirror": "mirrored"}.get(group.kind, group.kind)
        value = {"mirrored": "True", "not mirrored": "False"}.get(group.name, group.name)
        inside = [str(getattr(crop, attribute)) == value for crop in GOOGLENET.crops]
        assert group.crops == tuple(np.flatnonzero(inside))
        for column, some in enumerate((inside, [not each for each in inside])):
            means = by_crop[some].astype(np.float64).mean(axis=0)
            expected = [label_rank(scores, label) for scores in (*means, means.mean(axis=0))]
            assert found[:, number, column].tolist() == expected


def test_ten_crops_have_only_the_groups_that_part_them() -> None:
    assert {group.kind for group in groups(10)} == {"position", "mirror"}
    assert all(0 < len(group.crops) < 10 for group in groups(10))
    assert groups(1) == ()
    assert ranks(probabilities(1), 0).groups.shape == (MEMBERS + 1, 0, 2)


def test_a_group_may_hold_one_crop() -> None:
    # The first three crops: the centre, its mirror, and the top left corner.
    protocol = replace(GOOGLENET, schemes=(1, 3, 144))
    assert [(group.kind, group.name, group.crops) for group in groups_of(CropRule((protocol,), 3))] == [
        ("position", "centre", (0, 1)),
        ("position", "top-left", (2,)),
        ("mirror", "not mirrored", (0, 2)),
        ("mirror", "mirrored", (1,)),
    ]


def by_loops(by_crop: NDArray[np.float32], rule: str) -> list[float]:
    """One score for each class; higher is better."""
    crops, members = by_crop.shape[:2]
    scores = []
    for number in range(CLASSES):
        p = [[float(by_crop[crop, member, number]) for member in range(members)] for crop in range(crops)]
        columns = list(zip(*p, strict=True))
        scores.append(
            {
                "softmax mean": sum(map(sum, p)),
                "geometric mean": math.fsum(math.log(each) for row in p for each in row),
                "greatest over crops, mean over models": sum(max(column) for column in columns),
                "mean over models, greatest over crops": max(sum(row) for row in p),
            }[rule]
        )
    return scores


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "majority vote"])
@pytest.mark.parametrize("label", [2, 7])
def test_rules_are_those_of_loops(rule: str, label: int) -> None:
    by_crop = probabilities(144, seed=2)
    found = ranks(by_crop, label).rules
    assert found.shape == (MEMBERS + 1, len(RULES), 3)
    for place, scheme in enumerate((1, 10, 144)):
        rows = [by_crop[:scheme, [member]] for member in range(MEMBERS)] + [by_crop[:scheme]]
        expected = [label_rank(np.array(by_loops(row, rule)), label) for row in rows]
        assert found[:, RULE[rule], place].tolist() == expected


def test_votes_go_to_the_best_class_and_ties_to_the_higher_mean() -> None:
    by_crop = np.zeros((10, 1, 4), np.float32)
    by_crop[:4, 0] = [0.7, 0.1, 0.2, 0.0]
    by_crop[4:8, 0] = [0.3, 0.6, 0.1, 0.0]
    by_crop[8:, 0] = [0.1, 0.3, 0.6, 0.0]
    # Four votes each for 0 (mean 0.42) and 1 (0.34), two for 2, none for 3.
    of_votes = [int(ranks(by_crop, label).rules[0, RULE["majority vote"], 1]) for label in range(4)]
    assert of_votes == [0, 1, 2, 3]
    # One crop: two classes without a vote and with equal means go by index.
    one = np.array([[[0.1, 0.6, 0.1, 0.2]]], np.float32)
    assert [int(ranks(one, label).rules[0, RULE["majority vote"], 0]) for label in range(4)] == [2, 0, 3, 1]


@pytest.mark.parametrize("seed", range(20))
def test_the_mean_of_logits_decides_as_the_geometric_mean(seed: int) -> None:
    """On logits that softmax was made of: what normalises a pass moves all its classes alike."""
    logits = np.random.default_rng(seed).normal(0, 3, (144, MEMBERS, CLASSES))
    exponentials = np.exp(logits)
    by_crop = (exponentials / exponentials.sum(axis=2, keepdims=True)).astype(np.float32)
    for label in range(CLASSES):
        expected = label_rank(logits.mean(axis=(0, 1)), label)
        assert ranks(by_crop, label).rules[-1, RULE["geometric mean"], 2] == expected


def test_a_probability_of_nought_puts_a_class_last_in_the_geometric_mean() -> None:
    by_crop = np.array([[[0.0, 0.9, 0.1]], [[0.9, 0.05, 0.05]]] + [[[0.8, 0.1, 0.1]]] * 8, np.float32)
    assert ranks(by_crop, 0).rules[0, RULE["geometric mean"], 1] == 2
    assert ranks(by_crop, 0).rules[0, RULE["softmax mean"], 1] == 0


def test_equal_scores_go_to_the_lower_index_everywhere() -> None:
    by_crop = np.full((10, 2, 4), 0.25, np.float32)
    for label in range(4):
        found = ranks(by_crop, label)
        assert set(found.surface.ravel()) == set(found.groups.ravel()) == set(found.rules.ravel()) == {label}
