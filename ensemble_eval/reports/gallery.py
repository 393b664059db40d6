"""The hardest images of a run, with their crops and five best classes."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from ensemble_eval.datasets.items import BY_ETAGS, FileItem, Item
from ensemble_eval.datasets.listing import is_as_listed
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError, UnavailableError, UnreadableImageError
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.locations import ObjectPath
from ensemble_eval.reports.page import GalleryImage
from ensemble_eval.results.class_tables import ClassNames, class_name
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.table3 import Configuration
from ensemble_eval.settings import UNLABELLED

MAX_IMAGES = 24
# Base64 adds a third; with plots and tables the page stays below 10 MB.
MAX_BYTES = 5 << 20
_PICTURE_PIXELS, _CROP_PIXELS, _CROPS_IN_A_ROW = 300, 56, 5
_STRIP_CROPS = 10
# The gap between crops has a colour that is visible on light and dark pages.
_GAP_PIXELS, _GAP_COLOUR = 4, "#8b939c"
_QUALITY = 78


@dataclass(frozen=True)
class HardImage:
    """An image that a row of Table 3 gets wrong.

    Attributes:
        image: Its id.
        labels: Class indices.
        rank: The rank of the best-ranked label, from 0.
        answers: The five best classes with their mean softmax, best first.
    """

    image: str
    labels: tuple[int, ...]
    rank: int
    answers: tuple[tuple[int, float], ...]


class EvaluatedImages:
    """Reads images of a run by their ids, and checks that they are the evaluated ones.

    Args:
        results: The results of the run.
        root: The data set: a folder, an archive, or a pattern of shards or Parquet files.

    Raises:
        InputError: There is no such data set.
    """

    def __init__(self, results: StoredRun, root: Path) -> None:
        self._results = results
        self._root = root
        in_bucket = results.key.dataset.startswith(BY_ETAGS)
        if in_bucket != isinstance(root, ObjectPath):
            then = "a bucket, and are known by their ETags" if in_bucket else "files, and are known by their bytes"
            raise InputError(f"`data` {root} cannot be checked: the images were in {then}; give that data set")
        if not root.is_dir():
            try:
                _ = self._by_id
            except InputError as error:
                raise InputError(f"`data` is not the data set that was evaluated: {error}") from error

    def read(self, image: str) -> bytes:
        """The bytes of an image.

        Raises:
            UnreadableImageError: The image is missing, or it is not the one that was evaluated.
        """
        item = self._item(image)
        data = item.read()
        if not is_as_listed(self._results.folder / RUN.folder, self._results.key.dataset, image, item.digest()):
            raise UnreadableImageError("is not as it was evaluated")
        return data

    def _item(self, image: str) -> Item:
        path = self._root / image
        if self._root.is_dir() and self._root.resolve() not in path.resolve().parents:
            raise UnreadableImageError("lies outside the data set")
        # In a folder of files only the images of the gallery are looked up.
        if path.is_file() or not self._archives:
            return FileItem(image, 0, self._root)
        if (item := self._by_id.get(image)) is not None:
            return item
        # An archive may have a folder above its class folders, which its ids without labels include.
        longer = [each for each in self._by_id.values() if each.id.endswith(f"/{image}")]
        if len(longer) != 1:
            raise UnreadableImageError("is not in the data set")
        return longer[0]

    @property
    def _archives(self) -> bool:
        """Whether images are in archives or tables, and not in files of their own."""
        return not self._root.is_dir() or any(
            path.suffix.lower() in (".tar", ".parquet") for path in self._root.iterdir()
        )

    @cached_property
    def _by_id(self) -> dict[str, Item]:
        names = [f"class {index}" for index in range(self._results.key.classes)]
        return {item.id: item for item in open_dataset(self._root, names, UNLABELLED).items}


def hardest_images(results: StoredRun, configuration: Configuration) -> list[HardImage]:
    """The images that a row gets wrong in top-5, those with the worst label rank first.

    Args:
        results: The results of a run.
        configuration: The row.

    Raises:
        UnavailableError: The run stores decisions, not ranks.
    """
    if results.key.until_decided:
        raise UnavailableError(
            "the hardest images are found by the rank of their label, and a run that stops when decided has none; "
            "evaluate without `until_decided=True`"
        )
    columns = ["label", "rank", "top5", "top5_probability"]
    columns += ["labels"] if results.key.scope.several_labels else []
    at = results.key.row_names.index(configuration.name), results.crops.index(configuration.crops)
    found = [each for block in results.blocks(columns) for each in _wrong_of(block.table.take(block.rows[at]))]
    # Of equal ranks, the image with the greatest confidence in another class comes first.
    return sorted(found, key=lambda each: (-each.rank, -each.answers[0][1], each.image))


def gallery(
    results: StoredRun, hardest: Sequence[HardImage], root: Path, names: ClassNames
) -> tuple[list[GalleryImage], list[str]]:
    """Pictures of the hardest images, up to the size limit of the page, and sentences on images without a picture.

    Args:
        results: The results of the run.
        hardest: The images, from `hardest_images`.
        root: The data set.
        names: The names of the classes; None for their indices.

    Raises:
        InputError: There is no such data set, or it has none of the images as they were evaluated.
    """
    images = EvaluatedImages(results, root)
    shown, others, size = list[GalleryImage](), list[str](), 0
    for hard in hardest:
        if len(shown) == MAX_IMAGES or size > MAX_BYTES:
            break
        try:
            each = _gallery_image(results, hard, images, names)
        except UnreadableImageError as error:
            others.append(f"{hard.image} {error}")
            # Do not search a data set of other images to its end.
            if len(others) == MAX_IMAGES and not shown:
                break
            continue
        shown.append(each)
        size += len(each.picture) + len(each.crops)
    if others and not shown:
        raise InputError(
            f"`data` {root} has none of the images as they were evaluated ({others[0]}); "
            "give the data set that was evaluated"
        )
    return shown, list(_left_out(len(shown), len(hardest), others))


def _left_out(shown: int, wrong: int, others: Sequence[str]) -> Iterator[str]:
    if shown < wrong:
        yield (
            f"The gallery shows {shown} of the {wrong} images that the last row gets wrong: at most {MAX_IMAGES}, "
            "so that the page stays below 10 MB."
        )
    if others:
        yield f"{len(others)} pictures are not shown: {others[0]}{', …' if len(others) > 1 else ''}."


def _wrong_of(rows: pa.Table) -> Iterator[HardImage]:
    ranks = rows["rank"].to_numpy()
    for row in rows.take(pa.array(np.flatnonzero(ranks >= 5))).to_pylist():
        answers = tuple(zip(row["top5"], row["top5_probability"], strict=True))
        yield HardImage(row["image"], tuple(row.get("labels", [row["label"]])), row["rank"], answers)


def _gallery_image(
    results: StoredRun, hard: HardImage, images: EvaluatedImages, names: ClassNames
) -> GalleryImage:
    # Imported here, because importing torch takes a second.
    from ensemble_eval.crops.pixels import decode, picture_of, prepare

    decoded = decode(images.read(hard.image))
    _, height, width = decoded.shape
    crops = max(each for each in results.key.schemes if each <= _STRIP_CROPS)
    source = prepare(decoded, results.key.rule.up_to(crops).plan(width, height))
    views = (source.plan.views[view] for view in source.plan.groups[0].view_of_crop)
    picture = picture_of(decoded)
    picture.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    return GalleryImage(
        hard.image,
        tuple(class_name(names, label) for label in hard.labels),
        hard.rank,
        tuple((class_name(names, index), score, index in hard.labels) for index, score in hard.answers),
        _jpeg(picture),
        _jpeg(_strip([picture_of(source.cut(view)) for view in views])),
        crops,
    )


def _strip(crops: Sequence[Image.Image]) -> Image.Image:
    columns = min(len(crops), _CROPS_IN_A_ROW)
    step = _CROP_PIXELS + _GAP_PIXELS
    rows = -(-len(crops) // columns)
    strip = Image.new("RGB", (columns * step - _GAP_PIXELS, rows * step - _GAP_PIXELS), _GAP_COLOUR)
    for position, crop in enumerate(crops):
        row, column = divmod(position, columns)
        strip.paste(crop.resize((_CROP_PIXELS, _CROP_PIXELS)), (column * step, row * step))
    return strip


def _jpeg(picture: Image.Image) -> bytes:
    picture.save(file := io.BytesIO(), "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
