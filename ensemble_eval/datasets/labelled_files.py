"""The layout of one folder of images and a CSV `file,label` beside it."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ensemble_eval.datasets.items import Dataset, Item, is_image, require_folder, walk_files
from ensemble_eval.errors import InputError
from ensemble_eval.files import read_regular

COLUMNS = ("file", "label")
_MAX_DIGITS = 9


def open_labelled_files(
    root: Path, labels: Path, num_classes: int, class_names: Sequence[str] | None = None
) -> Dataset:
    """Read the images below `root` with their labels from a CSV file.

    Args:
        root: holds the images, at any depth.
        labels: CSV with the header `file,label`; files are paths below `root`, labels are 0-based class
            indices or, with `class_names`, names.
        num_classes: labels run from 0 to `num_classes - 1`.
        class_names: names in index order.

    Raises:
        InputError: files without a label or labels without a file (the first few are named), a label out
            of range, a file listed twice, or a CSV without the two columns.
    """
    require_folder(root)
    rows = _read_rows(labels)
    files = {path.relative_to(root).as_posix(): path for path in walk_files(root)}
    images = {name: path for name, path in files.items() if is_image(path) or name in rows}
    if not images:
        raise InputError(f"{root} holds no images; give the folder that holds them")
    _refuse_mismatch(labels, [name for name in images if name not in rows], "images have no label in")
    _refuse_mismatch(labels, [name for name in rows if name not in images], "files do not exist but stand in")
    indices = {name: index for index, name in enumerate(class_names or ())}
    items = [
        Item(name, _label(rows[name], name, labels, num_classes, indices), images[name]) for name in sorted(images)
    ]
    ignored = tuple(sorted(name for name in files if name not in images and not _is_table(name)))
    return Dataset(root, tuple(items), tuple(class_names) if class_names else None, ignored)


def _is_table(name: str) -> bool:
    return name.endswith(".csv")


def _read_rows(labels: Path) -> dict[str, str]:
    try:
        text = read_regular(labels).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"the labels {labels} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"the labels {labels} are not UTF-8 text; give a CSV with the header file,label"
        ) from error
    reader = csv.DictReader(io.StringIO(text))
    if reader.fieldnames is None or not set(COLUMNS) <= set(reader.fieldnames):
        raise InputError(f"the labels {labels} need the header {','.join(COLUMNS)}")
    rows: dict[str, str] = {}
    try:
        for row in reader:
            name = row["file"] or ""
            if name in rows:
                raise InputError(f"{labels}, line {reader.line_num}: {name} is listed twice; keep one line")
            rows[name] = (row["label"] or "").strip()
    except csv.Error as error:
        raise InputError(f"{labels}, line {reader.line_num}: not valid CSV ({error}); mend it") from error
    return rows


def _label(text: str, name: str, labels: Path, num_classes: int, indices: Mapping[str, int]) -> int:
    if text in indices:
        return indices[text]
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) < num_classes:
        return int(text)
    names = " or a class name" if indices else ""
    raise InputError(
        f"{labels}: the label of {name} is {text!r}; it must be a class index from 0 to {num_classes - 1}{names}"
    )


def _refuse_mismatch(labels: Path, names: Sequence[str], what: str) -> None:
    if names:
        more = ", …" if len(names) > 5 else ""
        raise InputError(
            f"{len(names)} {what} {labels} ({', '.join(sorted(names)[:5])}{more}); "
            "make the labels and the folder match"
        )
