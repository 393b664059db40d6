"""Merges several output folders of one job."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ensemble_eval.errors import InputError, refusing
from ensemble_eval.files import write_atomically
from ensemble_eval.store import record
from ensemble_eval.store.in_use import in_use
from ensemble_eval.store.parts import Format, KeyT, read_parts
from ensemble_eval.store.store import Progress, Store

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Merged(Generic[Outcome]):
    """The outcome of a merge.

    Attributes:
        images: The number of images in the data set.
        progress: The progress of the merged folder.
        damaged: Parts that were left out because their bytes had changed.
        outcome: The outcome of the job; None while images are missing.
    """

    images: int
    progress: Progress
    damaged: tuple[Path, ...]
    outcome: Outcome | None


def merge(
    folders: Sequence[Path],
    out: Path,
    form: Format[KeyT],
    finish: Callable[[Store[KeyT], record.Record], Outcome],
) -> Merged[Outcome]:
    """Copy the parts of all folders to `out`, each image once, and write the tables if no image is missing.

    The record is that of a job. The arguments of its start come from the record in `out`, or from the first folder
    that has a record.

    Args:
        folders: Output folders of the same job on different file systems; they are not changed.
        out: The folder for the results; it may be one of the folders.
        form: The layout of the folders.
        finish: Writes the tables of a complete store; its second argument has further entries for the record.

    Raises:
        InputError: A folder has no parts, or is of another job; the message names the difference.
    """
    key, parts, damaged = _read_all(folders, form)
    record.refuse_foreign(out, form, key)
    start = record.start_in(filter(None, (record.read_of_key(each, form, key) for each in [out, *folders])))
    store = Store(out, form, key)
    with in_use(out, alone=False):
        set_aside = store.open().damaged
        for path in parts:
            write_atomically(store.folder / path.name, _bytes(path))
        progress = store.open_deduplicated()
        damaged += tuple(store.folder / name for name in set_aside)
        # If `out` is one of the folders, its damaged parts were seen twice.
        named = {path.resolve(): path for path in damaged}
        merged = {"merged": [str(folder) for folder in folders], **start}
        outcome = finish(store, merged) if len(progress.accounted) >= key.images else None
    return Merged(key.images, progress, tuple(named.values()), outcome)


def _read_all(folders: Sequence[Path], form: Format[KeyT]) -> tuple[KeyT, list[Path], tuple[Path, ...]]:
    """Return the key that all parts share, the parts, and the damaged parts."""
    key: KeyT | None = None
    paths, damaged = list[Path](), list[Path]()
    for folder in folders:
        parts = read_parts(folder, form)
        if not parts.by_name and not parts.damaged:
            raise InputError(f"{folder} holds no results; give the `out` folders of runs")
        if key and parts.key and (difference := key.difference(parts.key)):
            raise InputError(
                f"{folder} and {folders[0]} differ in their runs ({difference}); merge the folders of one run only"
            )
        key = parts.key or key
        paths += [folder / form.folder / name for name in parts.by_name]
        damaged += parts.damaged
    if key is None:
        raise InputError("none of the folders holds an undamaged part; there is nothing to merge")
    return key, paths, tuple(damaged)


def _bytes(path: Path) -> bytes:
    with refusing(f"{path} cannot be read", "repair it or merge again", OSError):
        return path.read_bytes()
