import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import encoded, picture
from conftest import Cli
from numpy.typing import NDArray
from tiny_training import CLASS_NAMES, bare_task, tiny_recipe, write_pictures, write_recipe
from torchvision.ops import box_iou

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.datasets.items import BytesItem
from ensemble_eval.detection.regions import NO_OBJECT, warp_regions
from ensemble_eval.errors import InputError
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.manifest import open_ensemble, read_member
from ensemble_eval.training.config import Regions
from ensemble_eval.training.regions import MIN_OVERLAP, RegionItem, RegionSource, open_regions, region_items
from ensemble_eval.training.samples import ImageFiles

PLAN = Regions(objects=5, backgrounds=7, seed=3)
SIZE = (120, 90)


def _objects(boxes: NDArray[np.float64], ignored: tuple[int, ...] = ()) -> Objects:
    flags = np.isin(np.arange(len(boxes)), ignored)
    return Objects(boxes, np.arange(len(boxes)) % 3, flags, np.zeros(len(boxes), bool))


SHOWN = {
    "two.png": _objects(np.array([[10.0, 20, 50, 80], [60, 5, 118, 60]])),
    "ignored.png": _objects(np.array([[0.0, 0, 60, 60], [70, 30, 110, 85]]), ignored=(0,)),
    "none.png": _objects(np.zeros((0, 4))),
}
IMAGES = [BytesItem(name, 0, encoded(picture(*SIZE, seed))) for seed, name in enumerate(SHOWN)]


def _items(plan: Regions = PLAN) -> list[RegionItem]:
    return region_items(IMAGES, dict.fromkeys(range(3), SIZE), SHOWN, plan, 3)


def _most_overlap(item: RegionItem) -> tuple[float, int]:
    """By torchvision: the largest overlap with an object of the region's image, and which object that is."""
    shown = SHOWN[item.of.id]
    if not len(shown.boxes):
        return 0.0, -1
    found = box_iou(torch.tensor([item.box]).double(), torch.from_numpy(shown.boxes))[0]
    return float(found.max()), int(found.argmax())


def test_regions_with_an_object_overlap_it_and_others_overlap_none() -> None:
    items = _items()
    for item in items:
        overlap, which = _most_overlap(item)
        if item.label == 3:
            assert overlap < MIN_OVERLAP
        else:
            shown = SHOWN[item.of.id]
            assert overlap >= MIN_OVERLAP
            assert item.label == shown.classes[which]
            assert not shown.ignored[which]
        left, top, right, bottom = item.box
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
    by_image = {name: [item.label for item in items if item.of.id == name] for name in SHOWN}
    assert sum(label != 3 for label in by_image["two.png"]) == 5
    assert set(by_image["two.png"]) == {0, 1, 3}
    assert set(by_image["ignored.png"]) == {1, 3}
    assert by_image["none.png"] == [3] * 7
    near = [_most_overlap(item)[0] for item in items if item.label == 3]
    assert sum(overlap >= 0.1 for overlap in near) >= 4
    assert len({item.id for item in items}) == len(items)


def test_regions_follow_from_the_seed_and_the_image_alone() -> None:
    assert _items() == _items()
    assert _items(Regions(objects=5, backgrounds=7, seed=4)) != _items()
    unreadable_first = region_items(IMAGES, {1: SIZE, 2: SIZE}, SHOWN, PLAN, 3)
    assert unreadable_first == [item for item in _items() if item.image > 0]


def test_a_region_is_the_detectors_warp_of_its_box() -> None:
    images = ImageFiles(IMAGES)
    source = RegionSource(images, _items(), 32)
    for index, item in enumerate(source.items):
        expected = warp_regions(images.decode(item.image), np.array([item.box]), 32)[0]
        assert torch.equal(source.decode(index), expected)
        assert torch.equal(source.validation_sample(index, 32).image, expected)


def _coco(root: Path, names: tuple[str, ...] = CLASS_NAMES) -> None:
    """A box in the middle of every picture, of its folder's class; mirrored, it is the same one."""
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for index, path in enumerate(sorted(root.rglob("*.png"))):
        name = path.relative_to(root).as_posix()
        width, height = (60, 48) if int(path.stem) % 2 else (44, 70)
        images.append({"id": index, "file_name": name, "width": width, "height": height})
        box = [(width - 24) // 2, (height - 26) // 2, 24, 26]
        category = names.index(path.parent.name)
        annotations.append({"id": index, "image_id": index, "category_id": category, "bbox": box})
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    document = {"categories": categories, "images": images, "annotations": annotations}
    (root / "boxes.json").write_text(json.dumps(document))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 6), ("val", 2)):
        _coco(write_pictures(tmp_path / split, per_class=count))
    return tmp_path


