"""What objects the images of a data set show, from COCO's JSON or VOC's and ILSVRC's XML; and boxes in tables.

Boxes are left, top, right, bottom in pixels, float64, where right and bottom are the first coordinates beyond the
box. A box that ILSVRC or VOC writes with its last pixel inside is therefore one larger here.
"""

import json
import posixpath
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError, first_names, refusing
from ensemble_eval.files import open_regular, read_regular

Boxes = NDArray[np.float64]
"""[boxes, 4]"""

_Kind = TypeVar("_Kind")

# Annotators and their rounding leave boxes that reach this far beyond the picture.
_BEYOND_PIXELS = 1.0
_EDGES = ["left", "top", "right", "bottom"]


@dataclass(frozen=True)
class Objects:
    """What an image shows.

    Attributes:
        boxes: float64 [objects, 4].
        classes: int64 [objects].
        ignored: bool [objects]: finding one counts neither for nor against (VOC's difficult, COCO's crowds).
        crowd: bool [objects]: any number of detections may be inside it. Every crowd is ignored too.
    """

    boxes: Boxes
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class _Box:
    """One annotation as it was read."""

    class_name: str
    edges: tuple[float, float, float, float]
    difficult: bool
    crowd: bool = False


def read_boxes(path: Path, classes: Sequence[str], images: Sequence[str]) -> dict[str, Objects]:
    """The objects of each image.

    Args:
        path: a JSON file in COCO's format for detection, or a folder with an XML file for each image, as PASCAL
            VOC and ILSVRC have them. An image is found by its path below the data set, or by its file name if
            that is unique. VOC counts pixels from 1, which its files say; all others count from 0.
        classes: names in index order.
        images: ids of all images.

    Returns:
        By image. One without objects has empty arrays.

    Raises:
        InputError: the file is not of that format, an image has no annotation, or a box is of an unknown class,
            without an area, or outside its image.
    """
    annotated = _read_xml_folder(path) if path.is_dir() else _read_coco(path)
    by_image = _found(path, images, annotated)
    indices = {name: index for index, name in enumerate(classes)}
    return {image: _objects(path, image, by_image[image], indices) for image in images}


def class_names_in(path: Path) -> tuple[str, ...]:
    """The classes that annotations name: COCO's categories by their numbers, or those of the XML files, sorted.

    Raises:
        InputError: as `read_boxes`.
    """
    if path.is_dir():
        return tuple(sorted({box.class_name for boxes in _read_xml_folder(path).values() for box in boxes}))
    with _coco(path, "has no categories, as COCO's format for detection has them") as content:
        categories = sorted(content["categories"], key=lambda each: int(each["id"]))
        return tuple(str(each["name"]) for each in categories)


