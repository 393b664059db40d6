from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import encoded, googlenet_plan, picture, tiff_with_offsets_in_text
from tiny_training import tiny_task, write_pictures

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.folders import open_class_folders
from ensemble_eval.datasets.items import BytesItem, FileItem
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.training.augmentation import Augmentation
from ensemble_eval.training.config import Sampling
from ensemble_eval.training.samples import (
    DecodedImages,
    ImageFiles,
    Sample,
    SampleKey,
    Samples,
    centre_crop,
    step_batches,
)
from ensemble_eval.training.seeds import derived_seed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "train")
    write_pictures(tmp_path / "val", per_class=2)
    return tmp_path


def test_samples_do_not_depend_on_the_number_of_threads() -> None:
    """Loading processes have one thread each; a training that loads by itself may have several."""
    images = ImageFiles([BytesItem("a.png", 0, encoded(picture(400, 300)))])
    samples = Samples(images, Augmentation(Sampling(), 224), seed=1)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            taken = [samples[SampleKey(epoch, 0)] for epoch in range(60)]
            assert torch.get_num_threads() == threads
            found.append(torch.stack([each.image for each in taken if isinstance(each, Sample)]))
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) == 60
    assert torch.equal(found[0], found[1])


def test_each_epoch_has_every_image_once_but_for_the_incomplete_batch() -> None:
    batches = list(step_batches(images=23, batch_size=5, seed=1, epochs=3))
    assert len(batches) == 12
    for epoch in range(3):
        images = [key.image for batch in batches for key in batch if key.epoch == epoch]
        assert len(set(images)) == len(images) == 20


def test_processes_share_each_batch_and_no_image_is_used_twice() -> None:
    alone = list(step_batches(23, 6, seed=1, epochs=2))
    shards = [list(step_batches(23, 6, 1, 2, rank=rank, world=3)) for rank in range(3)]
    for step, batch in enumerate(alone):
        drawn = [key for shard in shards for key in shard[step]]
        assert Counter(drawn) == Counter(batch)
        assert [len(shard[step]) for shard in shards] == [2, 2, 2]


@pytest.mark.parametrize("first_step", [0, 3, 4, 7, 12])
def test_from_any_step_on_the_batches_are_the_same(first_step: int) -> None:
    everything = list(step_batches(23, 5, seed=1, epochs=3))
    assert list(step_batches(23, 5, 1, 3, first_step)) == everything[first_step:]


def test_orders_differ_between_epochs_and_between_members() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        keys = (key for batch in step_batches(50, 5, seed, epochs=2) for key in batch)
        return [key.image for key in keys if key.epoch == epoch]

    orders = [order(1, 0), order(1, 1), order(2, 0)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_seeds_depend_on_each_of_their_parts() -> None:
    seeds = [derived_seed(*key) for key in (("a", 1, 12), ("a", 11, 2), ("b", 1, 12), ("a", 1, 13))]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_batches_do_not_depend_on_the_number_of_loaders(folder: Path) -> None:
    here = list(tiny_task(folder, workers=0).training_batches(5))
    there = list(tiny_task(folder, workers=2).training_batches(5))
    assert len(here) == len(there) == 7
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_members_see_the_same_image_differently(folder: Path) -> None:
    first, other = (next(iter(tiny_task(folder, name).training_batches(0))) for name in "ab")
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "not an image of a known format"),
        (tiff_with_offsets_in_text(), "damaged: 'str' object cannot be interpreted as an integer"),
    ],
)
def test_an_unreadable_image_is_left_out_and_named_never_replaced(
    folder: Path, content: bytes, reason: str
) -> None:
    (folder / "train" / "bee" / "3.png").write_bytes(content)
    batches = list(tiny_task(folder).training_batches(0))
    unreadable = [row for batch in batches for row in batch.unreadable]
    assert {tuple(row) for row in unreadable} == {("bee/3.png", reason)}
    assert sum(len(batch.labels) for batch in batches) == 3 * 16 - len(unreadable)
    assert all(len(batch.images) == len(batch.labels) for batch in batches)


@pytest.mark.parametrize("content", [b"no picture", tiff_with_offsets_in_text()])
def test_decoded_once_the_images_are_the_same(folder: Path, content: bytes) -> None:
    (folder / "train" / "bee" / "3.png").write_bytes(content)
    items = open_class_folders(folder / "train").items
    files, decoded = ImageFiles(items), DecodedImages(items, threads=2)
    for index, item in enumerate(items):
        if item.id == "bee/3.png":
            with pytest.raises(UnreadableImageError, match=r"not an image|damaged"):
                decoded.decode(index)
        else:
            assert torch.equal(decoded.decode(index), files.decode(index))


def test_many_decoded_images_fill_several_chunks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble_eval.training.samples._CHUNK_BYTES", 20_000)
    items = open_class_folders(folder / "train").items
    decoded = DecodedImages(items, threads=2)
    assert all(torch.equal(decoded.decode(i), ImageFiles(items).decode(i)) for i in range(len(items)))


def test_too_little_shared_memory_is_said_with_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_tensor: torch.Tensor) -> None:
        raise RuntimeError("unable to resize file </torch_1> to the right size: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(InputError, match="set cache_decoded = false, or make /dev/shm larger"):
        DecodedImages(open_class_folders(folder / "train").items, threads=1)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (301, 299), (256, 256), (100, 90)])
def test_the_validation_crop_is_the_first_of_the_144(size: tuple[int, int]) -> None:
    width, height = size
    image = torch.from_numpy(np.array(picture(width, height))).permute(2, 0, 1)
    plan = googlenet_plan(width, height, 1)
    expected = pixels.prepare(image, plan).cut(plan.views[0])
    assert torch.equal(centre_crop(image, 224), expected)


def test_images_are_read_when_they_are_needed(tmp_path: Path) -> None:
    source = ImageFiles([FileItem("gone.png", 0, tmp_path)])
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        source.decode(0)
