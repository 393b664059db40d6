"""Files of labels, gzipped or not, of which the kind is recognised by the content."""

import csv
import io
import json
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble_eval.datasets.folders import is_hidden, lexists
from ensemble_eval.datasets.ilsvrc import ground_truth, is_archive, refuse_unnumbered, validation_number
from ensemble_eval.datasets.items import Dataset, without
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.files import as_text, read_unpacked

_TABLE = ("file", "label")
_KAGGLE = ("imageid", "predictionstring")
MAX_BYTES = 1 << 30
_MAX_DIGITS = 9
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Labels:
    """What a source of labels says.

    Attributes:
        source: of the labels, for messages.
        kind: what it was recognised as, as a phrase.
        by_key: class indices by what the source calls the image: one, several, or none at all.
        key_of: from an image's id to what the source calls the image; None if that is not known.
        only_for_some: whether the source may know more images than there are.
        of_files: whether it lists files, which are images whatever their suffix.
    """

    source: str
    kind: str
    by_key: Mapping[str, tuple[int, ...]]
    key_of: Callable[[str], str | None] = str
    only_for_some: bool = False
    of_files: bool = False


def read_label_file(path: Path, class_names: Sequence[str]) -> Labels:
    """The labels in a file, whichever of the known kinds it is.

    Args:
        path: a CSV `file,label`, Kaggle's CSV, Caffe's list, a JSON list of lists, or a development kit.
        class_names: in index order.

    Raises:
        InputError: it cannot be read, is of no known kind, or names a class that the ensemble does not have.
    """
    data = b"" if path.is_dir() else read_unpacked(path, MAX_BYTES + 1)
    is_kit = path.is_dir() or is_archive(data)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes; is it the right file?")
    text = "" if is_kit else as_text(path, data)
    line = next(iter(text.splitlines()), "").strip()
    words = line.split()
    is_list = bool(words) and words[-1].isdigit() and "," not in line
    if is_kit or (is_list and len(words) == 1):
        kind, indices = "the development kit's ground truth", ground_truth(path, data, class_names)
        return Labels(str(path), kind, _one_each(indices), validation_number)
    if line.startswith("["):
        kind, lists = "several labels for an image", _several(path, text, len(class_names))
        return Labels(str(path), kind, lists, validation_number, only_for_some=True)
    if _folded(line.split(",")) == list(_KAGGLE):
        indices = resolve_labels(path, _kaggle(path, text), class_names)
        return Labels(str(path), "Kaggle's labels", _one_each(indices), _stem)
    if is_list:
        # Numbers only: where a class is named by a number, this list means the index.
        indices = resolve_labels(path, _caffe(path, text), class_names, by_name=False)
        return Labels(str(path), "Caffe's list of labels", _one_each(indices))
    rows = {name: label.strip() for name, label in columns_of_csv(path, text, _TABLE).items()}
    indices = resolve_labels(path, rows, class_names)
    return Labels(str(path), "a table of labels", _one_each(indices), of_files=True)


