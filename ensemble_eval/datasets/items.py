"""Labelled images, in files, in archives or in memory, and the data sets that they make up."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError, UnreadableImageError, located, reason_of
from ensemble_eval.fields import CheckedFields, bounds, shown
from ensemble_eval.files import open_regular, read_regular
from ensemble_eval.locations import ObjectFile, ObjectPath
from ensemble_eval.stores import Tree, UnreachableError
from ensemble_eval.tables.formats import Displayed

_END_BYTES = 4096
# Opening a large file for each image in it takes longer than reading it; a process may not have many open.
_OPEN_AT_MOST = 32
# Files on a network are slow to open one by one.
_FINGERPRINT_THREADS = 16
# An image that waits for a thread takes two kilobytes of memory.
_DIGESTS_AT_ONCE = 512
# Begins the fingerprints of data sets in buckets.
BY_ETAGS = "etags "
# The label of an image that has none.
NO_LABEL = -1


class Item(Protocol):
    """One labelled image, which reads its own bytes, from a file or from elsewhere.

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
            UnreadableImageError: they cannot be read.
        """

    def digest(self) -> bytes:
        """SHA-256 of the number of bytes, the first and the last of them; of no bytes if they cannot be read.

        In a bucket, it is that of the object's size and ETag, which its listing gives without reading anything.
        """


@dataclass(frozen=True, slots=True)
class FileItem:
    """An image in a file or an object below `root`, the folder of the data set."""

    id: str
    label: int
    root: Path

    @property
    def path(self) -> Path:
        """Made anew each time, because a path takes more memory than the rest of a listed image."""
        return self.root / self.id

    def read(self) -> bytes:
        """The bytes of the file. A named pipe, a socket or a device is not read."""
        return bytes_or_unreadable(lambda: read_regular(self.path))

    def digest(self) -> bytes:
        """As `digest_of_ends`, of the file."""
        path = self.path
        if isinstance(path, ObjectPath):
            size, version, _ = path.meta()
            return hashlib.sha256(f"{size}\t{version}".encode()).digest()
        try:
            with open_regular(path, buffering=0) as file:
                handle = file.fileno()
                return digest_of_ends(os.fstat(handle).st_size, lambda at, size: os.pread(handle, size, at))
        except OSError:
            return hashlib.sha256().digest()


@dataclass(frozen=True)
class BytesItem(CheckedFields):
    """An image in memory."""

    id: str
    label: int = field(metadata=bounds(words="a class index, a whole number", low=0))
    image: bytes = field(
        repr=False, metadata=bounds(words="the bytes of an image file, as Path.read_bytes() gives them")
    )

    def read(self) -> bytes:
        """The bytes."""
        return self.image

    def digest(self) -> bytes:
        """As `digest_of_ends`, of the bytes."""
        return digest_of_ends(len(self.image), lambda at, size: self.image[at : at + size])


def _item_of(row: object, place: str) -> BytesItem:
    if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) != len(fields(BytesItem)):
        raise InputError(f"{place} is (id, label, bytes), not {shown(row)}")
    with located(place):
        return BytesItem(*row)


def bytes_or_unreadable(read: Callable[[], bytes]) -> bytes:
    """What `read` returns.

    Raises:
        UnreadableImageError: it fails.
        UnreachableError: the store does not answer, which says nothing about the image.
    """
    try:
        return read()
    except UnreachableError:
        raise
    except Exception as error:  # not OSError alone: memory may be short, too
        raise UnreadableImageError(f"cannot be read ({reason_of(error)})") from error


def digest_of_ends(size: int, read_at: Callable[[int, int], bytes]) -> bytes:
    """`Item.digest` of `size` bytes.

    Args:
        size: their number.
        read_at: returns at most so many bytes (the second argument) from an offset on (the first).
    """
    first = read_at(0, _END_BYTES)
    last = read_at(max(size - _END_BYTES, len(first)), _END_BYTES)
    return hashlib.sha256(f"{size}\t".encode() + first + last).digest()


@dataclass(frozen=True, slots=True)
class Container:
    """A file of many images, as it was when its images were listed.

    Attributes:
        path: of the file.
        size: in bytes.
        version: when it was changed last, in nanoseconds since 1970; for an object, its ETag.
    """

    path: Path
    size: int
    version: int | str

    def reopened(self) -> BinaryIO:
        """The file, open for reading.

        Raises:
            OSError: it cannot be opened, or has changed.
        """
        file = open_regular(self.path, buffering=0)
        if container_of(self.path, file) != self:
            file.close()
            raise OSError(f"{self.path} has changed since it was opened")
        return file

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from an offset on.

        Raises:
            OSError: the file cannot be read, or has changed.
        """
        if isinstance(self.path, ObjectPath):
            return self.path.read_range(offset, size, str(self.version))
        # Held while it is read, because the cache may drop it.
        handle = _handle_of(self)
        if container_of(self.path, handle.number) != self:
            raise OSError(f"{self.path} has changed since it was opened")
        return os.pread(handle.number, size, offset)


