"""Results of one run from several folders, brought together in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import write_atomically
from ensemble_eval.results import run_record
from ensemble_eval.results.folder import Outcome, counts, write_tables
from ensemble_eval.results.in_use import in_use
from ensemble_eval.results.key import RunKey
from ensemble_eval.results.parts import PREDICTIONS_FOLDER, read_parts
from ensemble_eval.results.store import Progress, Store


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
    start = run_record.start_in(filter(None, (run_record.read_of_run(each, key) for each in [out, *folders])))
    store = Store(out, key)
    with in_use(out, alone=False):
        set_aside = store.open().damaged
        for path in parts:
            write_atomically(out / PREDICTIONS_FOLDER / path.name, _bytes(path))
        progress = store.open_each_once()
        damaged += tuple(out / PREDICTIONS_FOLDER / name for name in set_aside)
        # Where `out` is one of the folders, however it is spelt, its damaged parts were seen twice.
        named = {path.resolve(): path for path in damaged}
        record = {
            "merged": [str(folder) for folder in folders],
            **run_record.facts(key, start),
            **counts(progress),
            "key": key.to_json(),
        }
        is_complete = len(progress.accounted) >= key.images
        outcome = write_tables(out, store, progress, key.member_names, record) if is_complete else None
    return Merged(key.images, progress, tuple(named.values()), outcome)


def _read_all(folders: Sequence[Path]) -> tuple[RunKey, list[Path], tuple[Path, ...]]:
    """The key that all parts share, the parts, and those whose bytes have changed."""
    key: RunKey | None = None
    paths, damaged = list[Path](), list[Path]()
    for folder in folders:
        parts = read_parts(folder)
        if not parts.by_name and not parts.damaged:
            raise InputError(f"{folder} holds no results; give the `out` folders of runs")
        if key and parts.key and (difference := key.difference(parts.key)):
            raise InputError(
                f"{folder} and {folders[0]} differ in their runs ({difference}); merge the folders of one run only"
            )
        key = parts.key or key
        paths += [folder / PREDICTIONS_FOLDER / name for name in parts.by_name]
        damaged += parts.damaged
    if key is None:
        raise InputError("none of the folders holds an undamaged part; there is nothing to merge")
    return key, paths, tuple(damaged)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); mend it or merge again") from error