def _one_each(indices: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    return {key: (index,) for key, index in indices.items()}


def _stem(image: str) -> str:
    return posixpath.splitext(posixpath.basename(image))[0]


def _kaggle(path: Path, text: str) -> dict[str, str]:
    """The WNID of each image: its boxes are a WNID and four numbers each, all of one class."""
    wnids = {}
    for image, boxes in columns_of_csv(path, text, _KAGGLE).items():
        words = boxes.split()
        if not words or len(words) % 5 or len(set(words[::5])) != 1:
            raise InputError(
                f"{path}: the boxes of {image} are not a class and four numbers each, all of one class"
            )
        wnids[image] = words[0]
    return wnids


def _caffe(path: Path, text: str) -> dict[str, str]:
    """A file and a 0-based class index on each line."""
    texts: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not name:
            raise InputError(f"{path}, line {number}: {line.strip()[:40]!r} is no file and class index")
        if (name := name.strip()) in texts:
            raise InputError(f"{path}, line {number}: {name} is listed twice; keep one line")
        texts[name] = label
    return texts


def _several(path: Path, text: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """A JSON list with a list of class indices for each validation image, in the order of their names."""
    try:
        lists = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no valid JSON; get it again") from error
    by_number = {}
    for number, labels in enumerate(lists if isinstance(lists, list) else [None], 1):
        if not isinstance(labels, list) or not all(
            type(label) is int and 0 <= label < num_classes for label in labels
        ):
            raise InputError(
                f"{path}: entry {number} is not a list of class indices from 0 to {num_classes - 1}; "
                "give one list for each validation image"
            )
        by_number[str(number)] = tuple(sorted(set(labels)))
    return by_number


def columns_of_csv(path: Path, text: str, columns: Sequence[str]) -> dict[str, str]:
    """The cells of the second of two columns of a CSV by those of the first.

    The header may be written in capitals and with spaces around its names; there may be other columns.

    Raises:
        InputError: no CSV, a header without the two columns or with one of them twice, cells beyond the
            header, or a row twice.
    """
    rows: dict[str, str] = {}
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV ({error}); fix it") from error
    header = lines[0][1] if lines else []
    names = _folded(header)
    for column in columns:
        if names.count(column) > 1:
            raise InputError(f"{path}, line 1: the header has the column {column} twice; keep one")
        if column not in names:
            found = ",".join(header)
            raise InputError(f"{path} needs the header {','.join(columns)}; the first line is {found!r}")
    key_column, label_column = map(names.index, columns)
    for number, cells in lines[1:]:
        if len(cells) > len(names):
            raise InputError(
                f"{path}, line {number}: {len(cells)} cells under a header of {len(names)}; put cells that hold "
                "a comma into double quotes"
            )
        cells += [""] * (len(names) - len(cells))
        key = cells[key_column]
        if key in rows:
            raise InputError(f"{path}, line {number}: {key} is listed twice; keep one line")
        rows[key] = cells[label_column]
    return rows


def _folded(header: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in header]


def resolve_labels(
    path: Path, rows: Mapping[str, str], class_names: Sequence[str], *, by_name: bool = True
) -> dict[str, int]:
    """The class index of each file. All labels are indices, or all are names.

    Args:
        path: of the labels, for what is refused.
        rows: the label's text by file.
        class_names: names in index order.
        by_name: whether labels may be names.

    Raises:
        InputError: a label is neither index nor name, only some are, or both readings are possible and differ.
    """
    index_of = {name: index for index, name in enumerate(class_names)} if by_name else {}
    named = {file: index_of[text] for file, text in rows.items() if text in index_of}
    indexed = {file: int(text) for file, text in rows.items() if _is_index(text, len(class_names))}
    for file, text in rows.items():
        if file not in named and file not in indexed:
            allowed = f"a class index from 0 to {len(class_names) - 1}" + (" or a class name" if by_name else "")
            raise InputError(f"{path}: the label of {file} is {text!r}; it must be {allowed}")
        if len(named) == len(indexed) == len(rows) and indexed[file] != named[file]:
            raise InputError(
                f"{path}: the labels may be class indices or class names, which differ: {text!r} of {file} is the "
                f"index of the class {class_names[indexed[file]]!r}, or the name of the class with index "
                f"{named[file]}; give the classes names that are not numbers"
            )
    if len(named) < len(rows) and len(indexed) < len(rows):
        name, index = (next(file for file in rows if file not in others) for others in (indexed, named))
        raise InputError(
            f"{path}: some labels are class names ({rows[name]!r} of {name}) and some class indices "
            f"({rows[index]!r} of {index}); write all of them in one way"
        )
    return indexed if len(named) < len(rows) else named


def _is_index(text: str, num_classes: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) < num_classes


def labelled(dataset: Dataset, labels: Labels, folder: Path | None = None) -> Dataset:
    """The same images with the labels of another source.

    Images for which the source lists no class are left out, and counted in the data set's scope.

    Args:
        dataset: the images.
        labels: theirs.
        folder: that holds the images as files, if one does.

    Raises:
        InputError: images that the source does not know or cannot tell, images that it knows and that are not
            there, or two images that it calls the same.
    """
    keys = {item.id: labels.key_of(item.id) for item in dataset.items}
    told = {image: key for image, key in keys.items() if key is not None}
    untold = [image for image in keys if image not in told]
    refuse_unnumbered(labels.source, untold, "give labels of the form file,label")
    _refuse_shared(labels, told)
    _refuse_mismatch(labels, told, folder if labels.of_files else None)
    found = {image: labels.by_key[key] for image, key in told.items()}
    rest = without(dataset, "have no label", lambda item: bool(found[item.id]))
    if not rest.items:
        raise InputError(f"{labels.source} lists no class for any of the images; is it the right file?")
    several = any(len(classes) != 1 for classes in labels.by_key.values())
    # A protocol cannot say that all kinds of items are dataclasses.
    items = (replace(item, label=found[item.id][0]) for item in rest.items)  # type: ignore[type-var]
    return replace(
        rest,
        items=tuple(items),
        layout=f"{dataset.layout}, with {labels.kind} ({labels.source})",
        scope=replace(rest.scope, several_labels=several),
        several_labels={image: classes for image, classes in found.items() if classes} if several else {},
    )


def _refuse_shared(labels: Labels, keys: Mapping[str, str]) -> None:
    for key, count in Counter(keys.values()).items():
        if count > 1:
            images = [image for image, other in keys.items() if other == key]
            raise InputError(
                f"{labels.source} cannot tell {first_names(images)} apart; give each image its own name"
            )


def _refuse_mismatch(labels: Labels, keys: Mapping[str, str], folder: Path | None) -> None:
    """Refuse with all that does not match, each kind with the first few of its files."""
    there = set(keys.values())
    lost = [] if labels.only_for_some else [key for key in labels.by_key if key not in there]
    hidden = [key for key in lost if folder is not None and is_hidden(key) and lexists(folder / key)]
    kinds = {
        "images have no label in": [image for image, key in keys.items() if key not in labels.by_key],
        f"{'files do not exist' if folder else 'images are not there'} but stand in": [
            key for key in lost if key not in hidden
        ],
        "files are hidden, so that they take no part, but stand in": hidden,
    }
    phrases = [
        f"{len(names)} {what} {labels.source} ({first_names(sorted(names), _NAMED_AT_MOST)})"
        for what, names in kinds.items()
        if names
    ]
    if phrases:
        raise InputError(f"{', and '.join(phrases)}; make the labels and the folder match")
