"""Files of labels, recognised by what stands in them; a gzipped one is read as it is."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ensemble_eval.datasets.devkit import is_archive, open_devkit
from ensemble_eval.datasets.ilsvrc import validation_number
from ensemble_eval.datasets.labels import Labels, stem
from ensemble_eval.datasets.labels_table import read_labels, read_table, resolve_labels
from ensemble_eval.errors import InputError
from ensemble_eval.files import read_text, read_unpacked

_BEGINNING_BYTES = 4096
_MAX_TEXT_BYTES = 1 << 26
_KAGGLE = ("imageid", "predictionstring")


def read_label_file(path: Path, num_classes: int, class_names: Sequence[str]) -> Labels:
    """The labels in a file, whichever of the known kinds it is.

    Args:
        path: a CSV `file,label`, Kaggle's CSV, Caffe's list, a JSON list of lists, or a development kit.
        num_classes: class indices run from 0 to `num_classes - 1`.
        class_names: in index order.

    Raises:
        InputError: it cannot be read, is of no known kind, or names a class that the ensemble does not have.
    """
    reader = _reader(path)
    return reader(path, num_classes, class_names)


def is_plain_table(path: Path) -> bool:
    """Whether a file is to be read as a CSV `file,label`: it looks like no other kind."""
    return _reader(path) is _plain_table


def _reader(path: Path) -> Callable[[Path, int, Sequence[str]], Labels]:
    if path.is_dir() or is_archive(path):
        return _devkit
    beginning = read_unpacked(path, _BEGINNING_BYTES).decode("utf-8-sig", "replace")
    line = next(iter(beginning.splitlines()), "").strip()
    if line.startswith("["):
        return _several
    if tuple(cell.strip().casefold() for cell in line.split(",")) == _KAGGLE:
        return _kaggle
    words = line.split()
    if words and words[-1].isdigit() and "," not in line:
        return _devkit if len(words) == 1 else _caffe
    return _plain_table


def _plain_table(path: Path, num_classes: int, class_names: Sequence[str]) -> Labels:
    found = resolve_labels(path, read_labels(path), num_classes, class_names)
    return _one_each(path, "a table of labels", found, lambda image: image)


def _devkit(path: Path, _num_classes: int, class_names: Sequence[str]) -> Labels:
    return open_devkit(path, class_names)


def _kaggle(path: Path, num_classes: int, class_names: Sequence[str]) -> Labels:
    """Each image's boxes, as a WNID and four numbers each; all of an image's boxes are of one class."""
    wnids = {}
    for image, boxes in read_table(path, _KAGGLE).items():
        words = boxes.split()
        if not words or len(words) % 5 or len(set(words[::5])) != 1:
            raise InputError(
                f"{path}: the boxes of {image} are not a class and four numbers each, all of one class"
            )
        wnids[image] = words[0]
    found = resolve_labels(path, wnids, num_classes, class_names)
    return _one_each(path, "Kaggle's labels", found, stem)


def _caffe(path: Path, num_classes: int, _class_names: Sequence[str]) -> Labels:
    """A file and a 0-based class index on each line."""
    texts: dict[str, str] = {}
    for number, line in enumerate(read_text(path, _MAX_TEXT_BYTES).splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not name:
            raise InputError(f"{path}, line {number}: {line.strip()[:40]!r} is no file and class index")
        if (name := name.strip()) in texts:
            raise InputError(f"{path}, line {number}: {name} is listed twice; keep one line")
        texts[name] = label
    # Numbers only: where a class is named by a number, this list means the index.
    found = resolve_labels(path, texts, num_classes, None)
    return _one_each(path, "Caffe's list of labels", found, lambda image: image)


def _several(path: Path, num_classes: int, _class_names: Sequence[str]) -> Labels:
    """A JSON list with a list of class indices for each validation image, in the order of their names."""
    try:
        lists = json.loads(read_text(path, _MAX_TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no valid JSON; get it again") from error
    by_number = {}
    for number, labels in enumerate(lists if isinstance(lists, list) else [None], 1):
        if not isinstance(labels, list) or not all(_is_class(label, num_classes) for label in labels):
            raise InputError(
                f"{path}: entry {number} is not a list of class indices from 0 to {num_classes - 1}; "
                "give one list for each validation image"
            )
        by_number[str(number)] = tuple(sorted(set(labels)))
    return Labels(str(path), "several labels for an image", validation_number, by_number, only_for_some=True)


def _is_class(label: object, num_classes: int) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and 0 <= label < num_classes


def _one_each(path: Path, kind: str, found: dict[str, int], key_of: Callable[[str], str | None]) -> Labels:
    return Labels(str(path), kind, key_of, {name: (index,) for name, index in found.items()})
