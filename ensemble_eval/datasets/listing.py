"""The images of a run's data set as a table beside its results, to name what differs when another one is given."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.errors import first_names
from ensemble_eval.files import atomic_path, csv_text, read_regular

# Parquet's readers pass over names that begin with an underscore.
LISTING_PREFIX = "_images-"
_COLUMNS = ["image", "label", "ends"]
_DIGITS = 16

# Label and digest of size and ends, as text, by image.
_Listing = Mapping[str, tuple[str, str]]


def write_listing(folder: Path, dataset: Dataset) -> None:
    """Write the table of `dataset` to `folder`, unless it is there. Any number of processes may do so at once.

    Its name has the data set's fingerprint, so that tables of several data sets do not meet.

    Raises:
        InputError: the folder does not take the file.
    """
    path = _path(folder, dataset.sha256)
    if path.exists():
        return
    text = csv_text(_COLUMNS, ((image, *rest) for image, rest in _listing(dataset).items()))
    # It only serves to say more, so it is not worth waiting for the disk.
    with atomic_path(path, durable=False) as temporary:
        temporary.write_bytes(text.encode())


def listed_images(folder: Path, sha256: str) -> _Listing | None:
    """Label and digest of each image of the data set with the fingerprint `sha256`, by its table in `folder`.

    None where there is no such table, or it cannot be read.
    """
    try:
        header, *rows = csv.reader(io.StringIO(read_regular(_path(folder, sha256)).decode(), newline=""))
        return {image: (label, ends) for image, label, ends in rows} if header == _COLUMNS else None
    except (OSError, ValueError, csv.Error):
        return None


def is_as_listed(folder: Path, sha256: str, image: str, digest: bytes) -> bool:
    """Whether an image has the size and the ends that it had in the data set with the fingerprint `sha256`.

    Args:
        folder: that may hold the table.
        sha256: of the data set.
        image: its id there.
        digest: `Item.digest` now.

    Returns:
        True where `folder` has no table of that data set, or none that can be read.
    """
    listed = listed_images(folder, sha256)
    return listed is None or listed.get(image, ("", ""))[1] == digest.hex()[:_DIGITS]


def changes_since(folder: Path, sha256: object, dataset: Dataset) -> str | None:
    """What differs in `dataset` from the one with the fingerprint `sha256`, by its table in `folder`, as a phrase.

    None where there is no such table, or it cannot be read: it only serves to say more.
    """
    earlier = listed_images(folder, str(sha256))
    if earlier is None or sha256 == dataset.sha256:
        return None
    now = _listing(dataset)
    both = [image for image in now if image in earlier]
    kinds = {
        "added": [image for image in now if image not in earlier],
        "gone": [image for image in earlier if image not in now],
        "with another label": [image for image in both if now[image][0] != earlier[image][0]],
        "of another size, beginning or end": [image for image in both if now[image][1] != earlier[image][1]],
    }
    return "dataset: " + ", ".join(
        f"{len(images)} {kind} ({first_names(images)})" for kind, images in kinds.items() if images
    )


def _path(folder: Path, sha256: str) -> Path:
    return folder / f"{LISTING_PREFIX}{sha256[:_DIGITS]}.csv"


def _listing(dataset: Dataset) -> _Listing:
    return {
        item.id: (dataset.label_text(item), ends.hex()[:_DIGITS])
        for item, ends in zip(dataset.items, dataset.ends, strict=True)
    }
