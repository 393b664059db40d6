"""What the members of an ensemble see, and the values that a protocol refuses."""

from dataclasses import replace

import pytest

from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET, PROTOCOLS, Protocol
from ensemble_eval.crops.views import Canvas
from ensemble_eval.errors import InputError

NET, KRIZHEVSKY, TEN = GOOGLENET, PROTOCOLS["krizhevsky-10"], PROTOCOLS["torchvision-ten-crop"]


def test_members_of_one_protocol_are_a_group() -> None:
    rule = CropRule((KRIZHEVSKY, TEN, KRIZHEVSKY), 10)
    assert rule.groups == ((0, 2), (1,))
    assert rule.name == "krizhevsky-10 and torchvision-ten-crop"
    assert rule.schemes == (1, 10)
    plan = rule.plan(500, 375)
    assert [(group.members, group.views) for group in plan.groups] == [((0, 2), range(10)), ((1,), range(10, 20))]
    assert (plan.crops, plan.passes) == (10, 30)
    assert [plan.group_of(view).members for view in (0, 9, 10, 19)] == [(0, 2), (0, 2), (1,), (1,)]
    # Both protocols resize alike, so the image is resized once.
    assert len(plan.canvases) == 1
    assert rule.up_to(1).plan(500, 375).passes == 3


def test_images_of_one_size_share_a_plan() -> None:
    rule = CropRule((GOOGLENET,), 144)
    assert rule.plan(500, 375) is rule.plan(500, 375)
    assert rule.plan(375, 500) is not rule.plan(500, 375)


def test_protocols_of_other_schemes_do_not_go_together() -> None:
    sentence = (
        "the protocol googlenet has schemes of 1, 10, 144 crops and krizhevsky-10 of 1, 10; the members of an "
        "ensemble need the same schemes"
    )
    with pytest.raises(InputError, match=sentence):
        CropRule((NET, KRIZHEVSKY), 10)
    with pytest.raises(InputError, match="there is no scheme of 2 crops in krizhevsky-10; choose one of 1, 10"):
        CropRule((KRIZHEVSKY,), 2)


def test_the_ensembles_filter_is_that_of_protocols_without_one() -> None:
    own = replace(KRIZHEVSKY, resampling="bilinear")
    plan = CropRule((KRIZHEVSKY, own), 1, "bicubic").plan(300, 300)
    assert [view.canvas.resampling for view in plan.views] == ["bicubic", "bilinear"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"order": ("scale", "square", "position")}, "`order` names scale, square, position, mirror, each once"),
        ({"grid": 1}, "a grid of 1 has no steps; use the position centre"),
        ({"scales": (256, 256)}, "`scales` holds a value twice; keep one"),
        ({"positions": ()}, "`positions` is empty; name at least one"),
        ({"resampling": "box"}, '`resampling = "box"` needs `kernel = "pillow"`'),
        (
            {"scales": (223,)},
            "a side of 223 pixels holds no crops of 224; use larger `scales`, or pad",
        ),
        ({"fit": "longer"}, "a side of 256 pixels holds no crops of 224; use larger `scales`, or pad"),
        ({"squares": ("image",), "positions": ("whole",)}, "the whole image is no square; leave out `whole`, or "),
        ({"schemes": (2,)}, "`schemes` are numbers of crops, ascending, of which the last is all 1"),
        ({"grid": 100, "mirror": "crop"}, "it cuts 20002 crops, and 10000 are the most"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, object], sentence: str) -> None:
    given = {"name": "mine", "size": 224, "scales": (256,), "schemes": (1,), **values}
    with pytest.raises(InputError) as refused:
        Protocol(**given)  # type: ignore[arg-type]  # they are invalid
    assert str(refused.value).startswith(f"the protocol mine: {sentence}")


def test_a_sliver_keeps_one_pixel_of_its_shorter_side() -> None:
    canvas = Canvas(224, "longer", "bicubic", "pillow", 224, (0, 0, 0))
    assert (canvas.resized(10_000, 10), canvas.resized(10, 10_000)) == ((224, 1), (1, 224))
    assert canvas.padded(10_000, 10) == (224, 224)
