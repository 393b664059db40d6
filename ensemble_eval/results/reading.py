"""Results read back from the output folder of a run; neither weights nor the data set are needed for it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ensemble_eval.crops.schemes import schemes_up_to
from ensemble_eval.datasets.listing import listed_images
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.evaluation.key import RUN, RunKey, columns_of, outcome_columns
from ensemble_eval.reports.text import table3_csv
from ensemble_eval.results.selections import schemes_of, selections_of
from ensemble_eval.scoring.table3 import one_model_member, table3
from ensemble_eval.store import record
from ensemble_eval.store.parts import Part, read_parts, require_key
from ensemble_eval.store.store import combine, keepers_of, read_rows, sorted_frame

if TYPE_CHECKING:
    from ensemble_eval.results.crop_study import CropStudy
    from ensemble_eval.results.report.writing import Report


def read_results(folder: str | Path) -> "Results":
    """Read the results of a run, finished or not, from its output folder.

    Every byte of the stored parts is compared with what was written. Nothing in the folder is changed, and the
    run may be at work in it.

    Args:
        folder: the output folder of a run.

    Raises:
        InputError: it holds no results, or files that are not of one run.

    Example:
        Three members that tell colours apart, the last of them the wrong way round, on two pictures:

        >>> import io, tempfile, torch, ensemble_eval as ee
        >>> from PIL import Image
        >>> def member(name, factor):
        ...     def predict(crop_batch):
        ...         return torch.softmax(factor * crop_batch.float().mean((2, 3)) / 255, dim=1)
        ...     return ee.Member(name, predict=predict, fingerprint=f"{factor}")
        >>> def picture(colour):
        ...     Image.new("RGB", (60, 40), colour).save(file := io.BytesIO(), "PNG")
        ...     return file.getvalue()
        >>> ensemble = ee.Ensemble([member("a", 1), member("b", 2), member("c", -1)], ["red", "lime", "blue"])
        >>> images = [("1.png", 0, picture("red")), ("2.png", 2, picture("blue"))]
        >>> out = tempfile.mkdtemp()
        >>> outcome = ee.evaluate(ensemble, images, crops=10, out=out, device="cpu")

        What was found, read back by whoever has the folder:

        >>> results = ee.read_results(out)
        >>> results.complete, results.members, results.crops, results.images
        (True, ('a', 'b', 'c'), (1, 10), ('1.png', '2.png'))
        >>> results.predictions(["image", "member", "crops", "rank"]).query("crops == 10 and member == 'c'")
            image member  crops  rank
        6   1.png      c     10     2
        14  2.png      c     10     2
        >>> results.table3(models=[["c"], ["a", "b"]], crops=10)[["members", "crops", "top1_wrong"]]
          members  crops  top1_wrong
        0    (c,)     10           2
        1  (a, b)     10           0
    """
    out = Path(folder)
    parts = read_parts(out, RUN)
    key = require_key(out, parts)
    progress = combine(parts.by_name)
    return Results(
        folder=out,
        key=key,
        record=record.read_of_key(out, RUN, key),
        images=tuple(sorted(progress.done)),
        unreadable=progress.unreadable,
        damaged=tuple(path.name for path in parts.damaged),
        _parts=parts.by_name,
        _keepers=keepers_of(parts.by_name) if progress.repeated else None,
    )


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a run, as they were when `read_results` read its folder.

    Attributes:
        folder: the output folder.
        key: everything that the predictions depend on.
        record: what `run.json` says; None until the run is finished.
        images: ids of the images with predictions, sorted.
        unreadable: the images without, and why.
        damaged: names of parts that are left out because their bytes have changed since they were written. The
            next start of the run does their images again.
    """

    folder: Path
    key: RunKey
    record: Mapping[str, Any] | None
    images: tuple[str, ...]
    unreadable: Mapping[str, str]
    damaged: tuple[str, ...]
    _parts: Mapping[str, Part] = field(repr=False)
    _keepers: Mapping[str, str] | None = field(repr=False)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members, in the ensemble's order."""
        return self.key.member_names

    @property
    def crops(self) -> tuple[int, ...]:
        """The crop schemes, by their number of crops, ascending."""
        return tuple(schemes_up_to(self.key.crops))

    @property
    def missing(self) -> int:
        """How many images of the data set are neither evaluated nor listed as unreadable."""
        return self.key.images - len(self.images) - len(self.unreadable)

    @property
    def missing_images(self) -> tuple[str, ...] | None:
        """Ids of the missing images; None where the folder has no list of the data set's images."""
        listed = listed_images(self.folder / RUN.folder, self.key.dataset)
        accounted = {*self.images, *self.unreadable}
        return None if listed is None else tuple(image for image in listed if image not in accounted)

    @property
    def complete(self) -> bool:
        """Whether every image of the data set is evaluated or listed as unreadable."""
        return self.missing == 0

    def require_table(self, *, partial: bool = False) -> None:
        """Refuse the results of an unfinished run, or of one that could read no image or had no labels.

        Args:
            partial: images may be missing.

        Raises:
            InputError: it says how many images are missing, and names the first of them.
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
            columns: which of `image, member, crops, label, rank, top5, top5_probability, scores` to read; of a run
                that stops when decided, of `image, member, crops, label, top5_correct, top1_correct`. None for all
                that are stored. The `scores` of 1000 classes take 4 kB a row.

        Raises:
            InputError: a column is not stored.
            EnsembleEvalError: the run has rewritten a part since the folder was read.
        """
        stored = columns_of(self.key)
        columns = stored if columns is None else list(columns)
        if unknown := [name for name in columns if name not in stored]:
            raise InputError(f"{self.folder} stores no column {unknown[0]!r}; there are {', '.join(stored)}")
        read = list(dict.fromkeys(["image", *columns]))
        return sorted_frame(self.tables(read), read)[columns]

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """As `predictions`, one part after the other, for what does not fit into memory at once; not sorted.

        Args:
            columns: as of `predictions`, `image` among them.
        """
        for name, table in zip(
            self._parts, read_rows(self.folder / RUN.folder, self._parts, columns), strict=True
        ):
            if self._keepers is None:
                yield table
            else:
                kept = [image for image in self._parts[name].images if self._keepers[image] == name]
                yield table.filter(pc.is_in(table["image"], pa.array(kept, pa.string())))

    def table3(
        self,
        models: int | Sequence[int | Sequence[str]] | None = None,
        crops: int | Sequence[int] | None = None,
        *,
        partial: bool = False,
    ) -> pd.DataFrame:
        """Table 3 for any members and schemes: the columns of `table3.csv`, numbers rounded as there.

        Without arguments the rows are those of `table3.csv`. A row for one model uses the member with the lowest
        one-crop top-1 error of all, and every row is compared to that member with one crop. Rows for some of the
        members only are computed from the stored scores. Those are float32, so that two classes whose mean scores
        are equal to seven digits may change places against what a run of these members alone would store.

        Args:
            models: how many members: 1, all, or the first so many in the ensemble's order; or several numbers. In
                place of a number, the names of any members; then a column `members` names those of each row.
            crops: which schemes; None for all.
            partial: of an unfinished run, make the table of the images that are done. A column `partial` and
                `attrs["partial"]` of the frame say whether images are missing.

        Returns:
            Rows with models ascending, then as they were asked for, then crops ascending.

        Raises:
            InputError: images are missing, no image could be read, there is no such member or scheme, or scores
                would be needed that are not stored.

        Example:
            `table3(models=[1, 3, 7])`, `table3(models=7, crops=144)`, `table3(models=[["a", "c"], ["b", "c"]])`
        """
        self.require_table(partial=partial)
        schemes = schemes_of(crops, self.crops)
        predictions = self.predictions(outcome_columns(self.key))
        selections = selections_of(models, self.members, one_model_member(predictions, self.members))
        # Only here: that module reads what this one gives.
        from ensemble_eval.results.computed_ranks import computed_ranks

        computed = [each for each in selections if each.is_computed]
        if computed:
            predictions = pd.concat([predictions, computed_ranks(self, computed)])
        rows = table3(predictions, self.members, {each.label: len(each.members) for each in selections})
        # As anyone reads it from `table3.csv`, number for number.
        frame = pd.read_csv(io.StringIO(table3_csv(row for row in rows if row.crops in schemes)))
        if any(each.by_name for each in selections):
            frame["members"] = [each.members for each in selections for _ in schemes]
        if partial:
            frame["partial"] = frame.attrs["partial"] = not self.complete
        return frame

    def crop_study(self) -> "CropStudy":
        """What other numbers of models and crops, other crops and other averages would have decided.

        Raises:
            InputError: the run kept no ranks for it.

        Example:
            `results.crop_study().surface()`
        """
        from ensemble_eval.results.crop_study import read_crop_study

        return read_crop_study(self)

    def report(
        self,
        out: str | Path | None = None,
        *,
        margin: float = 0.5,
        partial: bool = False,
        data: str | Path | None = None,
        classes: str | Path | Sequence[str] | None = None,
        gallery: bool = True,
        paper: bool = True,
        seed: int = 0,
    ) -> "Report":
        """Write tables, plots and a page about this run, as `ensemble-eval report` does.

        `table3.csv`, `table3.md` and `table3.tex` are Table 3 with its intervals; `report.html` is one page with
        everything; every further table is a CSV file, and every plot an SVG and a PNG file below `plots/`.

        Args:
            out: folder for the report; None for `report` in the run's folder.
            margin: within which two errors count as equal, in percentage points.
            partial: of an unfinished run, report on the images that are done. Every table is marked.
            data: the data set that was evaluated, for a gallery of the hardest images.
            classes: "imagenet-1k", the names of the classes in index order, or a text file of them; None for
                the names of class folders, where the images lie in such.
            gallery: whether there is to be a gallery.
            paper: whether to put what the paper prints beside the run, and to place it in Table 2.
            seed: of the bootstrap, and of the split of images into folds.

        Raises:
            InputError: images are missing, there are none, `data` or `classes` are not those of the run, or a
                package of the extra `[report]` is not installed.

        Example:
            `ee.read_results("results").report(data="val").page`
        """
        from ensemble_eval.results.report.writing import write_report

        return write_report(
            self,
            None if out is None else Path(out),
            margin=margin,
            partial=partial,
            data=None if data is None else Path(data),
            classes=classes,
            with_gallery=gallery,
            with_paper=paper,
            seed=seed,
        )
