"""What every layout is read into, and the walk through a folder that all layouts share."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ensemble_eval.errors import InputError, UnreadableImageError, first_line
from ensemble_eval.files import open_regular, read_regular

_END_BYTES = 4096
# Files on a network are slow to open one by one.
_FINGERPRINT_THREADS = 16

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Item:
    """One labelled image. `id` is its path below the data set's root, with forward slashes."""

    id: str
    label: int
    path: Path

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            UnreadableImageError: the file cannot be read, or is a named pipe, a socket or a device.
        """
        try:
            return read_regular(self.path)
        except Exception as error:
            # Not OSError alone: memory may be short, too.
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UnreadableImageError(f"cannot be read ({reason})") from error


@dataclass(frozen=True)
class Dataset:
    """Labelled images, sorted by id.

    Attributes:
        root: the folder that ids are relative to.
        items: the images.
        class_names: the name of each class index, where the layout or the caller knows them.
        ignored: what takes no part, as ids: files that are no images by their suffix or place, and hidden images
            and folders; callers tell the user.
    """

    root: Path
    items: tuple[Item, ...]
    class_names: tuple[str, ...] | None
    ignored: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of ids, labels, and the sizes and ends of all files.

        A label that changed shows in it, and a file that was replaced by another, of the same size too: two
        compressed images do not end alike. Whole files would take as long to read as for the evaluation.
        """
        digest = hashlib.sha256()
        for item, ends in zip(self.items, self.ends, strict=True):
            digest.update(f"{item.id}\t{item.label}\t".encode() + ends)
        return digest.hexdigest()

    @cached_property
    def ends(self) -> tuple[bytes, ...]:
        """For each image a digest of the size, the first and the last bytes of its file."""
        threads = ThreadPoolExecutor(_FINGERPRINT_THREADS)
        try:
            return tuple(threads.map(_ends, [item.path for item in self.items]))
        finally:
            # Without waiting: who is told to stop has seconds, and a slow drive may take longer.
            threads.shutdown(wait=False, cancel_futures=True)


def _ends(path: Path) -> bytes:
    """A digest of a file's size, beginning and end; of nothing where it cannot be read and will be listed so."""
    try:
        with open_regular(path, buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            beginning = file.read(_END_BYTES)
            file.seek(max(size - _END_BYTES, len(beginning)))
            end = file.read(_END_BYTES)
    except OSError:
        return hashlib.sha256().digest()
    return hashlib.sha256(f"{size}\t".encode() + beginning + end).digest()


def require_folder(root: Path) -> None:
    """Refuse a data set's root that is missing or is a file."""
    if not root.is_dir():
        reason = "is a file, not a folder" if root.exists() else "does not exist"
        raise InputError(f"the data set {root} {reason}; give the folder that holds the images")


def walk_files(root: Path, leaving_out: Path | None = None) -> Iterator[Path]:
    """All files below `root`, links followed but no folder entered twice.

    Of what is hidden, images and folders come, so that callers can name them; hidden folders are not entered.

    Args:
        root: the folder to walk.
        leaving_out: a resolved folder that does not count as part of `root`, wherever it is met.

    Raises:
        InputError: a folder cannot be read, a name is not UTF-8, so that no table could hold it, or images are in
            the folder that is left out.
    """
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse_unreadable):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not is_left_out(Path(folder, name), leaving_out))
        refuse_undecodable(folder, [*subfolders, *files])
        yield from (Path(folder, name) for name in subfolders if is_hidden(name))
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        paths = (Path(folder, name) for name in sorted(files))
        yield from (path for path in paths if is_image(path) or not is_hidden(path.name))


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
    for path in walk_files(leaving_out):
        if is_image(path) and not is_hidden(path.name):
            raise InputError(
                f"--out {folder} holds images of the data set ({path.name}, …); choose a folder of its own"
            )
    return True


def is_image(path: Path) -> bool:
    """Whether the suffix is one of an image format that is read."""
    return path.suffix.lower() in IMAGE_SUFFIXES
