"""A small data set with objects that have a colour of their own, and members that see it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from builders import encoded
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.detection.formats import PROPOSE, ProposeKey
from ensemble_eval.detection.proposals import Proposals, row_of
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.engine.predict import Predict
from ensemble_eval.jobs.job import Finished, Job
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.runner import run_alone
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.store import record
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

Outcome = TypeVar("Outcome")

CLASSES = ("red", "green", "blue")
_COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))
_GREY = 120


@dataclass(frozen=True)
class Drawn:
    """A data set on disk.

    Attributes:
        root: class folders of pictures.
        boxes: its annotations, COCO's JSON.
        objects: for each image the boxes [objects, 4] and the classes.
    """

    root: Path
    boxes: Path
    objects: dict[str, tuple[NDArray[np.float64], list[int]]]

    def opened(self) -> Dataset:
        return open_dataset(self.root, ["object"], "none")


def draw(folder: Path, images: int = 6) -> Drawn:
    """Grey pictures with one or two squares of pure colours; the last shows nothing."""
    rng = np.random.default_rng(7)
    root = folder / "data"
    objects: dict[str, tuple[NDArray[np.float64], list[int]]] = {}
    document: dict[str, list[object]] = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": 10 + index, "name": name} for index, name in enumerate(CLASSES)]
    for number in range(images):
        width, height = 90 + 7 * number, 80 + 5 * (number % 3)
        pixels = np.full((height, width, 3), _GREY, np.uint8)
        name = f"pictures/{number}.png"
        boxes, classes = [], []
        for place in range(0 if number == images - 1 else 1 + number % 2):
            side = int(rng.integers(18, 30))
            left, top = int(rng.integers(2, 12)) + 44 * place, int(rng.integers(2, height - side - 2))
            index = int(rng.integers(3))
            pixels[top : top + side, left : left + side] = _COLOURS[index]
            boxes.append([left, top, left + side, top + side])
            classes.append(index)
            document["annotations"].append(
                {"id": len(document["annotations"]), "image_id": 50 + number, "category_id": 10 + index}
                | {"bbox": [left, top, side, side]}
            )
        document["images"].append({"id": 50 + number, "file_name": name, "width": width, "height": height})
        objects[name] = (np.array(boxes, np.float64).reshape(-1, 4), classes)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(Image.fromarray(pixels)))
    (folder / "boxes.json").write_text(json.dumps(document))
    return Drawn(root, folder / "boxes.json", objects)


def some_proposals(drawn: Drawn, seed: int, near: int = 3, far: int = 4) -> dict[str, Proposals]:
    """Boxes near the objects, and boxes anywhere; the image without objects has none at all."""
    rng = np.random.default_rng(seed)
    found = {}
    for image, (boxes, _) in drawn.objects.items():
        moved = [box + rng.integers(-3, 4, 4) for box in boxes for _ in range(near)]
        corners = rng.integers(0, 40, (far if len(boxes) else 0, 2))
        anywhere = np.hstack([corners, corners + rng.integers(8, 40, corners.shape)])
        every = np.clip(np.array([*moved, *anywhere], np.float64).reshape(-1, 4), 0, None)
        found[image] = Proposals(every, np.zeros(len(every)))
    return found


def store_proposals(folder: Path, dataset: Dataset, sets: dict[str, dict[str, Proposals]]) -> Path:
    """As `propose` leaves them."""
    key = ProposeKey(dataset=dataset.sha256, images=len(dataset.items), method={})
    for name, of_set in sets.items():
        rows = [row_of(image, name, each) for image, each in of_set.items()]
        Store(folder, PROPOSE[name], key).write(Part(rows, list(of_set)))
        record.write(folder, PROPOSE[name], {"key": key.to_json()})
    return folder


def stored_rows(store: Store[Any]) -> list[dict[str, Any]]:
    """All rows of all images, the images sorted."""
    return [row for image in sorted(store.open().done) for row in store.rows(image)]


def outcome_of(job: Job[Any, Outcome], process: Process | None = None) -> Outcome:
    """What a job finds, done to its end in this process."""
    *_, last = run_alone(job, process or Process())
    assert isinstance(last, Finished)
    return last.outcome


def comparable(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as text, every digit of theirs."""
    return [json.dumps(row, default=np.ndarray.tolist) for row in rows]


def sees_colours(sharpness: float) -> Predict:
    """Class scores that follow from how pure a region's mean colour is, and no object where it is grey."""

    def predict(crops: Tensor) -> Tensor:
        mean = crops.float().mean(dim=(2, 3)) / 255
        purity = mean - mean.mean(dim=1, keepdim=True)
        rest = torch.full((len(crops), 1), 0.12)
        return torch.softmax(sharpness * torch.cat([purity, rest], dim=1), dim=1)

    return predict


def colour_ensemble(sharpness: Sequence[float] = (9.0, 14.0, 20.0)) -> Ensemble:
    """Members in memory, the last of whose classes is no object."""
    members = [
        Member(f"m{number}", predict=sees_colours(each), fingerprint=str(each))
        for number, each in enumerate(sharpness)
    ]
    return Ensemble(members, (*CLASSES, NO_OBJECT), "colours")
