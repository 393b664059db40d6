"""The output folder of a job on a data set: opening, completeness and closing."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Generic

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.listing import changes_since, write_bucket, write_listing
from ensemble_eval.errors import EnsembleEvalError, first_names, refusing
from ensemble_eval.files import create
from ensemble_eval.locations import ObjectPath
from ensemble_eval.store import record
from ensemble_eval.store.key import OtherKeyError
from ensemble_eval.store.parts import KeyT
from ensemble_eval.store.store import KEY_FILE, Progress, Store


class Folder(Generic[KeyT]):
    """The output folder of one job.

    Args:
        store: The parts in the folder.
        dataset: The images of the job.

    Attributes:
        images: Ids of the images, in the order of the data set.
    """

    def __init__(self, store: Store[KeyT], dataset: Dataset) -> None:
        self.store, self.dataset = store, dataset
        self.images = tuple(item.id for item in dataset.items)

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.store.out

    @property
    def last_file(self) -> Path:
        """The path of the file that the job writes last."""
        return self.out / (self.store.key.last_file or self.store.form.record)

    @property
    def progress(self) -> Progress:
        """The progress at the last reading of the parts."""
        return self.store.progress

    def open(self, *, fresh: bool, checked: bool = False) -> None:
        """Read the parts that are there, or remove them.

        Args:
            fresh: Remove them.
            checked: Read only footers, because the supervisor has just read every byte.

        Raises:
            InputError: The folder belongs to another job, or takes no files.
        """
        if fresh:
            record.refuse_file(self.out)
            record.clear(self.out, self.store.form)
            self.store.clear()
        self.refuse_foreign()
        with self._naming_changed_images():
            _ = self.store.peek() if checked else self.store.open()
            self._claim()
        write_listing(self.store.folder, self.dataset)
        if self.dataset.listing is not None:
            write_bucket(self.out, self.dataset.listing, replaces=fresh)

    def _claim(self) -> None:
        """Of two jobs that start in one folder of a bucket at the same moment, refuse one if their keys differ.

        In files this is noticed when their parts are read.
        """
        path, key = self.store.folder / KEY_FILE, self.store.key
        if isinstance(path, ObjectPath) and not create(path, json.dumps(key.to_json()).encode()):
            with refusing(f"{path} is damaged, or of another version", "run with `fresh=True`"):
                theirs = type(key).from_json(json.loads(path.read_bytes()))
            if theirs != key:
                raise OtherKeyError(self.out, theirs, key)

    def refuse_foreign(self) -> None:
        """Refuse a folder with the results of another job, and a path that is not a folder. Nothing is written.

        Raises:
            InputError: The message names the difference.
        """
        with self._naming_changed_images():
            record.refuse_foreign(self.out, self.store.form, self.store.key)

    @contextlib.contextmanager
    def _naming_changed_images(self) -> Iterator[None]:
        """If the data set has changed since the folder's job, name some of its images in the error."""
        try:
            yield
        except OtherKeyError as error:
            changes = changes_since(self.store.folder, error.theirs.dataset, self.dataset)
            if changes is None:
                raise
            raise OtherKeyError(self.out, error.theirs, self.store.key, {"dataset": changes}) from error

    @property
    def is_complete(self) -> bool:
        """Whether every image is done. Unreadable images are not, because they are tried again."""
        return self.progress.done.issuperset(self.images)

    def close(self) -> Progress:
        """Read every byte of the parts once more, and remove repeated images, before the tables are written.

        Raises:
            EnsembleEvalError: Images are missing, or do not belong to the data set.
        """
        accounted = self.store.open_deduplicated().accounted
        missing = [image for image in self.images if image not in accounted]
        if missing:
            raise EnsembleEvalError(
                f"{len(missing)} of {len(self.images)} images are not evaluated yet "
                f"({first_names(missing)}), so no table is written; run the same command again"
            )
        if extra := accounted.difference(self.images):
            raise EnsembleEvalError(
                f"{len(extra)} images in the results are not in the data set ({min(extra)}, …)"
            )
        self.store.remove_leftovers()
        record.remove_leftovers(self.out, self.store.form)
        return self.progress
