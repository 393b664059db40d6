"""Proposals: boxes that may hold an object, by image and by set, and how they are stored."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.datasets.items import BY_ETAGS, Dataset
from ensemble_eval.detection.formats import PROPOSE, ProposeKey
from ensemble_eval.errors import InputError
from ensemble_eval.settings import PROPOSAL_SETS
from ensemble_eval.store import record
from ensemble_eval.store.store import Store


@dataclass(frozen=True)
class Proposals:
    """The proposals of one set in one image.

    Attributes:
        boxes: float64 [boxes, 4], left, top, right and bottom in pixels; right and bottom are beyond the box.
        scores: float64 [boxes], higher for surer proposals; all 0 if the method gives none.
        reason: Why there are no boxes, if the method failed or the image could not be read.
    """

    boxes: Boxes
    scores: NDArray[np.float64]
    reason: str | None = None


class StoredProposals(Mapping[str, Mapping[str, Proposals]]):
    """What `ensemble-eval propose` has stored for a data set, by image and then by set; read on demand.

    Attributes:
        stores: The stores of the sets, by name.

    Args:
        folder: The output folder of `propose`.
        dataset: The images.

    Raises:
        InputError: The folder holds no proposals, not yet all of them, or those of other images.
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        finished = finished_sets(folder)
        if not finished:
            raise InputError(f"{folder} holds no finished proposals; run `ensemble-eval propose` to its end")
        self.stores = {name: store for name, store in finished.items() if store.key.dataset == dataset.sha256}
        if not self.stores:
            hint = " (those in a bucket and those in files cannot be compared)"
            kinds = {store.key.dataset.startswith(BY_ETAGS) for store in finished.values()}
            other = "" if (dataset.listing is not None) in kinds else hint
            raise InputError(f"the proposals {folder} are of other images{other}; propose on this data set first")
        self._images = sorted(item.id for item in dataset.items)
        if any(not store.progress.done.issuperset(self._images) for store in self.stores.values()):
            raise InputError(f"{folder} has lost some of its proposals; run `ensemble-eval propose` on it again")

    def __getitem__(self, image: str) -> Mapping[str, Proposals]:
        """The proposals of an image, by set."""
        return {name: _proposals_of(*store.rows(image)) for name, store in self.stores.items()}

    def __iter__(self) -> Iterator[str]:
        """The images, sorted."""
        return iter(self._images)

    def __len__(self) -> int:
        """How many images."""
        return len(self._images)


def finished_sets(folder: Path) -> dict[str, Store[ProposeKey]]:
    """The stores of the sets that `propose` has finished in a folder, read, by name.

    Raises:
        InputError: A record cannot be read, or the parts of a set are of another job.
    """
    found = {}
    for name, form in PROPOSE.items():
        if (finished := record.read(folder, form)) is not None:
            found[name] = Store(folder, form, record.stored_key(finished, form))
            found[name].peek()
    return found


def failures_in(stores: Mapping[str, Store[ProposeKey]]) -> list[tuple[str, str, str]]:
    """The images without proposals of some sets: their id, the set and the reason."""
    return [
        (image, name, reason)
        for name, store in stores.items()
        for image, reason in store.frame(["image", "reason"]).dropna().itertuples(index=False)
    ]


def row_of(image: str, name: str, proposals: Proposals) -> dict[str, Any]:
    """The row that is stored for the proposals of one set in one image."""
    return {
        "image": image,
        "proposals": name,
        "boxes": proposals.boxes.astype(np.float32).ravel(),
        "scores": proposals.scores.astype(np.float32),
        "reason": proposals.reason,
    }


def united(of_image: Mapping[str, Proposals], names: Iterable[str]) -> Proposals:
    """The proposals of some sets of an image together, in the order of the sets.

    Of several boxes that are equal in whole pixels, the first is kept.

    Example:
        >>> box = np.array([[1.0, 2.0, 9.0, 9.0]])
        >>> sets = {"rcnn": Proposals(box, np.zeros(1)), "doubled": Proposals(box + 0.2, np.ones(1))}
        >>> len(united(sets, ["rcnn", "doubled"]).boxes)
        1
    """
    sets = [of_image[name] for name in names]
    boxes = np.concatenate([each.boxes for each in sets])
    scores = np.concatenate([each.scores for each in sets])
    _, first = np.unique(boxes.round(), axis=0, return_index=True)
    kept = np.sort(first)
    return Proposals(boxes[kept], scores[kept])


def all_regions(of_image: Mapping[str, Proposals]) -> Boxes:
    """The boxes of all sets of an image, each once: the regions that the members see."""
    return united(of_image, sorted(of_image)).boxes


def sets_of(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The configurations of section 8 for some sets: each set alone but MultiBox, then doubled with MultiBox.

    Example:
        >>> sets_of(["rcnn", "doubled", "multibox"])
        [('rcnn',), ('doubled',), ('doubled', 'multibox')]
    """
    given = set(names)
    found: list[tuple[str, ...]] = [(name,) for name in PROPOSAL_SETS if name in given - {"multibox"}]
    if "multibox" in given:
        found.append(("doubled", "multibox") if "doubled" in given else ("multibox",))
    return found


def _proposals_of(row: Mapping[str, Any]) -> Proposals:
    """The proposals of a stored row."""
    boxes = row["boxes"].astype(np.float64).reshape(-1, 4)
    return Proposals(boxes, row["scores"].astype(np.float64), row["reason"])
