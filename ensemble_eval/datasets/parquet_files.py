"""Parquet files with the bytes of images, as the Hugging Face hub stores them."""

import hashlib
import json
import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ensemble_eval.datasets.folders import refuse_undecodable
from ensemble_eval.datasets.items import NO_LABEL, ByteRange, Container, Dataset, container_of
from ensemble_eval.errors import InputError, UnreadableImageError, first_line, first_names, refusing
from ensemble_eval.files import open_regular
from ensemble_eval.stores import UnreachableError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Threads are at one or two of them at any moment, because images are read in order.
_GROUPS_IN_MEMORY = 2
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5,})-of-(?P<count>\d{5,})")


@dataclass(frozen=True)
class ParquetItem:
    """An image in a row of a Parquet file."""

    id: str
    label: int
    row: int
    group: "_RowGroup" = field(repr=False)

    def read(self) -> bytes:
        """The bytes in the row. Its group is read for them, unless it is among those that were read last."""
        try:
            data = self.group.loaded(self.group).images()[self.row].as_py()
        except UnreachableError:
            raise
        except Exception as error:
            # pyarrow's own errors are many, and memory may be short.
            raise UnreadableImageError(f"cannot be read ({first_line(error)})") from error
        if not isinstance(data, bytes):
            raise UnreadableImageError("has no bytes in its row")
        return data

    def digest(self) -> bytes:
        """Of the row's place and the ends of its group's packed images: unpacking them would read everything."""
        return hashlib.sha256(self.group.digest + str(self.row).encode()).digest()


class _LoadedGroup:
    """The images of a row group, read by the first thread that asks, while the others wait for it."""

    def __init__(self, group: "_RowGroup") -> None:
        self._group = group
        self._lock = threading.Lock()
        self._images: pa.ChunkedArray | None = None

    def images(self) -> "pa.ChunkedArray":
        """Read them, unless they are there. What fails is tried again next time: a network drive may come back."""
        with self._lock:
            if self._images is None:
                self._images = self._group.read()
            return self._images


# The row groups of a data set that were read last, for all threads of a process.
_Loaded = Callable[["_RowGroup"], _LoadedGroup]


@dataclass(frozen=True, eq=False)
class _RowGroup:
    """One group of rows of a file.

    Attributes:
        metadata: the file's footer, so that it is not read again for each group.
        number: of the group in its file.
        column: of the bytes of the images; that of a structure's field follows a dot.
        packed: their compressed bytes in the file.
        loaded: finds the group among those of its data set that were read last.
    """

    metadata: "pq.FileMetaData"
    number: int
    column: str
    packed: ByteRange
    loaded: _Loaded = field(repr=False)

    def read(self) -> "pa.ChunkedArray":
        """The bytes of its images, from the file."""
        import pyarrow.parquet as pq

        with self.packed.container.reopened() as file, pq.ParquetFile(file, metadata=self.metadata) as parquet:
            table = parquet.read_row_group(self.number, columns=[self.column], use_threads=False)
        return table.flatten()[self.column]

    @cached_property
    def digest(self) -> bytes:
        """As `Item.digest`, of its images as they are packed in the file."""
        return self.packed.digest()


def open_parquet(paths: Sequence[Path], class_names: Sequence[str], *, labelled: bool) -> Dataset:
    """List the images of Parquet files without reading them.

    An image's id is the name of the Parquet file without suffix, then the number of its row and, where the row has
    it, the name of the image's file. The column `image` holds bytes, or structures of `bytes` and `path`. The
    column `label` holds class indices; where the file names its classes and all these names are the
    ensemble's, the names decide.

    Args:
        paths: of one split, all with the same columns.
        class_names: in index order.
        labelled: whether the labels in the files count; otherwise the images have none yet.

    Raises:
        InputError: a file is damaged or missing, holds no bytes of images, or a label that is no class.
    """
    _refuse_mixed(paths)
    loaded: _Loaded = lru_cache(maxsize=_GROUPS_IN_MEMORY)(_LoadedGroup)
    items, blocks = list[ParquetItem](), list[int]()
    for path in sorted(paths, key=lambda path: f"{path.stem}/"):
        refuse_undecodable(path.parent, [path.name])
        damage = f"{path} is no Parquet file, or is damaged or cut short"
        with refusing(damage, "get it again"), open_regular(path, buffering=0) as file:
            for rows in _items_of(path, file, loaded, class_names if labelled else None):
                items += rows
                blocks.append(len(rows))
    if not items:
        raise InputError(f"{paths[0]} has no rows; give the files that hold the images")
    source = str(paths[0]) if len(paths) == 1 else f"{paths[0]} … {paths[-1].name}"
    layout = f"Parquet, {len(paths)} files"
    return Dataset(source, tuple(items), tuple(class_names), layout=layout, blocks=tuple(filter(None, blocks)))


