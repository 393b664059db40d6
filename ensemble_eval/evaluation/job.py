"""The job `run`: it evaluates an ensemble on every image, stores the predictions, and writes Table 3."""

import contextlib
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_eval.backends.opening import default_batch_size
from ensemble_eval.backends.torch import CapturedForward, CudaGraphs
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import Forward, Predict
from ensemble_eval.evaluation.cost import padding_warnings
from ensemble_eval.evaluation.finishing import Outcome, finish_run, partial_table
from ensemble_eval.evaluation.key import CROP_RANK_COLUMNS, RunKey
from ensemble_eval.evaluation.opening import Inputs, Sources, check_networks, open_folder, open_inputs
from ensemble_eval.files import sha256_of
from ensemble_eval.jobs.cpu import default_loaders
from ensemble_eval.jobs.job import ImageRows, Job
from ensemble_eval.jobs.prefetch import interruptible, load_images
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.scoring.chance import ChanceWatch
from ensemble_eval.scoring.crop_ranks import groups_of
from ensemble_eval.scoring.metrics import best_rank, counted_of, top_classes, with_ensemble
from ensemble_eval.settings import RunSettings, Settings
from ensemble_eval.store import record
from ensemble_eval.store.folder import Folder
from ensemble_eval.tables.table import Table

# Enough that the loading threads and the engine do not wait for each other.
_IMAGES_AHEAD_PER_THREAD, _BATCHES_AHEAD = 2, 2
_BYTES_AHEAD = 1 << 29

Result = ImageScores | ImageDecisions | UnreadableImage


class RunJob(Job[Settings, Outcome]):
    """Evaluate an ensemble on a data set.

    Args:
        settings: How images are evaluated and where the results go.
        sources: The ensemble and the data set.

    Raises:
        InputError: A predict function has no fingerprint, which stored results need to identify their member.
    """

    def __init__(self, settings: Settings, sources: Sources) -> None:
        self.settings, self.sources = settings, sources
        self.folder: Folder[RunKey] = open_folder(settings, sources)
        self.folders = (self.folder,)
        manifest = settings.ensemble if isinstance(settings, RunSettings) else sources.ensemble.name
        self._recorded_inputs = {
            "arguments": record.as_json({**asdict(settings), "ensemble": manifest}),
            # A folder of checkpoints has no manifest; its members are in the run's key.
            "manifest_sha256": sha256_of(manifest) if isinstance(manifest, Path) and manifest.is_file() else None,
            "ignored_files": list(sources.dataset.ignored),
            "layout": sources.dataset.layout,
        }

    def check(self, ranks: int) -> Iterator[str]:
        """Load every member once, and return warnings about the data set, the members and the batch size."""
        yield from self.sources.warnings
        yield from check_networks(self.settings, self.sources)
        yield from padding_warnings(self.settings, self.sources, ranks)

    def start(self, process: Process, stop: StopRequests) -> "RunWorker":
        """Open the members on this process's device, and return the worker that runs them."""
        return RunWorker(self.settings, open_inputs(self.settings, self.sources, process), process, stop)

    def describe(self, hardware: str) -> tuple[str, ...]:
        """The layout of the data set, and the size of the evaluation."""
        ensemble, dataset = self.sources.ensemble, self.sources.dataset
        return (
            f"data set: {dataset.layout}",
            f"{len(ensemble.members)} models × {self.sources.rule.crops} crops × {len(dataset.items)} images on "
            f"{hardware}, {self.sources.backend}, {self.settings.precision}",
        )

    def finish(self) -> Outcome:
        """Write `run.json`, `unreadable.csv`, and `table3.csv` or, for images without labels, `submission.txt`."""
        return finish_run(self.folder.store, self._recorded_inputs)

    def partial_table(self) -> Table | None:
        """Table 3 of the images that are done."""
        return partial_table(self.settings.out)


