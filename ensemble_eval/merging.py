"""Results of one run from several folders, brought together in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ensemble_eval import run_record
from ensemble_eval.errors import InputError
from ensemble_eval.files import write_atomically
from ensemble_eval.parts import RunKey, part_name
from ensemble_eval.results import Outcome, counts, write_tables
from ensemble_eval.run_keys import key_difference
from ensemble_eval.store import (
    PREDICTIONS_FOLDER,
    Progress,
    Store,
    describe_part,
    part_paths,
    read_part,
)


@dataclass(frozen=True)
class Merged:
    """What came together.

    Attributes:
        images: of the data set.
        progress: of the merged folder.
        damaged: parts that were left out because their bytes had changed.
        outcome: the tables, if nothing is missing.
    """

    images: int
    progress: Progress
    damaged: tuple[Path, ...]
    outcome: Outcome | None


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Copy the parts of all folders to `out`, each image once, and write the tables if all images are there.

    Args:
        folders: output folders of the same run on different file systems; they are not changed.
        out: may be one of them.

    Raises:
        InputError: a folder without parts, or of another run; the difference is named.
    """
    key, parts, damaged = _read_all(folders)
    run_record.refuse_foreign(out, key)
    store = Store(out, key)
    set_aside = store.open().damaged
    for path in parts:
        write_atomically(out / PREDICTIONS_FOLDER / path.name, read_part(path))
    while (progress := store.open()).repeated:
        store.remove_repeated()
    damaged += tuple(out / PREDICTIONS_FOLDER / name for name in set_aside)
    # Where `out` is one of the folders, its damaged parts were seen twice.
    named = tuple(dict.fromkeys(damaged))
    return Merged(key["images"], progress, named, _tables(out, store, progress, key, folders))


def _read_all(folders: Sequence[Path]) -> tuple[RunKey, list[Path], tuple[Path, ...]]:
    """The key that all parts share, the parts, and those whose bytes have changed."""
    key: RunKey | None = None
    parts, damaged = [], []
    for folder in folders:
        paths = part_paths(folder / PREDICTIONS_FOLDER)
        if not paths:
            raise InputError(f"{folder} holds no results; give the --out folders of runs")
        for path in paths:
            data = read_part(path)
            if part_name(data) != path.name:
                damaged.append(path)
                continue
            theirs, _ = describe_part(path, BytesIO(data))
            if key is not None and theirs != key:
                raise InputError(
                    f"{folder} and {folders[0]} differ in their runs ({key_difference(key, theirs)}); "
                    "merge the folders of one run only"
                )
            key = theirs
            parts.append(path)
    if key is None:
        raise InputError("none of the folders holds an undamaged part; there is nothing to merge")
    return key, parts, tuple(damaged)


def _tables(out: Path, store: Store, progress: Progress, key: RunKey, folders: Sequence[Path]) -> Outcome | None:
    if len(progress.accounted) < key["images"]:
        return None
    record = {
        "merged": [str(folder) for folder in folders],
        "versions": run_record.versions(),
        **counts(progress),
        "key": key,
    }
    return write_tables(out, store, progress, key["members"], record)