def _items_of(
    path: Path, file: BinaryIO, loaded: _Loaded, class_names: Sequence[str] | None
) -> Iterator[list[ParquetItem]]:
    """The images of each group of rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        column, name_column = _image_column(path, schema)
        to_index = None if class_names is None else _to_index(path, schema, class_names)
        container, first = container_of(path, file), 0
        for number in range(parquet.num_row_groups):
            packed = _packed_images(path, container, parquet.metadata.row_group(number), column)
            wanted = [*(["label"] if to_index else []), *([name_column] if name_column else [])]
            rows = parquet.metadata.row_group(number).num_rows
            table = parquet.read_row_group(number, columns=wanted, use_threads=False)
            labels, names = [NO_LABEL] * rows, [""] * rows
            if to_index:
                labels = [to_index(first + row, label) for row, label in enumerate(table["label"].to_pylist())]
            if name_column:
                names = [_file_name(each) for each in table.flatten()[name_column].to_pylist()]
            group = _RowGroup(parquet.metadata, number, column, packed, loaded)
            yield [
                ParquetItem(f"{path.stem}/{first + row:08d}{names[row]}", labels[row], row, group)
                for row in range(rows)
            ]
            first += rows


def _image_column(path: Path, schema: "pa.Schema") -> tuple[str, str | None]:
    """The columns of the images' bytes, and of the names of their files, if they are there."""
    import pyarrow as pa

    images = schema.field("image").flatten() if "image" in schema.names else []
    kinds = {each.name: each.type for each in images}
    for column, names in (("image", None), ("image.bytes", "image.path")):
        kind = kinds.get(column)
        if kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return column, names if names in kinds else None
    raise InputError(
        f"{path} has no column `image` with the bytes of images (there are {first_names(schema.names)}); store "
        "the images themselves, as the Hugging Face hub does"
    )


def _packed_images(path: Path, container: Container, group: Any, column: str) -> ByteRange:
    """The compressed images of a group of rows in their file."""
    chunks = map(group.column, range(group.num_columns))
    chunk = next(each for each in chunks if each.path_in_schema == column)
    if chunk.statistics is not None and group.num_rows and chunk.statistics.null_count == group.num_rows:
        raise InputError(f"{path} holds the paths of images and not their bytes; store the bytes too")
    starts = [start for start in (chunk.dictionary_page_offset, chunk.data_page_offset) if start]
    return ByteRange(container, min(starts, default=0), chunk.total_compressed_size)


def _to_index(path: Path, schema: "pa.Schema", class_names: Sequence[str]) -> Callable[[int, object], int]:
    """What makes a class index of the label in a row."""
    if "label" not in schema.names:
        raise InputError(
            f'{path} has no column `label`; give `labels`, which are "none" for images without labels'
        )
    indices: Sequence[int] = range(len(class_names))
    if stored := _stored_names(schema):
        by_name = {name: index for index, name in enumerate(class_names)}
        others = [name for name in stored if name not in by_name]
        # Where all names are others, the file has words for the ensemble's WNIDs, in their order.
        if others and not len(others) == len(stored) == len(class_names):
            raise InputError(
                f"{path} has labels of {len(stored)} classes, of which {len(others)} are not among the ensemble's "
                f"{len(class_names)} ({first_names(others)}); use the data set that the classes belong to"
            )
        if not others:
            indices = [by_name[name] for name in stored]

    def index_of(row: int, label: object) -> int:
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(indices):
            unlabelled = ' (labels="none" takes images without labels)' if label in (None, -1) else ""
            raise InputError(
                f"{path}: the label of row {row} is {label!r}; it must be a class index from 0 to "
                f"{len(indices) - 1}{unlabelled}"
            )
        return indices[label]

    return index_of


def _stored_names(schema: "pa.Schema") -> list[str]:
    """The names of the classes that the Hugging Face library wrote beside the columns; empty where it did not."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _file_name(path: object) -> str:
    """What is added to an id: the name of the file that an image came from, which may tell its number."""
    return f"-{posixpath.basename(path)}" if isinstance(path, str) and path else ""


def _refuse_mixed(paths: Sequence[Path]) -> None:
    """Refuse files of several splits, or not all files of one, as far as their names say so."""
    found = [match for path in paths if (match := _SHARD.fullmatch(path.stem))]
    splits = {match["split"] for match in found}
    if len({path.stem for path in paths}) < len(paths):
        raise InputError(
            f"two of the files {paths[0]}, … have one name, so that their rows could not be told apart"
        )
    if len(splits) > 1 or 0 < len(found) < len(paths):
        raise InputError(
            f"{paths[0].parent} holds files of several data sets or splits ({first_names(sorted(splits))}); name "
            f"those of one, such as '{paths[0].parent}/{min(splits)}-*.parquet'"
        )
    # A single file was named by the user; of the files of a folder or a pattern, some may be missing.
    if len(paths) > 1 and found and len(found) < int(found[0]["count"]):
        raise InputError(
            f"only {len(found)} of the {int(found[0]['count'])} files {paths[0].parent / found[0]['split']}-* are "
            "there; get the others too"
        )
