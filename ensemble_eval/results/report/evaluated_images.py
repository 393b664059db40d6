"""The images of a stored run where they lie now, in whichever layout that is."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from ensemble_eval.datasets.items import FileItem, Item
from ensemble_eval.datasets.listing import is_as_listed
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.results.reading import Results
from ensemble_eval.settings import UNLABELLED


class EvaluatedImages:
    """Reads images of a run by their ids, if they are what was evaluated.

    Args:
        results: of the run.
        root: the data set: a folder, an archive, or a pattern of shards or Parquet files.

    Raises:
        InputError: there is nothing of that name.
    """

    def __init__(self, results: Results, root: Path) -> None:
        self._results = results
        self._root = root
        if not root.is_dir():
            try:
                _ = self._by_id
            except InputError as error:
                raise InputError(f"`data` is not the data set that was evaluated: {error}") from error

    def read(self, image: str) -> bytes:
        """The bytes of an image.

        Raises:
            UnreadableImageError: it is not there, or not as it was evaluated.
        """
        item = self._item(image)
        data = item.read()
        folder, fingerprint = self._results.folder / RUN.folder, self._results.key.dataset
        if not is_as_listed(folder, fingerprint, image, item.digest()):
            raise UnreadableImageError("is not as it was evaluated")
        return data

    def _item(self, image: str) -> Item:
        path = self._root / image
        if self._root.is_dir() and self._root.resolve() not in path.resolve().parents:
            raise UnreadableImageError("lies outside the data set")
        # Of a folder of files only those that are shown are looked for.
        if path.is_file() or not self._archives:
            return FileItem(image, 0, path)
        if (item := self._by_id.get(image)) is not None:
            return item
        # Without their labels, class folders in an archive are not told from a folder that holds them all.
        longer = [each for each in self._by_name[PurePosixPath(image).name] if each.id.endswith(f"/{image}")]
        if len(longer) != 1:
            raise UnreadableImageError("is not in the data set")
        return longer[0]

    @property
    def _archives(self) -> bool:
        """Whether images lie in archives or tables, and not in files of their own."""
        return not self._root.is_dir() or any(
            path.suffix.lower() in (".tar", ".parquet") for path in self._root.iterdir()
        )

    @cached_property
    def _by_id(self) -> dict[str, Item]:
        names = [f"class {index}" for index in range(self._results.key.classes)]
        return {item.id: item for item in open_dataset(self._root, names, UNLABELLED).items}

    @cached_property
    def _by_name(self) -> dict[str, Sequence[Item]]:
        found = defaultdict[str, list[Item]](list)
        for item in self._by_id.values():
            found[PurePosixPath(item.id).name].append(item)
        return defaultdict(list, found)
