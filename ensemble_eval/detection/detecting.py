"""The job of `ensemble-eval detect`: regions classified, detections stored, and what is done told of."""

import contextlib
import hashlib
import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.backends.choice import default_batch_size
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.deciding import (
    LEAST_SCORES,
    MOST_DETECTIONS,
    SCHEMA,
    Configuration,
    configurations,
    decided,
)
from ensemble_eval.detection.parts import ImageParts, RowBuffer
from ensemble_eval.detection.proposals import StoredProposals
from ensemble_eval.detection.ranks import Ranks, ranks_to_start, run_ranks
from ensemble_eval.detection.region_scores import (
    ImageRegions,
    PooledRegions,
    RegionScores,
    RegionsEngine,
    score_regions,
)
from ensemble_eval.detection.regions import knows_no_object, object_classes
from ensemble_eval.detection.suppression import MOST_OVERLAP
from ensemble_eval.detection.svm import load_svm, require_fits, svm_predict
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.opening import Inputs, check_networks, open_inputs, sources_of
from ensemble_eval.evaluation.process import forward_of
from ensemble_eval.files import sha256_of
from ensemble_eval.launch.cpu import loaders_beside
from ensemble_eval.launch.devices import choose_device
from ensemble_eval.launch.machine_share import settle
from ensemble_eval.launch.place import Place, deal
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.results.in_use import in_use
from ensemble_eval.settings import Settings

DETECTIONS_FOLDER, TABLE_FILE = "detections", "detection.csv"
_PART_IMAGES = 64


@dataclass(frozen=True)
class Detected:
    """How far the work is.

    Attributes:
        done: images of this process that are stored or about to be.
        total: all of this process.
        regions: that went through the members since the start.
        seconds: since the first of them.
    """

    done: int
    total: int
    regions: int
    seconds: float


@dataclass(frozen=True)
class Remarks:
    """Sentences for the user about members, images or how they run; nothing that stops the work."""

    sentences: tuple[str, ...]


