"""The results of a run, read from its output folder. This needs neither weights nor the data set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ensemble_eval.datasets.labels import MAX_BYTES, columns_of_csv
from ensemble_eval.datasets.listing import listed_images
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.evaluation.decisions import Block, blocks, read_decisions
from ensemble_eval.evaluation.key import RUN, RunKey, columns_of
from ensemble_eval.files import read_text
from ensemble_eval.locations import location
from ensemble_eval.scoring.clusters import Clusters
from ensemble_eval.scoring.table3 import SHOWN, Decisions, table3, table3_table
from ensemble_eval.store import record
from ensemble_eval.store.parts import Part, read_parts, require_key
from ensemble_eval.store.store import read_rows, sorted_frame, summarise
from ensemble_eval.tables.formats import Displayed
from ensemble_eval.tables.table import Table, marked, marks

# The columns of a file of clusters.
_CLUSTERS = ("image", "group")


def read_run(folder: str | Path) -> "StoredRun":
    """Read the results of a run, finished or not, from its output folder.

    Every byte of the stored parts is compared with its checksum. Nothing in the folder changes, and the run may be
    working in it.

    Args:
        folder: The output folder of a run.

    Raises:
        InputError: The folder has no results, or its files do not belong to one run.
    """
    out = location(folder)
    parts = read_parts(out, RUN)
    key = require_key(out, parts)
    progress = summarise(parts.by_name)
    return StoredRun(
        folder=out,
        key=key,
        record=record.read_of_key(out, RUN, key),
        images=tuple(sorted(progress.done)),
        unreadable=progress.unreadable,
        damaged=tuple(path.name for path in parts.damaged),
        _parts=parts.by_name,
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class StoredRun(Displayed):
    """The results of a run at the time when its folder was read.

    Attributes:
        folder: The output folder.
        key: Everything that the predictions depend on.
        record: The content of `run.json`; None until the run is finished.
        images: The ids of the images with predictions, sorted.
        unreadable: The images without predictions, with the reason.
        damaged: The names of parts that are left out because their bytes have changed since they were written. The
            next start of the run evaluates their images again.
    """

    folder: Path
    key: RunKey
    record: Mapping[str, Any] | None
    images: tuple[str, ...]
    unreadable: Mapping[str, str]
    damaged: tuple[str, ...]
    _parts: Mapping[str, Part] = field(repr=False)

    def _facts(self) -> dict[str, object]:
        counts = {"images": len(self.images), "unreadable": len(self.unreadable), "missing": self.missing}
        run = {"members": self.members, "crops": self.crops, "protocol": self.key.rule.name}
        return {"folder": str(self.folder), **run, **counts}

    def _tables(self) -> list[Table]:
        if not self.images or not self.key.scope.labelled:
            return []
        decisions = self.decisions(with_answers=False)
        table = table3_table(table3(decisions), notes=[decisions.one_model_note]).only(*SHOWN)
        return [marked(table, marks(self.missing, self.key.images, self.counted(decisions)))]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members, in the ensemble's order."""
        return self.key.member_names

    @property
    def crops(self) -> tuple[int, ...]:
        """The crop schemes, by their number of crops, ascending."""
        return self.key.schemes

    @property
    def missing(self) -> int:
        """The number of images of the data set that are neither evaluated nor listed as unreadable."""
        return self.key.images - len(self.images) - len(self.unreadable)

    @property
    def missing_images(self) -> tuple[str, ...] | None:
        """The ids of the missing images; None if the folder has no list of the images of the data set."""
        listed = listed_images(self.folder / RUN.folder, self.key.dataset)
        accounted = {*self.images, *self.unreadable}
        return None if listed is None else tuple(image for image in listed if image not in accounted)

    @property
    def complete(self) -> bool:
        """Whether every image of the data set is evaluated or listed as unreadable."""
        return self.missing == 0

    def require_table(self, *, partial: bool = False) -> None:
        """Refuse the results of a run that is unfinished, could read no image, or had no labels.

        Args:
            partial: Accept an unfinished run.

        Raises:
            InputError: It says how many images are missing, and names the first of them.
        """
        if not self.key.scope.labelled:
            raise InputError(f"the images in {self.folder} have no labels, so there is no table of errors")
        if self.missing and not partial:
            named = first_names(self.missing_images or ())
            damaged = f"{len(self.damaged)} parts are damaged" if self.damaged else ""
            more = "; ".join(filter(None, (named, damaged)))
            raise InputError(
                f"{self.missing} of {self.key.images} images in {self.folder} are not evaluated yet"
                f"{f' ({more})' if more else ''}; run the same evaluation again to finish it"
            )
        if not self.images:
            raise InputError(f"no image in {self.folder} has predictions, so there is no table")

    def predictions(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The stored predictions, sorted by image: one row per image, member and scheme.

        Args:
            columns: Names from `image, member, crops, label, rank, top5, top5_probability, scores`; for a run that
                stops when decided, from `image, member, crops, label, top5_correct, top1_correct`. None for all
                columns that are stored. The `scores` of 1000 classes take 4 kB a row.

        Raises:
            InputError: A column is not stored.
            EnsembleEvalError: The run has rewritten a part since the folder was read.
        """
        stored = columns_of(self.key)
        columns = stored if columns is None else list(columns)
        if unknown := [name for name in columns if name not in stored]:
            raise InputError(f"{self.folder} stores no column {unknown[0]!r}; there are {', '.join(stored)}")
        read = list(dict.fromkeys(["image", *columns]))
        return sorted_frame(self.tables(read), read)[columns]

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows of `predictions`, part by part and not sorted, for results that do not fit into memory at once.

        Args:
            columns: As of `predictions`; `image` is among them.
        """
        return read_rows(self.folder / RUN.folder, self._parts, columns)

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """The rows of all images with predictions, as `evaluation.decisions.blocks` joins them."""
        return blocks(self.tables, self.key, self.images, columns)

    def counted(self, decisions: Decisions) -> tuple[str, ...]:
        """Phrases that state which images and classes the errors of the run cover, if these are not all."""
        return self.key.counted(None if self.missing else len(set(decisions.labels.tolist())))

    def decisions(self, *, with_answers: bool = True) -> Decisions:
        """The decisions about all images with predictions, as `evaluation.decisions.read_decisions` reads them."""
        return read_decisions(self.tables, self.key, self.images, with_answers=with_answers)


def read_clusters(file: str | Path | None, run: StoredRun) -> Clusters:
    """Read the cluster of each image of a run from a CSV with the header `image,group`; None without a file.

    Raises:
        InputError: The file cannot be read, names unknown images, lacks a group for some, or has one group.
    """
    if file is None:
        return None
    path = location(file)
    stored = columns_of_csv(path, read_text(path, MAX_BYTES), _CLUSTERS)
    groups = {image: group.strip() for image, group in stored.items()}
    if lost := [image for image in run.images if not groups.get(image)]:
        raise InputError(f"{path} has no group for {len(lost)} images of the run ({first_names(lost)}); add them")
    if not run.missing or run.missing_images is not None:
        known = {*run.images, *run.unreadable, *(run.missing_images or ())}
        if unknown := [image for image in groups if image not in known]:
            raise InputError(
                f"{path} has {len(unknown)} images that the run does not have ({first_names(unknown)}); remove "
                "them"
            )
    names, clusters = np.unique([groups[image] for image in run.images], return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{path} puts all images into one group; intervals need two or more")
    return clusters
