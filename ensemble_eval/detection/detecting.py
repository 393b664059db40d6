"""The job of `ensemble-eval detect`: regions classified, detections stored, and what is done told of."""

import contextlib
import hashlib
import json
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.backends.choice import default_batch_size
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.deciding import (
    LEAST_SCORES,
    MOST_DETECTIONS,
    SCHEMA,
    UNIT,
    Configuration,
    all_regions,
    configurations,
    decided,
)
from ensemble_eval.detection.parts import ImageParts, RowBuffer
from ensemble_eval.detection.proposals import Proposals, read_proposals, record_of
from ensemble_eval.detection.region_scores import (
    ImageRegions,
    PooledRegions,
    RegionScores,
    RegionsEngine,
    score_regions,
)
from ensemble_eval.detection.regions import object_classes
from ensemble_eval.detection.suppression import MOST_OVERLAP
from ensemble_eval.detection.svm import load_svm, require_fits, svm_predict
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.opening import Inputs, open_inputs, sources_of
from ensemble_eval.evaluation.process import forward_of
from ensemble_eval.files import sha256_of
from ensemble_eval.launch.cpu import loaders_beside
from ensemble_eval.launch.devices import choose_device
from ensemble_eval.launch.place import Place, deal
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.fingerprints import member_sha256
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
        self.class_names = object_classes(ensemble)
        record = record_of(proposals, dataset)
        self.dataset = dataset
        self._ensemble, self._settings, self._out = ensemble, settings, out
        self.proposals: Mapping[str, Mapping[str, Proposals]] = read_proposals(proposals)
        self._svm = None if svm is None else load_svm(svm)
        if self._svm is not None:
            require_fits(self._svm, ensemble)
        self.rows: list[Configuration] = configurations(
            record["sets"], len(ensemble.members), with_svm=svm is not None
        )
        self._sources = sources_of(ensemble, dataset, settings)
        key = self._key(record["sets"], None if svm is None else sha256_of(svm))
        self.parts = ImageParts(out / DETECTIONS_FOLDER, key, SCHEMA, UNIT)

    @property
    def without_proposals(self) -> dict[str, str]:
        """Images that a set of proposals failed on, with the reason: they count, and have no detections of it."""
        return {
            image: f"{name}: {each.reason}"
            for image, sets in self.proposals.items()
            for name, each in sets.items()
            if each.reason is not None
        }

    def forget(self, place: Place) -> None:
        """Discard what an earlier run left.

        Raises:
            InputError: other processes take part.
        """
        if place.world > 1:
            raise InputError(
                f"`fresh=True` could remove what another process has just written; remove {self._out} instead"
            )
        # A table must not lie beside the detections of another run.
        (self._out / TABLE_FILE).unlink(missing_ok=True)
        self.parts.clear()

    def run(self, place: Place, stop: StopRequests | None = None) -> Generator[Detected | Remarks, None, None]:
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
        engine = self._engine(inputs, stop or StopRequests())
        yield Remarks((*inputs.warnings, *engine.new_remarks()))
        buffer = RowBuffer(self.parts, _PART_IMAGES)
        scored = self._scored(missing, engine, self._settings.workers or loaders_beside(place.neighbours))
        try:
            with contextlib.closing(scored):
                for image, scores in scored:
                    buffer.add(decided(image, self.proposals[image], scores, self.rows))
                    finished, regions = finished + 1, regions + len(scores.first_model)
                    yield Detected(finished, len(mine), regions, time.monotonic() - began)
                    if remarks := engine.new_remarks():
                        yield Remarks(tuple(remarks))
        finally:
            buffer.write()

    def is_complete(self) -> bool:
        """Whether every image has its detections, those of other processes included."""
        return len({image for (image,) in self.parts.open()}) == len(self.dataset.items)

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
    ) -> Generator[tuple[str, RegionScores], None, None]:
        items = [(position, self.dataset.items[position]) for position in positions]
        images = [ImageRegions(position, item, all_regions(self.proposals[item.id])) for position, item in items]
        return score_regions(images, engine, self._outputs, with_svm=self._svm is not None, loaders=loaders)

    @property
    def _outputs(self) -> int:
        """Classes of objects, and that of no object."""
        return len(self.class_names) + 1

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