class _Handle:
    """An open file, which is closed with its last reference."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@lru_cache(maxsize=_OPEN_AT_MOST)
def _handle_of(container: Container) -> _Handle:
    with container.reopened() as file:
        return _Handle(os.dup(file.fileno()))


def container_of(path: Path, file: BinaryIO | int) -> Container:
    """A file that is open, or its number, as it is now; an object as it was when it was opened."""
    if isinstance(file, ObjectFile):
        return Container(path, file.meta.size, file.meta.version)
    state = os.fstat(file if isinstance(file, int) else file.fileno())
    return Container(path, state.st_size, state.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of a file.

    Attributes:
        container: the file.
        offset: of the first byte.
        size: how many.
    """

    container: Container
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: the file cannot be read, or has changed.
        """
        return self._at(0, self.size)

    def digest(self) -> bytes:
        """As `Item.digest`, of these bytes: the same as of a file that holds nothing else."""
        container = self.container
        if isinstance(container.path, ObjectPath):
            place = f"{container.size}\t{container.version}\t{self.offset}\t{self.size}"
            return hashlib.sha256(place.encode()).digest()
        try:
            return digest_of_ends(self.size, self._at)
        except OSError:
            return hashlib.sha256().digest()

    def _at(self, offset: int, size: int) -> bytes:
        return self.container.read_at(self.offset + offset, min(size, self.size - offset))


@dataclass(frozen=True, slots=True)
class RangeItem:
    """An image in a larger file, such as a tar archive."""

    id: str
    label: int
    stored: ByteRange = field(repr=False)

    def read(self) -> bytes:
        """The bytes in the larger file."""
        return bytes_or_unreadable(self.stored.read)

    def digest(self) -> bytes:
        """The same as of the same image in a file of its own."""
        return self.stored.digest()


@dataclass
class Listing:
    """The listing of a data set in a bucket.

    Attributes:
        root: URL of the data set.
        tree: what was listed.
        is_new: whether no output folder has it yet.
        replaces: whether it takes the place of an older one.
    """

    root: ObjectPath
    tree: Tree
    is_new: bool = True
    replaces: bool = False


@dataclass(frozen=True, repr=False)
class Dataset(Displayed):
    """Labelled images, sorted by id. `open_dataset` reads one from disk, `Dataset.of` takes images in memory.

    Attributes:
        source: where the images come from, for messages.
        items: the images.
        class_names: the name of each class index, where the layout or the caller knows them.
        ignored: ids of what is left out: files that are no images by suffix or place, and what is hidden.
        layout: what was recognised, as a phrase.
        scope: what errors are counted over.
        several_labels: all labels of each image by its id, where images may have several; empty elsewhere.
        listing: that of the bucket that the images are in; its ETags identify them, and not their bytes.
        blocks: lengths of the runs of consecutive images that one process should read, as the rows of a group in
            a Parquet file; empty where each is read alone.
    """

    source: str
    items: tuple[Item, ...]
    class_names: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    layout: str = "images in memory"
    scope: Scope = Scope()  # noqa: RUF009 (it is frozen)
    several_labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    blocks: tuple[int, ...] = field(default=(), repr=False)
    listing: "Listing | None" = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, images: Iterable[tuple[str, int, bytes]], class_names: Sequence[str] | None = None) -> "Dataset":
        """A data set of images in memory.

        Args:
            images: id, class index and the bytes of an image file of each.
            class_names: the name of each class index.

        Raises:
            InputError: there is no image, two images have one id, or a row is not a text, a class index and bytes.

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

    def _facts(self) -> dict[str, object]:
        facts = {"source": self.source, "images": len(self.items), "layout": self.layout}
        classes = {} if self.class_names is None else {"classes": len(self.class_names)}
        return facts | classes | dict.fromkeys(self.scope.sentences(), True)

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of ids, labels, and the sizes and ends of all images.

        It shows a changed label, and an image that was replaced by another, even of the same size: two compressed
        images do not end alike. Whole files would take as long to read as for the evaluation.

        In a bucket, ETags take the place of ends. The fingerprint then begins with `BY_ETAGS`: it says nothing
        about the same images elsewhere.
        """
        digest = hashlib.sha256()
        for item, ends in zip(self.items, self.ends, strict=True):
            digest.update(f"{item.id}\t{self.label_text(item)}\t".encode() + ends)
        return f"{BY_ETAGS if self.listing else ''}{digest.hexdigest()}"

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
        # The listing of a bucket has all that is asked for.
        mapped = threads.map if self.listing is None else map
        starts = range(0, len(self.items), _DIGESTS_AT_ONCE)
        batches = (self.items[start : start + _DIGESTS_AT_ONCE] for start in starts)
        try:
            return tuple(digest for batch in batches for digest in mapped(lambda item: item.digest(), batch))
        finally:
            # Without waiting: a process that must stop has seconds, and a slow drive may take longer.
            threads.shutdown(wait=False, cancel_futures=True)


def keeping(dataset: Dataset, wanted: Callable[[Item], bool]) -> Dataset:
    """The same data set with some of its images."""
    kept = [wanted(item) for item in dataset.items]
    items, flags = tuple(itertools.compress(dataset.items, kept)), iter(kept)
    blocks = [sum(itertools.islice(flags, length)) for length in dataset.blocks]
    return replace(dataset, items=items, blocks=tuple(filter(None, blocks)))


def without(dataset: Dataset, why: str, wanted: Callable[[Item], bool]) -> Dataset:
    """As `keeping`; the scope says how many images are left out, and `why`, in words behind a number of images."""
    rest = keeping(dataset, wanted)
    if not (gone := len(dataset.items) - len(rest.items)):
        return dataset
    scope = dataset.scope
    left_out = {**scope.left_out, why: gone}
    return replace(rest, scope=replace(scope, whole=scope.whole or len(dataset.items), left_out=left_out))
