"""The work of one process of a run: evaluate those of its images that are missing, and store them."""

import contextlib
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ensemble_eval.backends.choice import default_batch_size
from ensemble_eval.backends.graphs import CapturedForward, CudaGraphs
from ensemble_eval.engine.forward import Forward
from ensemble_eval.engine.in_full import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.engine.until_decided import DecidedImage, ImageDecisions
from ensemble_eval.evaluation.events import Step
from ensemble_eval.evaluation.opening import Inputs
from ensemble_eval.evaluation.prefetch import load_images
from ensemble_eval.launch.cpu import loaders_beside
from ensemble_eval.launch.devices import device_name
from ensemble_eval.launch.place import Place, Role, deal
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.results.folder import RunFolder
from ensemble_eval.results.part_buffer import PartBuffer
from ensemble_eval.results.parts import Execution
from ensemble_eval.results.rows import decision_rows, prediction_rows
from ensemble_eval.results.run_record import versions
from ensemble_eval.scoring.chance import ChanceWatch
from ensemble_eval.scoring.metrics import counted_of
from ensemble_eval.settings import Settings

# Enough to keep the workers busy while the engine is at one image, and the engine while it puts a batch together.
_IMAGES_AHEAD_PER_WORKER, _BATCHES_AHEAD = 2, 2
_BYTES_AHEAD = 1 << 29

Result = ImageScores | ImageDecisions | UnreadableImage


def engine_for(settings: Settings, inputs: Inputs, stop: StopRequests) -> Engine[ImageScores | ImageDecisions]:
    """The engine that runs the members over images of these inputs, for scores in full or for decisions."""
    members, num_classes = len(inputs.members), inputs.ensemble.classes.count
    dataset = inputs.dataset

    def pool_image(image: ReadyImage) -> PooledImage[ImageScores | ImageDecisions]:
        if settings.decides:
            labels = dataset.labels_of(image.id, image.label)
            return DecidedImage(image, members, num_classes, settings.decides, labels, counted_of(dataset.scope))
        return ScoredImage(image, members, num_classes, with_crop_ranks=settings.surface)

    batch_size = settings.batch_size or default_batch_size(inputs.device)
    forward = forward_of(inputs.members, inputs, stop)
    return Engine(inputs.members, pool_image, inputs.device, batch_size, stop.check, forward=forward)


def forward_of(members: Mapping[str, Predict], inputs: Inputs, stop: StopRequests) -> Forward | None:
    """How the members of a batch run: on CUDA as one captured graph, elsewhere as is the engine's default."""
    if inputs.device.type == "cuda" and inputs.backend == "torch":
        return CapturedForward(members, stop.check, CudaGraphs(inputs.device))
    return None


def results_of(
    settings: Settings,
    inputs: Inputs,
    positions: Iterable[int],
    stop: StopRequests | None = None,
    engine: Engine[ImageScores | ImageDecisions] | None = None,
    neighbours: int = 1,
) -> Generator[Result, None, None]:
    """Evaluate images of the data set in memory, yielding each as soon as it is known; nothing is written.

    Args:
        settings: how images are evaluated.
        inputs: the ensemble, the data set and the device, open.
        positions: which images, by their index in the data set.
        stop: what the user and the launcher ask for meanwhile; waiting for an image is cut short by it.
        engine: of `engine_for`, for a caller that looks at its batch size meanwhile.
        neighbours: processes of the run, this one included, that share its processors; see `Place`.

    Raises:
        InputError: a member fails, or yields NaN or infinity.
    """
    stop = stop or StopRequests()
    items = inputs.dataset.items
    engine = engine or engine_for(settings, inputs, stop)
    workers = settings.workers or loaders_beside(neighbours)
    in_batches = math.ceil(_BATCHES_AHEAD * engine.batch_size / settings.crops)
    images = load_images(
        ((position, items[position]) for position in positions),
        settings.crops,
        bicubic=inputs.ensemble.interpolation == "bicubic",
        workers=workers,
        pinned=inputs.device.type == "cuda",
        ahead=max(_IMAGES_AHEAD_PER_WORKER * workers, in_batches),
        ahead_bytes=_BYTES_AHEAD,
    )
    with contextlib.closing(images):
        yield from engine.run(_arriving(images, stop))


def _arriving(
    images: Iterator[ReadyImage | UnreadableImage], stop: StopRequests
) -> Iterator[ReadyImage | UnreadableImage]:
    """Images as they come; waiting for one is cut short by a request to stop."""
    while True:
        with stop.at_once():
            image = next(images, None)
        if image is None:
            return
        yield image


