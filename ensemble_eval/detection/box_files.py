"""Proposals of any origin from a CSV or Parquet file: `image, left, top, right, bottom`, and perhaps `score`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.proposals import Proposals
from ensemble_eval.errors import InputError, first_names, refusing
from ensemble_eval.files import open_regular

if TYPE_CHECKING:
    import pandas as pd

_EDGES = ["left", "top", "right", "bottom"]


def read_box_file(path: Path, dataset: Dataset) -> Mapping[str, Proposals]:
    """The boxes of every image of a data set; an image without any in the file has none.

    Args:
        path: a Parquet file if its name ends so, and a CSV otherwise. Boxes are in pixels, right and bottom beyond
            the box. The best come first; without scores they keep their order.
        dataset: its images.

    Raises:
        InputError: the file is not of that form, names an image that the data set lacks, or has a box that is not
            finite or without an area.
    """
    table = _read(path)
    if missing := [name for name in ["image", *_EDGES] if name not in table]:
        raise InputError(
            f"{path} has no column {missing[0]}; it needs image, {', '.join(_EDGES)}, and may have score"
        )
    images = table["image"].astype(str)
    known = {item.id for item in dataset.items}
    if strangers := sorted(set(images) - known):
        raise InputError(
            f"{path} has boxes for {len(strangers)} images that are not in the data set: {first_names(strangers)}"
        )
    with refusing(f"{path} has a box that is no number", "mend it", ValueError, TypeError):
        boxes = table[_EDGES].to_numpy(np.float64)
        scores = table["score"].to_numpy(np.float64) if "score" in table else np.zeros(len(table))
    sound = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        raise InputError(
            f"{path}: the box {row + 1} ({images.iloc[row]}) is not finite or has no area; mend or remove it"
        )
    order = np.argsort(-scores, kind="stable")
    rows: dict[str, list[int]] = {item.id: [] for item in dataset.items}
    for row in order:
        rows[images.iloc[row]].append(int(row))
    return {image: Proposals(boxes[of_image], scores[of_image]) for image, of_image in rows.items()}


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    unreadable = refusing(f"the boxes {path} cannot be read", "check the path", OSError)
    # Each of pandas' readers has errors of its own.
    with refusing(f"{path} is no table of boxes"), unreadable, open_regular(path) as file:
        return pd.read_parquet(file) if path.suffix == ".parquet" else pd.read_csv(file)
