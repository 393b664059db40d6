"""What every layout is read into, and the walk through a folder that all layouts share."""

import hashlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError, UnreadableImageError, first_line, located
from ensemble_eval.fields import CheckedFields, described, shown
from ensemble_eval.files import open_regular, read_regular

END_BYTES = 4096
# Files on a network are slow to open one by one.
_FINGERPRINT_THREADS = 16
# The label of an image that has none.
NO_LABEL = -1

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class Item(Protocol):
    """One labelled image, which brings its own bytes; lying in a file is only one way to do that.

    Attributes:
        id: its name in the results, unique in a data set; of a file, its path below the data set's root with
            forward slashes.
        label: class index; of several the first, and `NO_LABEL` for none.
    """

    @property
    def id(self) -> str: ...  # noqa: D102  (see the class)

    @property
    def label(self) -> int: ...  # noqa: D102  (see the class)

    def read(self) -> bytes:
        """The bytes of an image file.

        Raises:
            UnreadableImageError: they cannot be had.
        """

    def digest(self) -> bytes:
        """SHA-256 of the number of bytes, the first and the last of them; of nothing where they cannot be had."""


@dataclass(frozen=True)
class FileItem:
    """An image in a file; see `Item`."""

    id: str
    label: int
    path: Path

    def read(self) -> bytes:
        """See `Item`. A named pipe, a socket or a device is not read."""
        try:
            return read_regular(self.path)
        except Exception as error:
            # Not OSError alone: memory may be short, too.
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UnreadableImageError(f"cannot be read ({reason})") from error

    def digest(self) -> bytes:
        """See `Item`."""
        try:
            with open_regular(self.path, buffering=0) as file:
                return _digest(os.fstat(file.fileno()).st_size, file)
        except OSError:
            return hashlib.sha256().digest()


@dataclass(frozen=True)
class BytesItem:
    """An image in memory; see `Item`."""

    id: str
    label: int
    data: bytes = field(repr=False)

    def read(self) -> bytes:
        """See `Item`."""
        return self.data

    def digest(self) -> bytes:
        """See `Item`."""
        return _digest(len(self.data), io.BytesIO(self.data))


@dataclass(frozen=True)
class _Row(CheckedFields):
    """What `Dataset.of` is given of each image."""

    id: str
    label: int = field(metadata=described("a class index, a whole number", low=0))
    image: bytes = field(metadata=described("the bytes of an image file, as Path.read_bytes() gives them"))


def _item_of(row: object, place: str) -> BytesItem:
    if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) != len(fields(_Row)):
        raise InputError(f"{place} is (id, label, bytes), not {shown(row)}")
    with located(place):
        given = _Row(*row)
    return BytesItem(given.id, given.label, given.image)


def _digest(size: int, file: BinaryIO | FileIO) -> bytes:
    beginning = file.read(END_BYTES) or b""
    file.seek(max(size - END_BYTES, len(beginning)))
    return digest_of_ends(size, beginning, file.read(END_BYTES) or b"")


def digest_of_ends(size: int, first: bytes, last: bytes) -> bytes:
    """`Item.digest` of `size` bytes, of which the first and the last `END_BYTES` are given, none of them twice."""
    return hashlib.sha256(f"{size}\t".encode() + first + last).digest()


@dataclass(frozen=True)
class Dataset:
    """Labelled images, sorted by id. `open_dataset` reads one from disk, `Dataset.of` takes images in memory.

    Attributes:
        source: where the images come from, for messages.
        items: the images.
        class_names: the name of each class index, where the layout or the caller knows them.
        ignored: what takes no part, as ids: files that are no images by their suffix or place, and hidden images
            and folders; callers tell the user.
        layout: what was recognised, as a phrase.
        scope: what errors are counted over.
        several_labels: all labels of each image by its id, where images may have several; empty elsewhere.
        blocks: lengths of the runs of consecutive images that are read together, as the rows of a group in a
            Parquet file are, so that they should not go to several processes; empty where each is read alone.
    """

    source: str
    items: tuple[Item, ...]
    class_names: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    layout: str = "images in memory"
    scope: Scope = Scope()  # noqa: RUF009 (it is frozen)
    several_labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    blocks: tuple[int, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, images: Iterable[tuple[str, int, bytes]], class_names: Sequence[str] | None = None) -> "Dataset":
        """A data set of images in memory.

        Args:
            images: id, class index and the bytes of an image file of each.
            class_names: the name of each class index.

        Raises:
            InputError: there is no image, an id stands twice, or a row is no text, class index and bytes.

        Example:
            >>> dataset = Dataset.of([("b.png", 1, b"not"), ("a.png", 0, b"images")])
            >>> [item.id for item in dataset.items]
            ['a.png', 'b.png']
        """
        if not isinstance(images, Iterable) or isinstance(images, str | bytes | Path):
            raise InputError(f"images in memory are rows of (id, label, bytes), not {shown(images)}")
        rows = (_item_of(row, f"row {index} of the images") for index, row in enumerate(images))
        items = sorted(rows, key=lambda item: item.id)
        if not items:
            raise InputError("the data set has no images; give at least one (id, label, bytes)")
        for before, item in itertools.pairwise(items):
            if before.id == item.id:
                raise InputError(f"the image id {item.id!r} stands twice; give each image its own")
        return cls("memory", tuple(items), None if class_names is None else tuple(class_names))

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of ids, labels, and the sizes and ends of all images.

        A label that changed shows in it, and an image that was replaced by another, of the same size too: two
        compressed images do not end alike. Whole files would take as long to read as for the evaluation.
        """
        digest = hashlib.sha256()
        for item, ends in zip(self.items, self.ends, strict=True):
            digest.update(f"{item.id}\t{self.label_text(item)}\t".encode() + ends)
        return digest.hexdigest()

    def labels_of(self, image: str, label: int) -> tuple[int, ...]:
        """All class indices that count as right for an image.

        Args:
            image: its id.
            label: of the item.
        """
        return self.several_labels.get(image) or (() if label == NO_LABEL else (label,))

    def label_text(self, item: Item) -> str:
        """The labels of an image as text: one index in the usual case."""
        return " ".join(map(str, self.several_labels.get(item.id, (item.label,))))

    @cached_property
    def ends(self) -> tuple[bytes, ...]:
        """The digest of each image."""
        threads = ThreadPoolExecutor(_FINGERPRINT_THREADS)
        try:
            return tuple(threads.map(lambda item: item.digest(), self.items))
        finally:
            # Without waiting: who is told to stop has seconds, and a slow drive may take longer.
            threads.shutdown(wait=False, cancel_futures=True)


def relabelled(item: Item, label: int) -> Item:
    """The same image with another label."""
    # A protocol cannot say that all kinds of items are dataclasses.
    return replace(item, label=label)  # type: ignore[type-var]


def require_folder(root: Path) -> None:
    """Refuse a data set's root that is missing or is a file."""
    if not root.is_dir():
        reason = "is a file, not a folder" if root.exists() else "does not exist"
        raise InputError(f"the data set {root} {reason}; give the folder that holds the images")


