"""How many batches and passes the engine takes on cases that can be counted by hand.

Every picture is of one shade of its own, so that a member knows which it sees. Square pictures have 48 views of
weight 3: a member that is certain from the first is decided after 25 of them, two of three after 29 (2n of 144
votes against 3 · (48 - n) to come), four of five after 27.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from builders import CLASS_NAMES, encoded, googlenet_plan
from PIL import Image
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage

# An engine that makes no headway would go round for ever.
pytestmark = pytest.mark.timeout(60)

CPU = torch.device("cpu")
COUNT = len(CLASS_NAMES)
LABEL = COUNT - 1
VIEWS = 48


def shade(position: int, scheme: int) -> ReadyImage:
    image = pixels.decode(encoded(Image.new("RGB", (64, 64), (position + 1,) * 3)))
    return ReadyImage(position, str(position), LABEL, pixels.prepare(image, googlenet_plan(64, 64, scheme)))


def _seen_by(members: int, image: ReadyImage) -> ReadyImage:
    plan = googlenet_plan(64, 64, image.source.plan.crops, members)
    return replace(image, source=replace(image.source, plan=plan))


def _pool(
    members: int, decides: Sequence[int]
) -> Callable[[ReadyImage], PooledImage[ImageScores | ImageDecisions]]:
    def pooled(image: ReadyImage) -> PooledImage[ImageScores | ImageDecisions]:
        return DecidedImage(image, members, COUNT, decides) if decides else ScoredImage(image, members, COUNT)

    return pooled


@pytest.fixture(scope="module")
def shades() -> list[ReadyImage]:
    return [shade(position, 144) for position in range(40)]


class Turn(NamedTuple):
    """Batches that followed each other, of the same members and with the same number of rows that hold a crop."""

    members: str
    filled: int
    batches: int


class Pace(NamedTuple):
    """What an engine did: its turns in order, and the passes that the records tell."""

    turns: list[Turn]
    passes: int


def pace(
    images: Sequence[ReadyImage],
    undecided: Mapping[str, Callable[[int], bool]],
    *,
    batch_size: int = 16,
    decides: Sequence[int] = (1,),
) -> Pace:
    """Run members that are certain of the label, but of the images by position for which they are undecided."""
    launched: list[tuple[str, int]] = []
    latest: list[Tensor] = []

    def predict(name: str, crops: Tensor) -> Tensor:
        shades = crops[:, 0, 0, 0].int()
        if latest and crops is latest[0]:
            members, filled = launched.pop()
            launched.append((members + name, filled))
        else:
            latest[:] = [crops]
            launched.append((name, int((shades > 0).sum())))
        scores = torch.eye(COUNT)[[LABEL]].repeat(len(crops), 1)
        scores[[undecided[name](int(one) - 1) for one in shades]] = 1 / COUNT
        return scores

    members = {name: lambda crops, name=name: predict(name, crops) for name in undecided}
    seen = [_seen_by(len(members), image) for image in images]
    results = list(Engine(members, _pool(len(members), decides), CPU, batch_size).run(seen))
    assert sorted(result.id for result in results) == sorted(image.id for image in images)
    turns = [Turn(*key, len(list(group))) for key, group in itertools.groupby(launched)]
    return Pace(turns, sum(0 if isinstance(result, UnreadableImage) else result.passes for result in results))


def never(_position: int) -> bool:
    return False


def always(_position: int) -> bool:
    return True


TWO_CERTAIN = {"a": never, "b": never, "c": always}


def test_a_single_image_fills_the_rows_that_would_be_padded(shades: list[ReadyImage]) -> None:
    """25 views decide it, and two batches of 16 hold them."""
    assert pace(shades[:1], {"a": never}) == Pace([Turn("a", 16, 2)], 32)


def test_images_that_fill_a_batch_have_one_crop_in_each_and_none_after_the_deciding_one(
    shades: list[ReadyImage],
) -> None:
    assert pace(shades[:16], {"a": never}) == Pace([Turn("a", 16, 25)], 16 * 25)


def test_large_batches_take_a_share_of_each_image(shades: list[ReadyImage]) -> None:
    """A 32nd of 64 crops is two, and 26 is the first even number that decides."""
    assert pace(shades[:32], {"a": never}, batch_size=64) == Pace([Turn("a", 64, 13)], 32 * 26)


def test_a_member_goes_on_alone_with_full_batches_once_the_ensemble_is_decided(shades: list[ReadyImage]) -> None:
    expected = [Turn("abc", 16, 29), Turn("c", 16, VIEWS - 29)]
    assert pace(shades[:16], TWO_CERTAIN) == Pace(expected, 16 * (3 * 29 + VIEWS - 29))
    # Of one image: the rows of two batches, then of one.
    assert pace(shades[:1], TWO_CERTAIN) == Pace([Turn("abc", 16, 2), Turn("c", 16, 1)], 3 * 32 + 16)


def test_a_member_that_goes_on_alone_comes_before_new_images_once_it_fills_a_batch(
    shades: list[ReadyImage],
) -> None:
    """Else all images of a data set would wait in memory for it."""
    turns = [Turn("abc", 16, 29), Turn("c", 16, VIEWS - 29)] * 2
    assert pace(shades[:32], TWO_CERTAIN) == Pace(turns, 32 * (3 * 29 + VIEWS - 29))


def test_members_that_go_on_alone_wait_for_more_to_do_until_three_batches_wait(shades: list[ReadyImage]) -> None:
    """Each of five images has a member of its own that is undecided; a batch has eight rows.

    After 24 images three batches' worth of views waits, of which no member's fill one, and after 32 there is
    too much. Every batch is full, and no pass is run that was not needed.
    """
    one_each = {name: lambda position, index=index: position % 5 == index for index, name in enumerate("abcde")}
    turns, passes = pace(shades, one_each, batch_size=8)
    assert turns[0] == Turn("abcde", 8, 4 * 27)
    assert {len(turn.members) for turn in turns[1:3]} == {1}
    assert {turn.filled for turn in turns} == {8}
    assert passes == 40 * (5 * 27 + VIEWS - 27)
    assert sum(len(turn.members) * turn.batches for turn in turns) == passes / 8


def test_members_that_go_on_alone_at_the_end_wait_for_what_all_still_do_together(shades: list[ReadyImage]) -> None:
    """The first image is decided while the second is not; alone, its third member would fill no batch."""
    expected = [Turn("abc", 16, 4), Turn("c", 16, 2)]
    assert pace(shades[:2], TWO_CERTAIN) == Pace(expected, 2 * (3 * 32 + 16))


def test_an_image_is_decided_by_the_very_view_that_decides_it() -> None:
    """Ten views, of which the first says nothing: after six the label leads by 5 votes, and 4 are to come."""
    calls = itertools.count()
    turns, passes = pace([shade(0, 10)], {"a": lambda _: next(calls) == 0}, batch_size=1)
    assert (turns, passes) == ([Turn("a", 1, 6)], 6)


@pytest.mark.parametrize("decides", [(), (1,)], ids=["full scores", "until decided"])
def test_no_more_images_are_taken_than_fill_a_batch(shades: list[ReadyImage], decides: Sequence[int]) -> None:
    taken = 0

    def arriving() -> Iterator[ReadyImage]:
        nonlocal taken
        for image in shades:
            taken += 1
            yield image

    def certain(crops: Tensor) -> Tensor:
        return torch.eye(COUNT)[[LABEL]].repeat(len(crops), 1)

    next(Engine({"a": certain}, _pool(1, decides), CPU, 16).run(arriving()))
    # With full scores, three batches of an image's 48 views come from it alone.
    assert taken == (16 if decides else 1)


@pytest.mark.parametrize(("batch_size", "turns"), [(16, [Turn("a", 16, 5)]), (20, [Turn("a", 20, 4)])])
def test_ten_crops_of_each_image_fill_every_batch_of_full_scores(batch_size: int, turns: list[Turn]) -> None:
    images = [shade(position, 10) for position in range(8)]
    assert pace(images, {"a": never}, batch_size=batch_size, decides=()) == Pace(turns, 80)
