"""What the tests of training need: a recipe, pictures and a task, all tiny."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
import torch
from builders import encoded, picture

from ensemble_eval.datasets.folders import open_class_folders
from ensemble_eval.datasets.items import BytesItem
from ensemble_eval.training.config import Recipe, recipe_from_table
from ensemble_eval.training.processes import Processes
from ensemble_eval.training.samples import ImageFiles
from ensemble_eval.training.task import Site, Task, TrainingData

CLASS_NAMES = ("ant", "bee", "cat")
IMAGES_PER_CLASS = 6
STEPS_PER_EPOCH = 4  # 18 images in batches of 4, the incomplete fifth dropped


def write_pictures(root: Path, *, per_class: int = IMAGES_PER_CLASS) -> Path:
    """Class folders of small pictures, landscape and portrait."""
    for label, name in enumerate(CLASS_NAMES):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            width, height = (60, 48) if index % 2 else (44, 70)
            image = picture(width, height, seed=100 * label + index)
            (root / name / f"{index}.png").write_bytes(encoded(image))
    return root


def recipe_table(**parts: Mapping[str, Any] | object) -> dict[str, Any]:
    """The document of a tiny recipe of members a, b and the wider c; tables in `parts` add to the tables here."""
    table: dict[str, Any] = {
        "name": "tiny",
        "save_every_steps": 3,
        "data": {"train": "train", "val": "val"},
        "network": {"crop_size": 32},
        "schedule": {
            "epochs": 3,
            "batch_size": 4,
            "learning_rate": 0.02,
            "averaging_start_epoch": 1,
            "batch_norm_images": 12,
        },
        "members": [
            {"name": "a", "seed": 1, "width": 0.05},
            {"name": "b", "seed": 2, "width": 0.05, "sampling": {"patch_area": [0.5, 1.0]}},
            {"name": "c", "seed": 3, "width": 0.08},
        ],
    }
    for name, part in parts.items():
        table[name] = {**table.get(name, {}), **part} if isinstance(part, Mapping) else part
    return table


def write_recipe(folder: Path, **parts: Mapping[str, Any] | object) -> Path:
    """The recipe of `recipe_table` as a file, its pictures beside it."""
    if not (folder / "train").exists():
        write_pictures(folder / "train")
        write_pictures(folder / "val", per_class=2)
    path = folder / "tiny.toml"
    path.write_text(tomli_w.dumps(recipe_table(**parts)))
    return path


def tiny_recipe(folder: Path = Path(), **parts: Mapping[str, Any] | object) -> Recipe:
    """The recipe of `recipe_table`, read."""
    return recipe_from_table(recipe_table(**parts), "tiny.toml", folder)


def tiny_task(folder: Path, member: str = "a", *, workers: int = 0, **parts: Mapping[str, Any] | object) -> Task:
    """The task of one member on the pictures below `folder`."""
    recipe = tiny_recipe(folder, **parts)
    train, val = (ImageFiles(open_class_folders(folder / split).items) for split in ("train", "val"))
    data = TrainingData(train, val, len(CLASS_NAMES))
    return Task(recipe, recipe.member(member), data, Site(torch.device("cpu"), Processes(), workers))


def bare_task(recipe: Recipe, member: str = "a", num_classes: int = 3) -> Task:
    """The task of one member without any picture, for what needs none."""
    images = ImageFiles([BytesItem(str(index), 0, b"") for index in range(18)])
    data = TrainingData(images, images, num_classes)
    return Task(recipe, recipe.member(member), data, Site(torch.device("cpu"), Processes(), 0))
