"""The mean over the crops of a scheme, in figures that a reader can add up."""

import numpy as np
from builders import googlenet_plan

from ensemble_eval.crops.plan import CropPlan, ViewGroup
from ensemble_eval.engine.full_scores import CropProbabilities
from ensemble_eval.scoring.metrics import with_ensemble


def _three_views() -> CropPlan:
    """One view that counts twice in a scheme of four, two that count once, and a scheme of one."""
    views = googlenet_plan(60, 40, 10).views[:3]
    group = ViewGroup((0, 1), range(3), {1: (0, 1, 0), 4: (2, 1, 1)}, (0, 1, 2, 0))
    return CropPlan(views, (group,))


def test_a_mean_counts_each_view_as_often_as_its_scheme_says() -> None:
    probabilities = CropProbabilities(_three_views(), members=2, num_classes=2)
    first, second = ([1.0, 0.0], [0.5, 0.5], [0.25, 0.75]), ([0.0, 1.0], [1.0, 0.0], [0.5, 0.5])
    for view in (2, 0, 1):
        assert not probabilities.complete
        probabilities.keep(view, [0, 1], np.array([first[view], second[view]], np.float32))
    assert probabilities.complete
    # (2 × 1 + 0.5 + 0.25) / 4, and so on: all exact in binary.
    assert probabilities.mean(4).tolist() == [[0.6875, 0.3125], [0.375, 0.625]]
    assert probabilities.mean(1).tolist() == [[0.5, 0.5], [1.0, 0.0]]
    assert probabilities.by_crop()[:, 0].tolist() == [first[0], first[1], first[2], first[0]]
    assert with_ensemble(probabilities.mean(4))[2].tolist() == [0.53125, 0.46875]
