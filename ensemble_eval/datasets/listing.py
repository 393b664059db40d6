"""What an output folder keeps of its data set: a table of the images, and of a bucket its listing.

The table names what differs when another data set is given. The listing saves other processes the requests.
"""

import base64
import csv
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble_eval.datasets.items import BY_ETAGS, Dataset, Listing
from ensemble_eval.errors import InputError, first_names, refusing
from ensemble_eval.files import create, csv_text, read_regular, write_atomically
from ensemble_eval.locations import ObjectPath
from ensemble_eval.patterns import is_pattern, wild_folder, without_braces
from ensemble_eval.stores import Meta, Tree

# Parquet's readers pass over names that begin with an underscore.
LISTING_PREFIX = "_images-"
_COLUMNS = ["image", "label", "ends"]
_DIGITS = 16
_BUCKET_PREFIX = "_bucket-"

# Label and digest of size and ends, as text, by image.
_Listing = Mapping[str, tuple[str, str]]


def write_listing(folder: Path, dataset: Dataset) -> None:
    """Write the table of `dataset` to `folder`, unless it is there. Any number of processes may do so at once.

    Its name has the data set's fingerprint, so that tables of several data sets do not meet.

    Raises:
        InputError: the folder does not take the file.
    """
    path = _path(folder, dataset.sha256)
    if not path.is_file():
        text = csv_text(_COLUMNS, ((image, *rest) for image, rest in _listing(dataset).items()))
        create(path, text.encode())


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
    if str(sha256).startswith(BY_ETAGS) != (dataset.listing is not None):
        return "dataset: once in a bucket and once in files, so nothing shows whether the images are the same"
    now = _listing(dataset)
    both = [image for image in now if image in earlier]
    kinds = {
        "added": [image for image in now if image not in earlier],
        "gone": [image for image in earlier if image not in now],
        "with another label": [image for image in both if now[image][0] != earlier[image][0]],
        f"of another size{' or ETag' if dataset.listing else ', beginning or end'}": [
            image for image in both if now[image][1] != earlier[image][1]
        ],
    }
    return "dataset: " + ", ".join(
        f"{len(images)} {kind} ({first_names(images)})" for kind, images in kinds.items() if images
    )


def _path(folder: Path, sha256: str) -> Path:
    return folder / f"{LISTING_PREFIX}{sha256.removeprefix(BY_ETAGS)[:_DIGITS]}.csv"


def _listing(dataset: Dataset) -> _Listing:
    return {
        item.id: (dataset.label_text(item), ends.hex()[:_DIGITS])
        for item, ends in zip(dataset.items, dataset.ends, strict=True)
    }


def list_bucket(root: ObjectPath, out: Path | None, *, as_listed: bool) -> Listing:
    """List the objects of a data set, or take the listing that another process has left in the output folder.

    Args:
        root: the URL of the data set: of a folder, a file or a pattern.
        out: the output folder, whose listing saves reading unchanged objects again.
        as_listed: use the listing in `out`, if there is one, and do not list the bucket.

    Raises:
        InputError: the bucket cannot be listed, or the listing in `out` is damaged.
    """
    stored = None if out is None else _read_bucket(root, out)
    if stored is not None and as_listed:
        return stored
    folder = wild_folder(root)
    if root.can_be_listed:
        objects = dict(folder.below())
        if not objects and root.is_file():
            objects = {root.key: root.meta()}
    else:
        named = without_braces(root) if is_pattern(root) else [root]
        objects = {path.key: path.meta() for path in named if isinstance(path, ObjectPath)}
    if stored is None:
        return Listing(root, Tree(folder.key, objects, {}))
    before, reads = stored.tree.objects, stored.tree.reads
    if objects == before:
        return stored
    same = {key: reads[key] for key in reads if objects.get(key) == before.get(key)}
    return Listing(root, Tree(folder.key, objects, same), replaces=True)


def write_bucket(out: Path, listing: Listing, *, replaces: bool) -> None:
    """Keep a listing in the output folder, unless it came from there. Any number of processes may do so at once.

    Args:
        out: the output folder.
        listing: of the data set.
        replaces: whether it replaces the listing of an earlier start.

    Raises:
        InputError: `out` does not take it, or another process has just listed other objects.
    """
    if not listing.is_new:
        return
    listing.is_new, tree = False, listing.tree
    reads = {
        key: {offset: base64.b85encode(data).decode() for offset, data in each.items()}
        for key, each in tree.reads.items()
    }
    content = {"root": str(listing.root), "objects": tree.objects, "reads": reads}
    data = gzip.compress(json.dumps(content).encode(), 1, mtime=0)
    path = _bucket_path(listing.root, out)
    if replaces or listing.replaces:
        write_atomically(path, data)
        for other in [each for each in out.glob(f"{_BUCKET_PREFIX}*") if replaces and each.name != path.name]:
            other.unlink(missing_ok=True)
    elif not create(path, data):
        first = _read_bucket(listing.root, out)
        if first is not None and first.tree.objects != tree.objects:
            raise InputError(
                f"the objects of {listing.root} are changing while the run starts; start it again later"
            )


def _read_bucket(root: ObjectPath, out: Path) -> Listing | None:
    path = _bucket_path(root, out)
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return None
    with refusing(f"{path} is damaged", "remove it"):
        content: dict[str, Any] = json.loads(gzip.decompress(data))
        objects = {key: Meta(*meta) for key, meta in content["objects"].items()}
        reads = {
            key: {int(offset): base64.b85decode(text) for offset, text in each.items()}
            for key, each in content["reads"].items()
        }
        return Listing(root, Tree(wild_folder(root).key, objects, reads), is_new=False)


def _bucket_path(root: ObjectPath, out: Path) -> Path:
    return out / f"{_BUCKET_PREFIX}{hashlib.sha256(str(root).encode()).hexdigest()[:_DIGITS]}.json.gz"