class Run:
    """One process's share of an evaluation, as much of it as is not done yet.

    Args:
        settings: how images are evaluated.
        inputs: the ensemble, the data set and the device, open.
        folder: where results go; open.
        place: of this process among those of the run.
        stop: what the user and the launcher ask for meanwhile.
    """

    def __init__(
        self,
        settings: Settings,
        inputs: Inputs,
        folder: RunFolder,
        place: Place = Place(),  # noqa: B008 (it is frozen)
        stop: StopRequests | None = None,
    ) -> None:
        self.settings = settings
        self.inputs = inputs
        self.folder = folder
        self._place = place
        self._stop = stop or StopRequests()
        self._versions = versions()
        self._engine = engine_for(settings, inputs, self._stop)
        self._chance = ChanceWatch(list(inputs.members), inputs.ensemble.classes.count)
        self._remarks: list[str] = []

    def new_remarks(self) -> list[str]:
        """Sentences about the members that came up since the last call, for the user."""
        remarks, self._remarks = self._remarks, []
        return remarks + self._engine.new_remarks()

    @property
    def batch_size(self) -> int:
        """Crops per batch; halved when one did not fit into memory."""
        return self._engine.batch_size

    def evaluate(self) -> Generator[Step, None, None]:
        """Evaluate this process's images that are missing and store them, yielding after each.

        However it ends, what was finished is written; close the generator if you leave it early.

        Raises:
            InputError: a member or the disk fails.
            StopRequestedError: a signal came; what was finished is written.
        """
        step = Step(len(self.folder.progress.done), len(self.inputs.dataset.items), 0, 0)
        buffer = PartBuffer(self.folder.store, self._execution, save_every=self.settings.save_every)
        positions = self._missing_positions()
        results = results_of(
            self.settings, self.inputs, positions, self._stop, self._engine, self._place.neighbours
        )
        with self._stop.deferred(), contextlib.closing(results):
            try:
                for result in results:
                    step = self._store_result(buffer, result, step)
                    yield step
                    buffer.write_if_due()
            finally:
                buffer.write()

    def _execution(self) -> Execution:
        """What runs this process's images at the moment."""
        device = self.inputs.device
        return Execution(
            device=str(device),
            device_name=device_name(device),
            batch_size=self.batch_size,
            threads=torch.get_num_threads(),
            ranks=self._place.world,
            versions=self._versions,
        )

    def _missing_positions(self) -> list[int]:
        """Where this process's share of the missing images stands in the data set.

        Images that could not be read before are tried again. Where nothing but what is stored tells that a
        process is through, that is the task of the one that writes the tables: it could not know of another
        that is still at it.
        """
        place, items, progress = self._place, self.inputs.dataset.items, self.folder.progress
        mine = set(deal(len(items), place.world, place.session, self.inputs.dataset.blocks)[place.rank])
        if place.world == 1 or place.role is Role.WORKER:
            return [position for position in sorted(mine) if items[position].id not in progress.done]
        again = progress.unreadable.keys() if place.reports else frozenset[str]()
        return [
            position
            for position, item in enumerate(items)
            if item.id in again or (position in mine and item.id not in progress.accounted)
        ]

    def _store_result(self, buffer: PartBuffer, result: Result, step: Step) -> Step:
        done, passes, unreadable = step.images_done + 1, step.passes, step.unreadable
        if isinstance(result, UnreadableImage):
            buffer.add_unreadable(result.id, result.reason)
            unreadable += 1
        else:
            # Made before they are added: an interruption here leaves no image with half of its rows.
            rows = list(self._rows(result))
            buffer.add(result.id, rows, result.passes, result.all_passes)
            passes += result.passes
            if self.inputs.dataset.scope.labelled:
                self._remarks += self._chance.add(*_first_decisions(result))
        return Step(done, step.images, passes, unreadable)

    def _rows(self, result: ImageScores | ImageDecisions) -> Iterator[dict[str, Any]]:
        dataset = self.inputs.dataset
        labels = dataset.labels_of(result.id, result.label)
        if isinstance(result, ImageDecisions):
            return decision_rows(result, self.folder.members, labels)
        return prediction_rows(
            result,
            self.folder.members,
            with_scores=self.settings.with_scores,
            labels=labels,
            counted=counted_of(dataset.scope),
        )


def _first_decisions(result: ImageScores | ImageDecisions) -> tuple[Sequence[bool | None], Sequence[float] | None]:
    """Of every member, whether its top-1 decision with the fewest crops is right, and how sure it is of it."""
    if isinstance(result, ImageDecisions):
        return result.top_k[min(result.top_k)][1], None
    scores = result.mean_softmax[min(result.mean_softmax)]
    best = scores.argmax(axis=1)
    return [int(index) == result.label for index in best], scores.max(axis=1).tolist()