class EngineWorker:
    """Base class of workers that run members over images. Subclasses decide what to do with the scores.

    Args:
        engine: The engine that runs the members.
        inputs: The open ensemble, data set and device.
        process: This process of the job.
        notices: Warnings for the user that arose before the first image.
    """

    def __init__(self, engine: Engine[Any], inputs: Inputs, process: Process, notices: Iterable[str]) -> None:
        self._engine, self._inputs, self._process = engine, inputs, process
        self.device = inputs.device
        self._announced_batch_size = self.batch_size
        self._notices = [*notices]

    @property
    def batch_size(self) -> int:
        """Crops per batch, halved whenever a batch does not fit into memory."""
        return self._engine.batch_size

    def notices(self) -> list[str]:
        """Return new notices. Notices about members are the same in all processes, so only rank 0 returns them."""
        notices, self._notices = [*self._notices, *self._engine.new_notices()], []
        shown = notices if self._process.rank == 0 else []
        if self.batch_size < self._announced_batch_size:
            # Every process reports its own batch size, because it can change the last bits of a score.
            self._announced_batch_size = self.batch_size
            who = f"rank {self._process.rank}: " if self._process.world_size > 1 else ""
            shown.append(f"{who}a batch did not fit into memory; batches now have {self.batch_size} crops")
        return shown


class RunWorker(EngineWorker):
    """The worker of `RunJob`, which evaluates the images of one process.

    Args:
        settings: The settings of the run.
        inputs: The open ensemble, data set and device.
        process: This process of the run.
        stop: Stop requests of the user or the launcher.
    """

    def __init__(self, settings: Settings, inputs: Inputs, process: Process, stop: StopRequests) -> None:
        notices = [*inputs.warnings, *padding_warnings(settings, inputs, process.world_size)]
        super().__init__(engine_for(settings, inputs, stop), inputs, process, notices)
        self._settings, self._stop = settings, stop
        # Warns about members that do no better than guessing.
        self._chance = ChanceWatch(list(inputs.members), inputs.ensemble.classes.count)

    def results(
        self, folder: Folder[RunKey], positions: Sequence[int]
    ) -> Generator[ImageRows | UnreadableImage, None, None]:
        """The rows of each image, as the engine finishes it."""
        dataset = self._inputs.dataset
        found = results_of(
            self._settings, self._inputs, positions, self._stop, self._engine, self._process.sharing
        )
        with contextlib.closing(found):
            for result in found:
                if isinstance(result, UnreadableImage):
                    yield result
                    continue
                if dataset.scope.labelled:
                    self._notices += self._chance.add(*_top1_answers(result))
                labels = dataset.labels_of(result.id, result.label)
                rows = list(rows_of(result, folder.store.key, labels))
                yield ImageRows(result.id, rows, result.passes, result.all_passes)


def engine_for(settings: Settings, inputs: Inputs, stop: StopRequests) -> Engine[ImageScores | ImageDecisions]:
    """Create the engine that runs the members, for full scores or for decisions."""
    members, num_classes = len(inputs.members), inputs.ensemble.classes.count
    dataset = inputs.dataset
    counted = counted_of(dataset.scope)
    groups = groups_of(inputs.rule) if settings.surface else None

    def pool_image(image: ReadyImage) -> PooledImage[ImageScores | ImageDecisions]:
        if settings.early_exit_ks:
            labels = dataset.labels_of(image.id, image.label)
            return DecidedImage(image, members, num_classes, settings.early_exit_ks, labels, counted)
        return ScoredImage(image, members, num_classes, groups)

    batch_size = settings.batch_size or default_batch_size(inputs.device)
    forward = forward_of(inputs.members, inputs, stop)
    return Engine(inputs.members, pool_image, inputs.device, batch_size, inputs.rule.groups, forward=forward)


def forward_of(members: Mapping[str, Predict], inputs: Inputs, stop: StopRequests) -> Forward | None:
    """Return the `Forward` that replays captured CUDA graphs, or None to use the engine's default."""
    if inputs.device.type == "cuda" and inputs.backend == "torch":
        return CapturedForward(members, stop.check, CudaGraphs(inputs.device))
    return None


