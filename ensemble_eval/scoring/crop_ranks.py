"""Label ranks in other means over the same passes: of fewer models and crops, of other crops, and other averages.

Ranks are those of `metrics.label_rank`. Errors and their paired tests follow from them without another pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import Crop
from ensemble_eval.scoring.metrics import with_ensemble

Ranks = NDArray[np.uint16]
Probabilities = NDArray[np.float64]

_MIRRORING = ("not mirrored", "mirrored")
MAX_CLASSES = int(np.iinfo(np.uint16).max)
"""Ranks, which are below the number of classes, are stored in two bytes."""


@dataclass(frozen=True)
class CropGroup:
    """Crops with one scale, square, position or mirroring.

    Attributes:
        kind: `scale`, `square`, `position` or `mirror`.
        name: The scale, square, position or mirroring.
        crops: Positions in the crop order.
    """

    kind: str
    name: str
    crops: tuple[int, ...]


@dataclass(frozen=True)
class CropRanks:
    """Ranks of the label of one image. Rows are the members, in order, and with several members the ensemble.

    Attributes:
        surface: uint16 [members, crops], in the mean over the first members and the first crops, for every number
            of both.
        groups: uint16 [rows, groups, 2], for each group of `groups_of`: in the mean over its crops, and in the
            mean over all other crops.
        rules: uint16 [rows, rules, schemes], for each of `RULES` and each scheme.
    """

    surface: Ranks
    groups: Ranks
    rules: Ranks


def crop_ranks(
    by_crop: NDArray[np.float32], means: Mapping[int, Probabilities], label: int, groups: Sequence[CropGroup]
) -> CropRanks:
    """The ranks of the label of one image.

    Args:
        by_crop: Softmax outputs float32 [crops, members, classes], in the crop order.
        means: For each scheme, float64 [members, classes], the mean over its crops as the run computes it. For a
            square image the run multiplies a view by three instead of adding it three times, which may differ in
            the last bit.
        label: A class index.
        groups: Those of `groups_of`.
    """
    probabilities = by_crop.astype(np.float64)
    return CropRanks(
        surface=_surface(probabilities, means, label),
        groups=_groups(probabilities, label, groups),
        rules=_rules(probabilities, means, label),
    )


@lru_cache
def groups_of(rule: CropRule) -> tuple[CropGroup, ...]:
    """The groups of the crops of a rule, without groups of all of them.

    Where members have different protocols, a group is named after each, as in `256 / 320`.

    Example:
        >>> from ensemble_eval.crops.protocols import GOOGLENET
        >>> [(group.kind, group.name, len(group.crops)) for group in groups_of(CropRule((GOOGLENET,), 10))][:2]
        [('position', 'centre', 2), ('position', 'top-left', 2)]
    """
    protocols = [rule.protocols[members[0]].crops[: rule.crops] for members in rule.groups]
    values: Mapping[str, Callable[[Crop], str]] = {
        "scale": lambda crop: str(crop.scale),
        "square": lambda crop: crop.square,
        "position": lambda crop: crop.position,
        "mirror": lambda crop: _MIRRORING[crop.mirrored],
    }
    groups = []
    for kind, value_of in values.items():
        names = [" / ".join(dict.fromkeys(map(value_of, alike))) for alike in zip(*protocols, strict=True)]
        for name in dict.fromkeys(names):
            positions = tuple(index for index, each in enumerate(names) if each == name)
            groups.append(CropGroup(kind, name, positions))
    return tuple(group for group in groups if len(group.crops) < rule.crops)


def ranks_of(scores: Probabilities, label: int) -> Ranks:
    """The rank of the label in each of several score vectors, as `metrics.label_rank` defines it.

    Args:
        scores: float64 [..., classes], without NaN.
        label: A class index.

    Returns:
        uint16 [...].
    """
    own = scores[..., label, None]
    higher = np.count_nonzero(scores > own, axis=-1)
    equal_before = np.count_nonzero(scores[..., :label] == own, axis=-1)
    ranks: Ranks = (higher + equal_before).astype(np.uint16)
    return ranks


def _surface(probabilities: Probabilities, means: Mapping[int, Probabilities], label: int) -> Ranks:
    crops, members, _ = probabilities.shape
    by_members = np.cumsum(probabilities, axis=0) / np.arange(1, crops + 1)[:, None, None]
    for scheme, mean in means.items():
        by_members[scheme - 1] = mean
    cells = np.cumsum(by_members, axis=1) / np.arange(1, members + 1)[:, None]
    return ranks_of(cells, label).T


def _groups(probabilities: Probabilities, label: int, groups: Sequence[CropGroup]) -> Ranks:
    members = probabilities.shape[1]
    ranks = np.zeros((members + (members > 1), len(groups), 2), np.uint16)
    for number, group in enumerate(groups):
        inside = np.zeros(len(probabilities), bool)
        inside[list(group.crops)] = True
        for column, some in enumerate((inside, ~inside)):
            ranks[:, number, column] = ranks_of(with_ensemble(probabilities[some].mean(axis=0)), label)
    return ranks


def _rules(probabilities: Probabilities, means: Mapping[int, Probabilities], label: int) -> Ranks:
    by_scheme = []
    for scheme, mean in sorted(means.items()):
        some, tie_breaks = probabilities[:scheme], with_ensemble(mean)
        by_scheme.append(np.stack([rule(some, tie_breaks, label) for rule in RULES.values()], axis=1))
    return np.stack(by_scheme, axis=2)


def _softmax_mean(_: Probabilities, means: Probabilities, label: int) -> Ranks:
    return ranks_of(means, label)


def _geometric_mean(probabilities: Probabilities, _: Probabilities, label: int) -> Ranks:
    # In logarithms, because the product of 144 probabilities is zero in double precision.
    with np.errstate(divide="ignore"):
        return ranks_of(with_ensemble(np.log(probabilities).mean(axis=0)), label)


def _greatest_over_crops(probabilities: Probabilities, _: Probabilities, label: int) -> Ranks:
    return ranks_of(with_ensemble(probabilities.max(axis=0)), label)


def _members_then_greatest(probabilities: Probabilities, _: Probabilities, label: int) -> Ranks:
    together = [probabilities.mean(axis=1).max(axis=0)] if probabilities.shape[1] > 1 else []
    return ranks_of(np.stack([*probabilities.max(axis=0), *together]), label)


def _majority_vote(probabilities: Probabilities, means: Probabilities, label: int) -> Ranks:
    """Classes by votes; with equal votes by their mean probability, then by index."""
    classes = probabilities.shape[2]
    best = probabilities.argmax(axis=2)
    by_member = [np.bincount(column, minlength=classes) for column in best.T]
    votes = np.stack([*by_member, np.sum(by_member, axis=0)][: len(means)])
    own_votes, own_mean = votes[:, label, None], means[:, label, None]
    before = np.arange(classes) < label
    as_many = votes == own_votes
    ahead = (votes > own_votes) | (as_many & (means > own_mean)) | (as_many & (means == own_mean) & before)
    ranks: Ranks = np.count_nonzero(ahead, axis=1).astype(np.uint16)
    return ranks


RULES: Mapping[str, Callable[[Probabilities, Probabilities, int], Ranks]] = {
    "softmax mean": _softmax_mean,
    "geometric mean": _geometric_mean,
    "greatest over crops, mean over models": _greatest_over_crops,
    "mean over models, greatest over crops": _members_then_greatest,
    "majority vote": _majority_vote,
}
"""Ways to combine all crops and models into one score vector; the first is the paper's."""
