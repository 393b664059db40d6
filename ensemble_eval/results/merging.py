"""Results of one run from several folders, brought together in one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import write_atomically
from ensemble_eval.results import run_record
from ensemble_eval.results.folder import Outcome, counts, write_tables
from ensemble_eval.results.key import key_difference
from ensemble_eval.results.parts import RunKey, part_name
from ensemble_eval.results.store import PREDICTIONS_FOLDER, Progress, Store, describe_part, part_paths, read_part


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

    The record is that of a run. What only the start of a run knows, its arguments, comes from the record in
    `out`, or from the first of the folders that has one.

    Args:
        folders: output folders of the same run on different file systems; they are not changed.
        out: may be one of them.

    Raises:
        InputError: a folder without parts, or of another run; the difference is named.
    """
    key, parts, damaged = _read_all(folders)
    run_record.refuse_foreign(out, key)
    start = run_record.start_in(_records([out, *folders], key))
    store = Store(out, key)
    set_aside = store.open().damaged
    for path in parts:
        write_atomically(out / PREDICTIONS_FOLDER / path.name, read_part(path))
    while (progress := store.open()).repeated:
        store.remove_repeated()
    damaged += tuple(out / PREDICTIONS_FOLDER / name for name in set_aside)
    # Where `out` is one of the folders, however it is spelt, its damaged parts were seen twice.
    named = {path.resolve(): path for path in damaged}
    record = {
        "merged": [str(folder) for folder in folders],
        **run_record.facts(key, start),
        **counts(progress),
        "key": key,
    }
    is_complete = len(progress.accounted) >= key["images"]
    outcome = write_tables(out, store, progress, key["members"], record) if is_complete else None
    return Merged(key["images"], progress, tuple(named.values()), outcome)


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


def _records(folders: Sequence[Path], key: RunKey) -> Iterator[run_record.Record]:
    """The records in some folders, all of the run of this key."""
    for folder in folders:
        if record := run_record.read(folder):
            if record["key"] != key:
                raise InputError(
                    f"{folder} has a {run_record.RECORD_FILE} and parts of different runs "
                    f"({key_difference(record['key'], key)}); it was not written by this tool alone"
                )
            yield record
