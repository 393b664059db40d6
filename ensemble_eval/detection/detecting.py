"""The job `detect`: it classifies proposed regions, stores the detections of each image, and writes tables."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from ensemble_eval.backends.opening import default_batch_size
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.deciding import MAX_DETECTIONS, MAX_OVERLAP, MIN_SCORES, configurations, detect_image
from ensemble_eval.detection.evaluating import partial_table
from ensemble_eval.detection.formats import DETECT, DetectKey
from ensemble_eval.detection.proposals import StoredProposals
from ensemble_eval.detection.region_scores import ImageRegions, PooledRegions, region_rule, score_regions
from ensemble_eval.detection.regions import ends_with_no_object, object_classes
from ensemble_eval.detection.svm import load_svm, require_fits, svm_predict
from ensemble_eval.detection.writing import DetectionData, Written, write_results
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.job import EngineWorker, forward_of
from ensemble_eval.evaluation.opening import Inputs, check_networks, member_sources, open_inputs
from ensemble_eval.files import sha256_of
from ensemble_eval.jobs.cpu import default_loaders
from ensemble_eval.jobs.job import ImageRows, Job
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.settings import DetectSettings
from ensemble_eval.store import record
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.store import Store
from ensemble_eval.tables.table import Table


class DetectJob(Job[DetectSettings, Written]):
    """Detect objects in the images of a data set, from stored proposals.

    Args:
        ensemble: Region classifiers, whose last class is "no object", or members without such a class.
        dataset: The images.
        settings: Where the proposals are, how regions are classified, and what is written.

    Raises:
        InputError: The classes, the proposals or the data set do not belong together.
    """

    def __init__(self, ensemble: Ensemble, dataset: Dataset, settings: DetectSettings) -> None:
        self.settings, self._ensemble = settings, ensemble
        class_names, proposals = object_classes(ensemble), StoredProposals(settings.proposals, dataset)
        images = {item.id for item in dataset.items}
        if unknown := [image for image in settings.draw if image not in images]:
            raise InputError(
                f"`draw` names {unknown[0]}, which is not among the {len(images)} images; give its id"
            )
        self.svm = None if settings.svm is None else load_svm(settings.svm)
        if self.svm is not None:
            require_fits(self.svm, ensemble)
        sizes = [member.input.size or CROP_SIZE for member in ensemble.members]
        rows = configurations(proposals.stores, len(ensemble.members), with_svm=self.svm is not None)
        self.sources = member_sources(ensemble, dataset, settings, region_rule(sizes))
        sets = {name: store.key.to_json() for name, store in proposals.stores.items()}
        key = DetectKey(
            dataset=dataset.sha256,
            images=len(dataset.items),
            proposals=hashlib.sha256(json.dumps(sets, sort_keys=True).encode()).hexdigest(),
            members=self.sources.fingerprints(),
            inputs={
                member.name: member.input.stated()
                for member in ensemble.members
                if member.predict is None and member.input != InputFormat.imagenet()
            },
            classes=hashlib.sha256("\n".join(class_names).encode()).hexdigest(),
            precision=settings.precision,
            backend=self.sources.backend,
            device_type=self.sources.device.type,
            svm=None if settings.svm is None else sha256_of(settings.svm),
            most_overlap=MAX_OVERLAP,
            least_scores=dict(MIN_SCORES),
            most_detections=MAX_DETECTIONS,
        )
        store = Store(settings.out, DETECT, key.stored())
        self.folders = (Folder(store, dataset),)
        self.data = DetectionData(settings, class_names, dataset, proposals, rows, store)

    def check(self, ranks: int) -> Iterator[str]:
        """Refuse annotations and networks that cannot be used."""
        del ranks
        _ = self.data.annotations  # reading them validates them
        yield from self.notices
        yield from self.sources.warnings
        yield from check_networks(self.settings, self.sources)

    def start(self, process: Process, stop: StopRequests) -> "_DetectWorker":
        """Open the members; the process that writes the tables refuses annotations that cannot be used."""
        if process.is_reporting:
            _ = self.data.annotations
        return _DetectWorker(self, open_inputs(self.settings, self.sources, process), process, stop)

    def describe(self, hardware: str) -> tuple[str, ...]:
        """The number of members and images, and where they run."""
        return (
            f"{len(self._ensemble.members)} models × the regions of {len(self.data.dataset.items)} images on "
            f"{hardware}, {self.sources.backend}, {self.settings.precision}",
        )

    def finish(self) -> Written:
        """Write the tables, the detections in the formats of COCO and ILSVRC, and the requested pictures."""
        facts = {
            "arguments": record.as_json(vars(self.settings)),
            "versions": record.versions(),
            **record.counts(self.data.store.progress),
            "key": self.data.store.key.to_json(),
        }
        return write_results(self.data, facts)

    def partial_table(self) -> Table | None:
        """The table of the images that are done, without intervals; None without annotations."""
        done, images = len(self.data.store.peek().done), len(self.data.dataset.items)
        rows = self.data.evaluated(resamples=0) if done else []
        return partial_table(rows, images - done, images) if rows else None

    @property
    def notices(self) -> list[str]:
        """Warnings about the members, for the user."""
        if ends_with_no_object(self._ensemble):
            return []
        return [
            f'{self._ensemble.name} has no last class "no object", so every region counts as some object; '
            "region classifiers of `ensemble-eval train` have one"
        ]


class _DetectWorker(EngineWorker):
    def __init__(self, job: DetectJob, inputs: Inputs, process: Process, stop: StopRequests) -> None:
        predicts: dict[str, Predict] = dict(inputs.members)
        if job.svm is not None:
            # The engine runs the SVMs like one more member, under a name that no other member has.
            name = "the SVMs" + "'" * sum(member.startswith("the SVMs") for member in predicts)
            predicts[name] = svm_predict(job.svm, inputs.ensemble, inputs.device)
        pool = functools.partial(PooledRegions, members=len(inputs.members))
        batch_size = job.settings.batch_size or default_batch_size(inputs.device)
        forward = forward_of(predicts, inputs, stop)
        sizes = [protocol.size for protocol in inputs.rule.protocols]
        # The network of the SVMs sees the paper's size.
        self._rule = region_rule([*sizes, CROP_SIZE][: len(predicts)])
        engine = Engine(predicts, pool, inputs.device, batch_size, self._rule.groups, forward=forward)
        super().__init__(engine, inputs, process, [*job.notices, *inputs.warnings])
        self._data, self._with_svm, self._stop = job.data, job.svm is not None, stop
        in_bucket = job.data.dataset.listing is not None
        self._loaders = job.settings.workers or default_loaders(process.sharing, in_bucket=in_bucket)

    def results(self, folder: Folder[Any], positions: Sequence[int]) -> Generator[ImageRows, None, None]:
        """The detections of each image, once all of its regions are classified."""
        items, proposals = folder.dataset.items, self._data.proposals
        outputs, classes = self._inputs.ensemble.classes.count, len(self._data.class_names)
        images = (
            ImageRegions(position, item, proposals[item.id], outputs, with_svm=self._with_svm)
            for position, item in ((position, items[position]) for position in positions)
        )
        scored = score_regions(images, self._engine, self._rule, loaders=self._loaders, stop=self._stop)
        with contextlib.closing(scored):
            for each in scored:
                rows = detect_image(each.item.id, each.proposals, each.scores, self._data.rows, classes)
                passes = len(each.boxes) * len(self._inputs.members)
                yield ImageRows(each.item.id, rows, passes, passes)