def coco_ids(
    path: Path | None, classes: Sequence[str], images: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """By which numbers results are to speak of images and of classes.

    Args:
        path: as for `read_boxes`; None for images without annotations. For them, and for XML files, which have no
            numbers, images and classes are counted from 1 in their order.
        classes: names in index order.
        images: ids of all images.

    Returns:
        The number of each image by its id, and of each class by its name.

    Raises:
        InputError: as `read_boxes`.
    """
    if path is None or path.is_dir():
        counted = {image: number for number, image in enumerate(sorted(images), start=1)}
        return counted, {name: number for number, name in enumerate(classes, start=1)}
    with _coco(path, "is not in COCO's format for detection: images and categories need ids") as content:
        numbers = {str(each["file_name"]): [int(each["id"])] for each in content["images"]}
        categories = {str(each["name"]): int(each["id"]) for each in content["categories"]}
    found = _found(path, images, numbers)
    return {image: number for image, [number] in found.items()}, categories


def _found(path: Path, images: Sequence[str], annotated: Mapping[str, list[_Kind]]) -> dict[str, list[_Kind]]:
    """The annotations of each image, by path or by file name."""
    whole = {_without_suffix(name): boxes for name, boxes in annotated.items()}
    if len(whole) < len(annotated):
        raise InputError(f"{path} has two annotations for images whose names differ in their suffix only")
    counts, own_counts = Counter(map(posixpath.basename, whole)), Counter(map(_stem, images))
    # By file name alone where it is unique among the annotations and among the images.
    by_name = {
        name: boxes
        for each, boxes in whole.items()
        if counts[name := posixpath.basename(each)] == own_counts[name] == 1
    }
    sought = {image: whole.get(_without_suffix(image), by_name.get(_stem(image))) for image in images}
    found = {image: boxes for image, boxes in sought.items() if boxes is not None}
    if missing := [image for image in images if image not in found]:
        raise InputError(
            f"{path} has no annotation for {len(missing)} of {len(images)} images ({first_names(missing)}); "
            "annotate them, without objects if they show none, or leave them out of the data set"
        )
    return found


def _objects(path: Path, image: str, boxes: Sequence[_Box], indices: Mapping[str, int]) -> Objects:
    if unknown := [box.class_name for box in boxes if box.class_name not in indices]:
        raise InputError(f"{path}: {image} has an object of {unknown[0]!r}, which is none of the classes")
    crowd = np.array([box.crowd for box in boxes], bool)
    return Objects(
        boxes=np.array([box.edges for box in boxes], np.float64).reshape(len(boxes), 4),
        classes=np.array([indices[box.class_name] for box in boxes], np.int64),
        ignored=crowd | np.array([box.difficult for box in boxes], bool),
        crowd=crowd,
    )


def _read_coco(path: Path) -> dict[str, list[_Box]]:
    format_needs = "it has images, annotations with image_id, category_id and bbox, and categories"
    with _coco(path, f"is not in COCO's format for detection ({{}}); {format_needs}") as content:
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        sizes = {each["id"]: (float(each["width"]), float(each["height"])) for each in content["images"]}
        files = {each["id"]: str(each["file_name"]) for each in content["images"]}
        found: dict[str, list[_Box]] = {file: [] for file in files.values()}
        for each in content["annotations"]:
            left, top, width, height = map(float, each["bbox"])
            image = files[each["image_id"]]
            box = _Box(
                names[each["category_id"]],
                (left, top, left + width, top + height),
                difficult=bool(each.get("difficult", 0)),
                crowd=bool(each.get("iscrowd", 0)),
            )
            _require_inside(path, image, box.edges, sizes[each["image_id"]])
            found[image].append(box)
    if len(found) < len(files):
        raise InputError(f"{path} lists an image twice; keep one entry for each")
    return found


@contextmanager
def _coco(path: Path, fault: str) -> Iterator[Any]:
    """The content of a JSON file; `fault` is said where its use inside fails, with `{}` for the error."""
    with refusing(f"the annotations {path} cannot be read", "check the path", OSError):
        text = read_regular(path)
    either = "give COCO's JSON, or a folder of VOC's or ILSVRC's XML files"
    with refusing(f"{path} is not JSON", either, ValueError, RecursionError):
        content = json.loads(text)
    try:
        yield content
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} {fault.format(f'{type(error).__name__}: {error}')}") from error


def _read_xml_folder(folder: Path) -> dict[str, list[_Box]]:
    paths = sorted(folder.rglob("*.xml"))
    if not paths:
        raise InputError(f"{folder} holds no XML files; give a folder with one for each image, or COCO's JSON")
    return {path.relative_to(folder).as_posix(): list(_read_xml(path)) for path in paths}


def _read_xml(path: Path) -> Iterable[_Box]:
    """The objects of one file; VOC's development kit (2012) and ILSVRC's describe the format."""
    root = _parsed_xml(path)
    # VOC counts pixels from 1. Its own files say what they are.
    first = 1 if "VOC" in root.findtext("source/annotation", "") else 0
    needs = "it has a size, and objects with a name and a bndbox"
    with refusing(f"{path} is not an annotation of VOC or ILSVRC", needs, ValueError):
        size = float(root.findtext("size/width", "")), float(root.findtext("size/height", ""))
        for each in root.iterfind("object"):
            corners = (each.findtext(f"bndbox/{name}", "") for name in ("xmin", "ymin", "xmax", "ymax"))
            left, top, right, bottom = (float(corner) - first for corner in corners)
            edges = (left, top, right + 1, bottom + 1)
            _require_inside(path, path.stem, edges, size)
            yield _Box(each.findtext("name", ""), edges, difficult=each.findtext("difficult", "0").strip() == "1")


