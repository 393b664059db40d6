"""The output folder of a job on a data set: opened for more work, and complete or not."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Generic

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.listing import changes_since, write_listing
from ensemble_eval.errors import EnsembleEvalError, first_names
from ensemble_eval.files import require_could_be_written
from ensemble_eval.store import record
from ensemble_eval.store.key import OtherKeyError
from ensemble_eval.store.parts import KeyT
from ensemble_eval.store.store import Progress, Store


class Folder(Generic[KeyT]):
    """The output folder of one job.

    Args:
        store: Its parts.
        dataset: The images.

    Attributes:
        images: Ids of the images, in the data set's order.
    """

    def __init__(self, store: Store[KeyT], dataset: Dataset) -> None:
        self.store, self.dataset = store, dataset
        self.images = tuple(item.id for item in dataset.items)

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.store.out

    @property
    def progress(self) -> Progress:
        """As of the last reading of the parts."""
        return self.store.progress

    def open(self, *, fresh: bool, checked: bool = False) -> None:
        """Read what is done, or forget it.

        Args:
            fresh: Forget it.
            checked: The process that started this one has just read every byte of the parts.

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
        write_listing(self.store.folder, self.dataset)

    def refuse_foreign(self) -> None:
        """Refuse a folder that holds the tables of another job, or that is none; nothing is written.

        Raises:
            InputError: The difference is named.
        """
        with self._naming_changed_images():
            record.refuse_foreign(self.out, self.store.form, self.store.key)

    def refuse_unwritable(self) -> None:
        """Refuse a folder that takes no files; nothing is left behind, not even the folder.

        Raises:
            InputError: It is read-only, full, or could not be made.
        """
        require_could_be_written(self.store.folder)

    @contextlib.contextmanager
    def _naming_changed_images(self) -> Iterator[None]:
        """Of a data set that changed since the folder's job, say some of the images rather than its hash."""
        try:
            yield
        except OtherKeyError as error:
            changes = changes_since(self.store.folder, error.theirs.dataset, self.dataset)
            if changes is None:
                raise
            raise OtherKeyError(self.out, error.theirs, self.store.key, {"dataset": changes}) from error

    @property
    def is_complete(self) -> bool:
        """Whether every image is done; one that was unreadable is tried again."""
        return self.progress.done.issuperset(self.images)

    def close(self) -> Progress:
        """Read the parts a last time, every byte, each image once, before tables are made of them.

        Raises:
            EnsembleEvalError: Images are missing, or others than the data set's are there.
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