REGIONS = {"regions": {"objects": 2, "backgrounds": 2}}


@pytest.mark.slow
def test_region_classifiers_are_members_with_the_class_of_no_object(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(folder, **REGIONS, schedule={"epochs": 2, "batch_size": 8})
    assert cli("train", recipe, "--out", tmp_path / "out", "--member", "a", "--workers", 0).code == 0
    [member] = open_ensemble(tmp_path / "out" / "ensemble.toml").members
    _, classes = read_member(tmp_path / "out" / "a.safetensors")
    assert classes.names == (*CLASS_NAMES, NO_OBJECT)
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    assert record["decides_the_weights"]["regions.objects"] == 2
    assert 60 <= record["train_images"] <= 18 * 4
    assert member.name == "a"
    # Other annotations are another training.
    _coco(folder / "train", (*reversed(CLASS_NAMES),))
    refused = cli("train", recipe, "--out", tmp_path / "out", "--member", "a", "--workers", 0)
    assert refused.code == 2
    assert "boxes was" in refused.err


@pytest.mark.slow
@pytest.mark.processes
def test_loaders_and_classes_of_a_file_give_the_same_weights(cli: Cli, folder: Path, tmp_path: Path) -> None:
    (folder / "names.txt").write_text("\n".join(CLASS_NAMES))
    short = {"epochs": 2, "batch_size": 8}
    one = write_recipe(folder, **REGIONS, schedule=short)
    assert cli("train", one, "--out", tmp_path / "one", "--member", "a", "--workers", 0).code == 0
    parts: dict[str, Any] = {"regions": {**REGIONS["regions"], "classes": "names.txt"}}
    two = write_recipe(folder, **parts, schedule=short, data={"cache_decoded": True})
    done = cli("train", two, "--out", tmp_path / "two", "--member", "a", "--workers", 2)
    assert done.code == 0
    assert done.err.startswith("24 images decoded in ")
    assert (tmp_path / "one" / "a.safetensors").read_bytes() == (tmp_path / "two" / "a.safetensors").read_bytes()


@pytest.mark.slow
def test_a_member_begins_with_the_weights_of_its_name(cli: Cli, folder: Path, tmp_path: Path) -> None:
    short = {"epochs": 1, "averaging_start_epoch": 0, "batch_size": 8}
    first = write_recipe(folder, schedule=short)
    assert cli("train", first, "--out", tmp_path / "first", "--member", "a", "--workers", 0).code == 0
    given = read_weights(tmp_path / "first" / "a.safetensors").tensors
    recipe = tiny_recipe(folder, **REGIONS, network={"initial": str(tmp_path / "first")})
    begun = bare_task(recipe, "a", 4).initial_network().state_dict()
    assert all(torch.equal(begun[name], given[name]) for name in given if not name.startswith("fc."))
    assert begun["fc.weight"].shape[0] == 4
    shutil.copy(tmp_path / "first" / "a.safetensors", tmp_path / "first" / "c.safetensors")
    with pytest.raises(InputError, match=r"member c cannot begin with .*c.safetensors: .* of another shape"):
        bare_task(recipe, "c", 4).initial_network()
    with pytest.raises(InputError, match=r"b\.safetensors do not exist"):
        bare_task(recipe, "b", 4).initial_network()


def test_without_annotations_or_objects_there_is_nothing_to_learn(folder: Path) -> None:
    images = ImageFiles([BytesItem("a.png", 0, b"no image")])
    with pytest.raises(InputError, match=r"the annotations .* cannot be read"):
        open_regions(images, folder / "nowhere.json", CLASS_NAMES, PLAN, 32)
    document = {"categories": [], "images": [{"id": 0, "file_name": "a.png", "width": 9, "height": 9}]}
    (folder / "none.json").write_text(json.dumps({**document, "annotations": []}))
    with pytest.raises(InputError, match="leaves no regions to learn from"):
        open_regions(images, folder / "none.json", CLASS_NAMES, PLAN, 32)