class Detection:
    """Detection on the images of a data set, with proposals that are stored.

    Args:
        ensemble: region classifiers, whose last class is "no object", or members that know no such class.
        dataset: the images.
        proposals: folder of finished proposals.
        out: folder for the detections.
        settings: device, precision, backend, batch size, loaders, and how often a part is written.
        svm: file of SVMs on the features of the first member, for rows of their own.

    Raises:
        InputError: the classes, the proposals or the data set do not belong together.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        dataset: Dataset,
        proposals: Path,
        out: Path,
        settings: Settings,
        svm: Path | None = None,
    ) -> None:
        self.class_names = object_classes(ensemble)
        self.dataset = dataset
        self._ensemble, self._settings, self._out = ensemble, settings, out
        self.proposals = StoredProposals(proposals, dataset)
        self._svm = None if svm is None else load_svm(svm)
        if self._svm is not None:
            require_fits(self._svm, ensemble)
        sets = self.proposals.keys_of_sets
        self.rows = configurations(list(sets), len(ensemble.members), with_svm=svm is not None)
        self._sources = sources_of(ensemble, dataset, settings)
        key = self._key(sets, None if svm is None else sha256_of(svm))
        self.parts = ImageParts(out / DETECTIONS_FOLDER, key, SCHEMA)

    @property
    def without_proposals(self) -> dict[str, str]:
        """Images that a set of proposals failed on, with the reason: they count, and have no detections of it."""
        return {image: f"{name}: {reason}" for image, name, reason in self.proposals.failures}

    def found(self, row: Configuration) -> Iterator[Mapping[str, Any]]:
        """The stored rows of a configuration, one for each finished image, images sorted."""
        wanted = (row.proposals, row.models, row.classifier)
        for image in sorted(self.parts.images()):
            for stored in self.parts.rows(image):
                if (stored["proposals"], stored["models"], stored["classifier"]) == wanted:
                    yield stored

    @contextlib.contextmanager
    def in_use(self, place: Place, *, fresh: bool) -> Iterator[None]:
        """Within the block other processes can tell that this one is at work in the folder.

        Args:
            place: of this process.
            fresh: discard what an earlier run left.

        Raises:
            InputError: `fresh`, and other processes take part or are at work in the folder.
        """
        if fresh and place.world > 1:
            raise InputError(
                f"`fresh=True` could remove what another process has just written; remove {self._out} instead"
            )
        with in_use(self._out, alone=fresh):
            if fresh:
                # A table must not lie beside the detections of another run.
                (self._out / TABLE_FILE).unlink(missing_ok=True)
                self.parts.clear()
            yield

    def run(
        self, place: Place, stop: StopRequests | None = None, ranks: Ranks | None = None
    ) -> Generator[Detected | Remarks, None, None]:
        """Detect on this process's images that are missing, and store what is found.

        A process that is alone and is asked for ranks starts them, and tells what all of them have stored. Close
        the generator if you leave it early; what was finished is stored.

        Args:
            place: of this process, which takes its share.
            stop: looked at before every member's batch.
            ranks: to start; None for none.

        Raises:
            InputError: a member fails, an image cannot be read, or the disk takes no more.
            WorkerFailedError: a rank failed.
        """
        if ranks is not None and (count := ranks_to_start(ranks, place, self._settings.device)):
            yield from self._in_ranks(ranks, count)
        done = self.parts.open()
        mine = deal(len(self.dataset.items), place.world, place.session)[place.rank]
        missing = [position for position in mine if self.dataset.items[position].id not in done]
        finished, regions, began = len(mine) - len(missing), 0, time.monotonic()
        yield Detected(finished, len(mine), 0, 0.0)
        if not missing:
            return
        place = settle(place, self._settings.device)
        inputs = open_inputs(self._settings, self._sources, place)
        engine = self._engine(inputs, stop or StopRequests())
        yield Remarks((*self._remarks, *inputs.warnings, *engine.new_remarks()))
        buffer = RowBuffer(self.parts, _PART_IMAGES, self._settings.save_every)
        scored = self._scored(missing, engine, self._settings.workers or loaders_beside(place.neighbours))
        try:
            with contextlib.closing(scored):
                for image, scores in scored:
                    rows = decided(image.item.id, image.proposals, scores, self.rows, len(self.class_names))
                    buffer.add(rows)
                    finished, regions = finished + 1, regions + len(scores.first_model)
                    yield Detected(finished, len(mine), regions, time.monotonic() - began)
                    if remarks := engine.new_remarks():
                        yield Remarks(tuple(remarks))
        finally:
            buffer.write()

    def _in_ranks(self, ranks: Ranks, count: int) -> Generator[Detected | Remarks, None, None]:
        """Start ranks for what is missing; afterwards nothing is."""
        total = len(self.dataset.items)
        if len(self.parts.open()) == total:
            return
        # What is wrong with a member is said once, not by every rank.
        yield Remarks((*self._remarks, *self._sources.warnings, *check_networks(self._settings, self._sources)))
        with contextlib.closing(run_ranks(ranks, count)) as running:
            for _ in running:
                yield Detected(len(self.parts.images()), total, 0, 0.0)

    @property
    def _remarks(self) -> tuple[str, ...]:
        if knows_no_object(self._ensemble):
            return ()
        return (
            f'{self._ensemble.name} has no class "no object" at its end, so every region counts as some object; '
            "region classifiers of `ensemble-eval train` have one",
        )

    def is_complete(self) -> bool:
        """Whether every image has its detections, those of other processes included."""
        return len(self.parts.open()) == len(self.dataset.items)

    def _engine(self, inputs: Inputs, stop: StopRequests) -> RegionsEngine:
        members, with_svm = len(inputs.members), self._svm is not None
        predicts: dict[str, Predict] = dict(inputs.members)
        if self._svm is not None:
            # Behind the seam they are one more member, of a name that no other has.
            name = "the SVMs" + "'" * sum(member.startswith("the SVMs") for member in predicts)
            predicts[name] = svm_predict(self._svm, self._ensemble, inputs.device)

        def pool(image: ReadyImage) -> PooledRegions:
            return PooledRegions(image, members, self._outputs, with_svm=with_svm)

        batch_size = self._settings.batch_size or default_batch_size(inputs.device)
        forward = forward_of(predicts, inputs, stop)
        return Engine(predicts, pool, inputs.device, batch_size, stop.check, forward=forward)

    def _scored(
        self, positions: Iterable[int], engine: RegionsEngine, loaders: int
    ) -> Generator[tuple[ImageRegions, RegionScores], None, None]:
        items = ((position, self.dataset.items[position]) for position in positions)
        images = (ImageRegions(position, item, self.proposals[item.id]) for position, item in items)
        return score_regions(images, engine, self._outputs, with_svm=self._svm is not None, loaders=loaders)

    @property
    def _outputs(self) -> int:
        """Classes of objects, and that of no object where there is one."""
        return self._ensemble.classes.count

    def _key(self, sets: Mapping[str, Any], svm: str | None) -> dict[str, Any]:
        """What the detections depend on."""
        return {
            "dataset": self.dataset.sha256,
            "proposals": hashlib.sha256(json.dumps(sets, sort_keys=True).encode()).hexdigest(),
            "members": {member.name: member_sha256(member) for member in self._ensemble.members},
            "classes": hashlib.sha256("\n".join(self.class_names).encode()).hexdigest(),
            "precision": self._settings.precision,
            "backend": self._sources.backend,
            "device_type": choose_device(self._settings.device).type,
            "svm": svm,
            "most_overlap": MOST_OVERLAP,
            "least_scores": dict(LEAST_SCORES),
            "most_detections": MOST_DETECTIONS,
        }
