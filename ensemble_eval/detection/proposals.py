"""Proposals: boxes that may hold an object, by image and by the set that they are of; and their files."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.formats import PROPOSE, PROPOSE_RECORD, ProposeKey
from ensemble_eval.errors import InputError
from ensemble_eval.files import read_text
from ensemble_eval.settings import PROPOSAL_SETS
from ensemble_eval.store.store import Store

_MAX_RECORD_BYTES = 1 << 24


@dataclass(frozen=True)
class Proposals:
    """The proposals of one set in one image.

    Attributes:
        boxes: float64 [boxes, 4], left, top, right and bottom in pixels; right and bottom are beyond the box.
        scores: float64 [boxes], the higher, the surer; all 0 where the method gives none.
        reason: why there are none, where the method failed or the image could not be read.
    """

    boxes: Boxes
    scores: NDArray[np.float64]
    reason: str | None = None


class StoredProposals(Mapping[str, Mapping[str, Proposals]]):
    """What `ensemble-eval propose` left in a folder for a data set: by image, then by set; read when asked for.

    Attributes:
        keys_of_sets: what each set depends on, by its name.
        failures: the images that a set has no proposals for: their id, the set and the reason.

    Args:
        folder: of `propose`.
        dataset: the images.

    Raises:
        InputError: the folder holds no proposals, not yet all of them, or those of other images.
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        record = read_record(folder)
        if record["dataset"] != dataset.sha256:
            raise InputError(f"the proposals {folder} are of other images; propose on this data set first")
        self.keys_of_sets: Mapping[str, ProposeKey] = record["sets"]
        self._images = sorted(item.id for item in dataset.items)
        self._stores = {name: Store(folder, PROPOSE[name], key) for name, key in self.keys_of_sets.items()}
        if any(not store.peek().done.issuperset(self._images) for store in self._stores.values()):
            raise InputError(f"{folder} has lost some of its proposals; run `ensemble-eval propose` on it again")
        self.failures: tuple[tuple[str, str, str], ...] = tuple(map(tuple, record["failed"]))

    def __getitem__(self, image: str) -> Mapping[str, Proposals]:
        """The proposals of an image, by set."""
        return {name: _proposals_of(*store.rows(image)) for name, store in self._stores.items()}

    def __iter__(self) -> Iterator[str]:
        """The images, sorted."""
        return iter(self._images)

    def __len__(self) -> int:
        """How many images."""
        return len(self._images)


def read_record(folder: Path) -> dict[str, Any]:
    """What `propose.json` says: among other things the finished sets, by name, with their keys.

    Raises:
        InputError: there is none, or none that can be used.
    """
    path = folder / PROPOSE_RECORD
    if not path.is_file():
        raise InputError(f"{folder} holds no finished proposals; run `ensemble-eval propose` to its end")
    try:
        record = json.loads(read_text(path, _MAX_RECORD_BYTES))
        if not (record["images"] > 0 and record["sets"] and isinstance(record["dataset"], str)):
            raise ValueError
        if not all(name in PROPOSAL_SETS for name in record["sets"]):
            raise ValueError
        record["sets"] = {name: ProposeKey.from_json(key) for name, key in record["sets"].items()}
        if not all(len(each) == 3 and all(isinstance(word, str) for word in each) for each in record["failed"]):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged, or an earlier version wrote it; run `ensemble-eval propose` on the folder again"
        ) from error
    return dict(record)


def row_of(image: str, name: str, proposals: Proposals) -> dict[str, Any]:
    """The row that is stored for the proposals of one set in one image."""
    return {
        "image": image,
        "proposals": name,
        "boxes": proposals.boxes.astype(np.float32).ravel(),
        "scores": proposals.scores.astype(np.float32),
        "reason": proposals.reason,
    }


def union(*sets: Proposals) -> Proposals:
    """Several sets as one, in their order. Of boxes that are the same in whole pixels the first stays.

    Example:
        >>> box = np.array([[1.0, 2.0, 9.0, 9.0]])
        >>> len(union(Proposals(box, np.zeros(1)), Proposals(box + 0.2, np.ones(1))).boxes)
        1
    """
    boxes = np.concatenate([each.boxes for each in sets])
    scores = np.concatenate([each.scores for each in sets])
    _, first = np.unique(boxes.round(), axis=0, return_index=True)
    kept = np.sort(first)
    return Proposals(boxes[kept], scores[kept])


def united(of_image: Mapping[str, Proposals], names: Iterable[str]) -> Proposals:
    """The union of some of the sets of an image."""
    return union(*(of_image[name] for name in names))


def all_regions(of_image: Mapping[str, Proposals]) -> Boxes:
    """The boxes of all sets of an image, each once: what the members see."""
    return united(of_image, sorted(of_image)).boxes


def sets_of(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The configurations of section 8 that some sets allow: each alone but MultiBox, then doubled with MultiBox.

    Example:
        >>> sets_of(["rcnn", "doubled", "multibox"])
        [('rcnn',), ('doubled',), ('doubled', 'multibox')]
    """
    given = set(names)
    found: list[tuple[str, ...]] = [(name,) for name in PROPOSAL_SETS if name in given - {"multibox"}]
    if "multibox" in given:
        found.append(("doubled", "multibox") if "doubled" in given else ("multibox",))
    return found


def in_words(sets: Sequence[str]) -> str:
    """The union of some sets, for people.

    Example:
        >>> in_words(("doubled", "multibox"))
        'doubled + multibox'
    """
    return " + ".join(sets)


def _proposals_of(row: Mapping[str, Any]) -> Proposals:
    """The proposals of a stored row."""
    boxes = row["boxes"].astype(np.float64).reshape(-1, 4)
    return Proposals(boxes, row["scores"].astype(np.float64), row["reason"])
