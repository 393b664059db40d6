"""Parts of a data set: without a blacklist, the first images, or some drawn by a seed."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ensemble_eval.datasets.ilsvrc import read_blacklist, validation_number
from ensemble_eval.datasets.items import Dataset, Item
from ensemble_eval.errors import InputError, first_names


def keeping(dataset: Dataset, wanted: Callable[[Item], bool]) -> Dataset:
    """The same data set with some of its images."""
    kept = [wanted(item) for item in dataset.items]
    blocks, begin = [], 0
    for length in dataset.blocks:
        blocks.append(sum(kept[begin : begin + length]))
        begin += length
    items = tuple(item for item, is_kept in zip(dataset.items, kept, strict=True) if is_kept)
    return replace(dataset, items=items, blocks=tuple(filter(None, blocks)))


def leaving_out(dataset: Dataset, why: str, wanted: Callable[[Item], bool]) -> Dataset:
    """As `keeping`; the scope says how many images are left out.

    Args:
        dataset: the images.
        why: a phrase that goes with a number of images.
        wanted: whether an image is kept.
    """
    rest = keeping(dataset, wanted)
    if not (gone := len(dataset.items) - len(rest.items)):
        return dataset
    scope = dataset.scope
    left_out = {**scope.left_out, why: gone}
    return replace(rest, scope=replace(scope, whole=scope.whole or len(dataset.items), left_out=left_out))


def without_blacklist(dataset: Dataset, blacklist: Path) -> Dataset:
    """A data set of ILSVRC-2012's validation images without those on the development kit's blacklist.

    Raises:
        InputError: the list cannot be used, an image's name has no number, or no image is left.
    """
    numbers = read_blacklist(blacklist)
    if strange := [item.id for item in dataset.items if validation_number(item.id) is None]:
        raise InputError(
            f"the blacklist goes by the numbers in names such as ILSVRC2012_val_00000001.JPEG, and {len(strange)} "
            f"images have none ({first_names(strange)}); leave `blacklist` out"
        )
    rest = leaving_out(dataset, "are on the blacklist", lambda item: validation_number(item.id) not in numbers)
    if not rest.items:
        raise InputError(f"all images are on the blacklist {blacklist}; is it the right file?")
    return rest


def part_of(dataset: Dataset, limit: int | None, sample: int | None, seed: int | None) -> Dataset:
    """The first images in the order of their ids, or some that a seed draws; all where neither is asked for.

    A larger sample of the same seed holds every smaller one.

    Raises:
        InputError: more images are asked for than there are.
    """
    seed = seed or 0
    images = len(dataset.items)
    for name, count in (("limit", limit), ("sample", sample)):
        if count is not None and not 1 <= count <= images:
            raise InputError(f"`{name}` is 1 to {images}, the images that there are, not {count}")
    if limit is None and sample is None:
        return dataset
    if limit is not None:
        chosen, part = set(range(limit)), f"the first {limit} of {images} images"
    else:
        drawn = sorted(range(images), key=lambda place: hashlib.sha256(f"{seed} {place}".encode()).digest())
        chosen, part = set(drawn[:sample]), f"{sample} of {images} images, drawn with the seed {seed}"
    ids = {dataset.items[place].id for place in chosen}
    taken = keeping(dataset, lambda item: item.id in ids)
    return replace(taken, scope=replace(taken.scope, part=part))