def files_below(
    root: Path, leaving_out: Path | None = None, folders: Iterable[Path] | None = None
) -> tuple[dict[str, Path], list[str]]:
    """All files below `root` by their ids, and the links that are not followed, as `ls -l` shows them.

    Of what is hidden, images and folders come, so that callers can name them; hidden folders are not entered.
    Links to folders are followed after all that lies below `root` itself, in the order of their names. A link to a
    folder that is read already, or to one that holds such a folder, is not followed: images would count twice, and
    under another class.

    Args:
        root: the folder of the data set.
        leaving_out: a resolved folder that does not count as part of `root`, wherever it is met.
        folders: those in `root` that are read; None for `root` with all that is in it.

    Raises:
        InputError: a folder cannot be read, a name is not UTF-8, so that no table could hold it, or images are in
            the folder that is left out.
    """
    files: dict[str, Path] = {}
    not_followed = []
    real_root = Path(os.path.realpath(root))
    # Real paths: what is read, and what holds it.
    read: set[str] = set()
    above = set() if folders is None else {str(real_root), *map(str, real_root.parents)}
    waiting = sorted([root] if folders is None else folders, key=lambda path: (path.is_symlink(), path))
    while waiting:
        links: list[Path] = []
        for start in waiting:
            real = os.path.realpath(start)
            if real in read or real in above:
                target = str(start.readlink())
                refuse_undecodable(start.parent, [target])
                not_followed.append(f"{start.relative_to(root).as_posix()} -> {target}")
                continue
            above.update(map(str, Path(real).parents))
            for folder, found, its_links in _walk(start, leaving_out):
                read.add(os.path.realpath(folder))
                files |= {path.relative_to(root).as_posix(): path for path in found}
                links += its_links
        waiting = sorted(links)
    return files, not_followed


def _walk(start: Path, leaving_out: Path | None) -> Iterator[tuple[str, list[Path], list[Path]]]:
    """Each folder, what it holds to be named, and the links to folders in it, which are not entered."""
    for folder, subfolders, names in os.walk(start, onerror=_refuse_unreadable):
        there = sorted(name for name in subfolders if not is_left_out(Path(folder, name), leaving_out))
        refuse_undecodable(folder, [*there, *names])
        subfolders[:] = [name for name in there if not is_hidden(name)]
        shown = [name for name in sorted(names) if is_image(Path(name)) or not is_hidden(name)]
        found = [Path(folder, name) for name in (*filter(is_hidden, there), *shown)]
        yield folder, found, [path for name in subfolders if (path := Path(folder, name)).is_symlink()]


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(
        f"the folder {error.filename} cannot be read ({error.strerror}), so its images would be missing; "
        "mend its permissions"
    ) from error


def refuse_undecodable(folder: str | Path, names: Iterable[str]) -> None:
    """Refuse names that are not UTF-8, so that no table could hold them."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{folder} holds the name {name!r}, which is not UTF-8; rename it") from error


def is_hidden(identifier: str) -> bool:
    """Whether a name in a path begins with a dot, as macOS's `._x.JPEG` beside `x.JPEG` does."""
    return any(part.startswith(".") and part.strip(".") for part in identifier.split("/"))


def is_left_out(folder: Path, leaving_out: Path | None) -> bool:
    """Whether `folder` leads to the resolved folder `leaving_out`, by links too.

    Raises:
        InputError: it does, and images are in it, which would be missing without a word.
    """
    if leaving_out is None or os.path.realpath(folder) != str(leaving_out):
        return False
    for path in files_below(leaving_out)[0].values():
        if is_image(path) and not is_hidden(path.name):
            raise InputError(
                f'`out="{folder}"` holds images of the data set ({path.name}, …); choose a folder of its own'
            )
    return True


def is_image(path: Path) -> bool:
    """Whether the suffix is one of an image format that is read."""
    return path.suffix.lower() in IMAGE_SUFFIXES