def results_of(
    settings: Settings,
    inputs: Inputs,
    positions: Iterable[int],
    stop: StopRequests | None = None,
    engine: Engine[ImageScores | ImageDecisions] | None = None,
    sharing: int = 1,
) -> Generator[Result, None, None]:
    """Evaluate images without storing anything, and yield each result as soon as it is complete.

    Args:
        settings: The settings of the evaluation.
        inputs: The open ensemble, data set and device.
        positions: The indices of the images in the data set.
        stop: Stop requests. They also interrupt the wait for the next image.
        engine: An engine made by `engine_for`, if the caller needs access to it; by default a new one.
        sharing: The number of processes of the run, including this one, that share the same processors.

    Raises:
        InputError: A member fails, or yields NaN or infinity.
    """
    stop = stop or StopRequests()
    items = inputs.dataset.items
    engine = engine or engine_for(settings, inputs, stop)
    workers = settings.workers or default_loaders(sharing, in_bucket=inputs.dataset.listing is not None)
    images_in_batches = math.ceil(_BATCHES_AHEAD * engine.batch_size / inputs.rule.crops)
    images = load_images(
        ((position, items[position]) for position in positions),
        inputs.rule,
        workers=workers,
        pinned=inputs.device.type == "cuda",
        ahead=max(_IMAGES_AHEAD_PER_THREAD * workers, images_in_batches),
        ahead_bytes=_BYTES_AHEAD,
    )
    with contextlib.closing(images):
        yield from engine.run(interruptible(images, stop))


def _top1_answers(result: ImageScores | ImageDecisions) -> tuple[Sequence[bool | None], Sequence[float] | None]:
    """Return whether each member's top-1 class in the smallest scheme is right, and its probability."""
    if isinstance(result, ImageDecisions):
        return result.top_k[min(result.top_k)][1], None
    scores = result.mean_softmax[min(result.mean_softmax)]
    best = scores.argmax(axis=1)
    return [int(index) == result.label for index in best], scores.max(axis=1).tolist()


def rows_of(result: ImageScores | ImageDecisions, key: RunKey, labels: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Turn the result for one image into its rows in `predictions/`, with the columns of the key's schema.

    There is a row for each member and crop scheme. With several members, there is also a row of the ensemble for
    each scheme.

    Args:
        result: The scores of an image, or its decisions in an early-exit run.
        key: The key of the run.
        labels: All class indices that count as right; empty for an image without labels. The stored rank is
            that of the best-ranked label.
    """
    shared = {"image": result.id, "label": labels[0] if labels else None, "labels": list(labels)}
    rows = _decision_rows(result, key) if isinstance(result, ImageDecisions) else _score_rows(result, key, labels)
    return ({**shared, **row} for row in rows)


def _decision_rows(result: ImageDecisions, key: RunKey) -> Iterator[dict[str, Any]]:
    """Yield the rows of an image's decisions; a decision that is not known is None."""
    unknown: Sequence[bool | None] = [None] * len(key.row_names)
    for crops, decided in result.top_k.items():
        for name, top5, top1 in zip(key.row_names, decided.get(5, unknown), decided.get(1, unknown), strict=True):
            yield {"member": name, "crops": crops, "top5_correct": top5, "top1_correct": top1}


def _score_rows(result: ImageScores, key: RunKey, labels: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an image's scores. Ranks and top 5 come from float64 means; stored scores are float32."""
    counted, last = counted_of(key.scope), (max(result.mean_softmax), key.row_names[-1])
    for crops, by_member in result.mean_softmax.items():
        for name, scores in zip(key.row_names, with_ensemble(by_member), strict=True):
            best = top_classes(scores) if counted is None else counted[top_classes(scores[counted])]
            row: dict[str, Any] = {
                "member": name,
                "crops": crops,
                "rank": best_rank(scores, labels, counted) if labels else None,
                "top5": best.astype(np.int32),
                "top5_probability": scores[best].astype(np.float32),
            }
            if key.scores:
                row["scores"] = scores.astype(np.float32)
            if result.crop_ranks is not None and (crops, name) == last:
                ranks = (result.crop_ranks.surface, result.crop_ranks.groups, result.crop_ranks.rules)
                row |= {column: each.ravel() for column, each in zip(CROP_RANK_COLUMNS, ranks, strict=True)}
            yield row
