from collections import Counter

import pytest

from ensemble_eval.demo_data.classes import CLASS_NAMES, CLASSES, ClassCues
from ensemble_eval.demo_data.objects import PALETTES
from ensemble_eval.demo_data.shapes import SHAPES
from ensemble_eval.demo_data.textures import TEXTURES


def test_there_are_64_different_classes_in_the_order_of_their_names() -> None:
    assert len(set(CLASS_NAMES)) == 64
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)
    assert CLASS_NAMES[0] == "arrow-stripes-ember"


def test_every_cue_is_one_that_can_be_drawn_and_none_is_left_over() -> None:
    assert {cues.shape for cues in CLASSES} == set(SHAPES)
    assert {cues.texture for cues in CLASSES} == set(TEXTURES)
    assert {cues.palette for cues in CLASSES} == set(PALETTES)


@pytest.mark.parametrize(("cue", "classes_that_share_it"), [("shape", 4), ("texture", 8), ("palette", 8)])
def test_one_cue_leaves_several_candidates(cue: str, classes_that_share_it: int) -> None:
    counts = Counter(getattr(cues, cue) for cues in CLASSES)
    assert set(counts.values()) == {classes_that_share_it}


@pytest.mark.parametrize("hidden", ["shape", "texture", "palette"])
def test_any_two_cues_leave_two_candidates(hidden: str) -> None:
    def other_cues(cues: ClassCues) -> tuple[str, ...]:
        return tuple(value for cue, value in vars(cues).items() if cue != hidden)

    assert set(Counter(map(other_cues, CLASSES)).values()) == {2}