def _parsed_xml(path: Path) -> ElementTree.Element:
    with refusing(f"the annotation {path} cannot be read", "check it", OSError):
        text = read_regular(path)
    # Entities, which only such a declaration may hold, could make a parser write out gigabytes.
    if b"<!DOCTYPE" in text:
        raise InputError(f"{path} declares a document type, which no annotation does; remove the declaration")
    annotation = "give VOC's or ILSVRC's annotation of the image"
    with refusing(f"{path} is not XML", annotation, ElementTree.ParseError, ValueError, LookupError):
        root = ElementTree.fromstring(text)
    if root.tag != "annotation":
        raise InputError(f"{path} has <{root.tag}> where an annotation of VOC or ILSVRC has <annotation>")
    return root


def _require_inside(
    path: Path, image: str, edges: tuple[float, float, float, float], size: tuple[float, float]
) -> None:
    left, top, right, bottom = edges
    # Written so that NaN is refused too.
    if not (left < right and top < bottom):
        raise InputError(
            f"{path}: {image} has a box of no area ({left:g}, {top:g} to {right:g}, {bottom:g}); fix it"
        )
    low, (width, height) = -_BEYOND_PIXELS, size
    if not (low <= left and low <= top and right <= width + _BEYOND_PIXELS and bottom <= height + _BEYOND_PIXELS):
        raise InputError(
            f"{path}: {image} has a box ({left:g}, {top:g} to {right:g}, {bottom:g}) outside its "
            f"{width:g}×{height:g} pixels; fix the box or the size"
        )


def _without_suffix(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _stem(name: str) -> str:
    return posixpath.basename(_without_suffix(name))


def read_box_table(path: Path, images: Sequence[str]) -> dict[str, tuple[Boxes, NDArray[np.float64]]]:
    """Boxes with scores from a table `image, left, top, right, bottom`, and perhaps `score`, the best first.

    Args:
        path: A Parquet file if its name ends so, and a CSV otherwise. Without scores boxes keep their order, and
            their scores are 0.
        images: Ids of all images.

    Returns:
        By image. One without any box in the file has empty arrays.

    Raises:
        InputError: The file is not of that form, names an image that the data set lacks, or has a box that is not
            finite or without an area.
    """
    import pandas as pd

    unreadable = refusing(f"the boxes {path} cannot be read", "check the path", OSError)
    # Each of pandas' readers has errors of its own.
    with refusing(f"{path} is no table of boxes"), unreadable, open_regular(path) as file:
        table = pd.read_parquet(file) if path.suffix == ".parquet" else pd.read_csv(file)
    if missing := [name for name in ["image", *_EDGES] if name not in table]:
        raise InputError(
            f"{path} has no column {missing[0]}; it needs image, {', '.join(_EDGES)}, and may have score"
        )
    of = table["image"].astype(str).tolist()
    if strangers := sorted({*of}.difference(images)):
        raise InputError(
            f"{path} has boxes for {len(strangers)} images that are not in the data set: {first_names(strangers)}"
        )
    with refusing(f"{path} has a box that is no number", "fix it", ValueError, TypeError):
        boxes = table[_EDGES].to_numpy(np.float64)
        scores = table["score"].to_numpy(np.float64) if "score" in table else np.zeros(len(table))
    sound = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        raise InputError(f"{path}: the box {row + 1} ({of[row]}) is not finite or has no area; fix or remove it")
    rows: dict[str, list[int]] = {image: [] for image in images}
    for row in np.argsort(-scores, kind="stable").tolist():
        rows[of[row]].append(row)
    return {image: (boxes[of_image], scores[of_image]) for image, of_image in rows.items()}
