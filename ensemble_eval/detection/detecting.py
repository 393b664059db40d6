"""The job of `ensemble-eval detect`: regions classified, detections stored, and what is done told of."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.backends.choice import default_batch_size
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.deciding import (
    LEAST_SCORE,
    MOST_DETECTIONS,
    SCHEMA,
    UNIT,
    Classifier,
    Configuration,
    all_regions,
    configurations,
    decided,
)
from ensemble_eval.detection.parts import ImageParts
from ensemble_eval.detection.proposals import Proposals, read_proposals, read_record
from ensemble_eval.detection.region_scores import (
    Chunk,
    ChunkScores,
    ScoredChunk,
    chunks_of,
    pixel_bytes,
    warp_chunk,
)
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.detection.suppression import MOST_OVERLAP
from ensemble_eval.detection.svm import load_svm, svm_predict
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.loaders import map_ahead
from ensemble_eval.evaluation.opening import Inputs, open_inputs, sources_of
from ensemble_eval.files import sha256_of
from ensemble_eval.launch.cpu import loaders_beside
from ensemble_eval.launch.place import Place, deal
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.settings import Settings

DETECTIONS_FOLDER = "detections"
_SAVE_EVERY_SECONDS, _PART_IMAGES = 30.0, 64
# Warped chunks that wait for the members.
_AHEAD_CHUNKS, _AHEAD_BYTES = 16, 1 << 29

# By number of models and classifier, float64 [regions, classes].
Scores = dict[tuple[int, Classifier], NDArray[np.float64]]


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


class Detection:
    """Detection on the images of a data set, with proposals that are stored.

    Args:
        ensemble: region classifiers, whose last class is no object.
        dataset: the images.
        proposals: folder of finished proposals.
        out: folder for the detections.
        settings: device, precision, backend, batch size and loaders.
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
        names = ensemble.classes.names
        if names is None or names[-1] != NO_OBJECT:
            raise InputError(
                f"the last class of {ensemble.name} must be {NO_OBJECT!r}; train region classifiers with "
                "`ensemble-eval train` and a recipe with the table [regions]"
            )
        record = read_record(proposals)
        if record["key"]["dataset"] != dataset.sha256:
            raise InputError(f"the proposals {proposals} are of other images; propose on this data set first")
        self.class_names = names[:-1]
        self.dataset = dataset
        self._ensemble, self._settings = ensemble, settings
        self.proposals: Mapping[str, Mapping[str, Proposals]] = read_proposals(proposals)
        self.sets: tuple[str, ...] = tuple(record["sets"])
        self._svm = svm
        self.rows: list[Configuration] = configurations(self.sets, len(ensemble.members), with_svm=svm is not None)
        self._sources = sources_of(ensemble, dataset, settings)
        self.parts = ImageParts(out / DETECTIONS_FOLDER, self._key(record["key"]), SCHEMA, UNIT)

    def run(self, place: Place, stop: StopRequests | None = None) -> Generator[Detected, None, None]:
        """Detect on this process's images that are missing, and store what is found.

        Close the generator if you leave it early; what was finished is stored.

        Args:
            place: of this process, which takes its share.
            stop: looked at before every member's batch.

        Raises:
            InputError: a member fails, an image cannot be read, or the disk takes no more.
        """
        done = {image for (image,) in self.parts.open()}
        mine = deal(len(self.dataset.items), place.world, place.session)[place.rank]
        missing = [position for position in mine if self.dataset.items[position].id not in done]
        finished, regions, began = len(mine) - len(missing), 0, time.monotonic()
        yield Detected(finished, len(mine), 0, 0.0)
        if not missing:
            return
        inputs = open_inputs(self._settings, self._sources, place)
        rows: list[dict[str, Any]] = []
        images, saved = 0, time.monotonic()
        scored = self._scored(missing, inputs, place, stop or StopRequests())
        try:
            with contextlib.closing(scored):
                for image, scores in scored:
                    rows += decided(image, self.proposals[image], scores, self.rows)
                    seen = len(scores[1, "softmax"])
                    finished, regions, images = finished + 1, regions + seen, images + 1
                    yield Detected(finished, len(mine), regions, time.monotonic() - began)
                    if images >= _PART_IMAGES or time.monotonic() - saved > _SAVE_EVERY_SECONDS:
                        written, rows, images, saved = rows, [], 0, time.monotonic()
                        self.parts.write(written)
        finally:
            self.parts.write(rows)

    def is_complete(self) -> bool:
        """Whether every image has its detections, those of other processes included."""
        return len({image for (image,) in self.parts.open()}) == len(self.dataset.items)

    def _scored(
        self, positions: Iterable[int], inputs: Inputs, place: Place, stop: StopRequests
    ) -> Generator[tuple[str, Scores], None, None]:
        """Images as their last region comes back: id, and scores by number of models and classifier."""
        classes, members = len(self.class_names) + 1, len(inputs.members)
        predicts: dict[str, Predict] = dict(inputs.members)
        if self._svm is not None:
            # Behind the seam it is one more member; no name of a member is empty.
            predicts[""] = svm_predict(load_svm(self._svm), self._ensemble, inputs.device)

        def pool(image: ReadyImage) -> ScoredChunk:
            return ScoredChunk(image, members, classes, with_svm=self._svm is not None)

        batch_size = self._settings.batch_size or default_batch_size(inputs.device)
        engine: Engine[ChunkScores] = Engine(predicts, pool, inputs.device, batch_size, stop.check)
        empty, left, arrived = [], dict[str, int](), dict[str, list[ChunkScores]]()
        chunks: list[Chunk] = []
        for position in positions:
            item = self.dataset.items[position]
            of_image = list(chunks_of(position, item, all_regions(self.proposals[item.id])))
            left[item.id], arrived[item.id] = len(of_image), []
            chunks += of_image
            if not of_image:
                empty.append(item.id)
        for image in empty:
            yield image, self._scores_of([], classes)
        workers = self._settings.workers or loaders_beside(place.neighbours)
        warped = map_ahead(
            warp_chunk,
            chunks,
            threads=workers,
            ahead=max(_AHEAD_CHUNKS, 2 * workers, math.ceil(2 * batch_size / 16)),
            ahead_bytes=_AHEAD_BYTES,
            bytes_of=pixel_bytes,
        )
        with contextlib.closing(warped):
            for result in engine.run(warped):
                if isinstance(result, UnreadableImage):
                    raise InputError(f"{result.id} was proposed on and now {result.reason}; restore the image")
                arrived[result.image].append(result)
                if len(arrived[result.image]) == left[result.image]:
                    of_chunks = sorted(arrived.pop(result.image), key=lambda each: each.first)
                    yield result.image, self._scores_of(of_chunks, classes)

    def _scores_of(self, chunks: Sequence[ChunkScores], classes: int) -> Scores:
        """The scores of an image's regions, from its chunks in their order."""

        def joined(parts: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
            return np.concatenate([np.empty((0, classes)), *parts]).astype(np.float64)

        scores: Scores = {
            (1, "softmax"): joined([each.first_model for each in chunks]),
            (len(self._ensemble.members), "softmax"): joined([each.mean_softmax for each in chunks]),
        }
        if self._svm is not None:
            scores[1, "svm"] = joined([each.margins for each in chunks if each.margins is not None])
        return scores

    def _key(self, proposals: Mapping[str, Any]) -> dict[str, Any]:
        """What the detections depend on."""
        return {
            "dataset": self.dataset.sha256,
            "proposals": hashlib.sha256(json.dumps(proposals, sort_keys=True).encode()).hexdigest(),
            "members": {member.name: member_sha256(member) for member in self._ensemble.members},
            "classes": hashlib.sha256("\n".join(self.class_names).encode()).hexdigest(),
            "precision": self._settings.precision,
            "backend": self._sources.backend,
            "svm": None if self._svm is None else sha256_of(self._svm),
            "most_overlap": MOST_OVERLAP,
            "least_score": LEAST_SCORE,
            "most_detections": MOST_DETECTIONS,
        }
