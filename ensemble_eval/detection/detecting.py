"""The job `detect`: every proposed region classified, detections decided and stored, tables in the end."""

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from ensemble_eval.backends.choice import default_batch_size
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.deciding import LEAST_SCORES, MOST_DETECTIONS, configurations, decided
from ensemble_eval.detection.formats import DETECT, DetectKey
from ensemble_eval.detection.proposals import StoredProposals
from ensemble_eval.detection.region_scores import ImageRegions, PooledRegions, RegionsEngine, score_regions
from ensemble_eval.detection.regions import knows_no_object, object_classes
from ensemble_eval.detection.suppression import MOST_OVERLAP
from ensemble_eval.detection.svm import RegionSvm, load_svm, require_fits, svm_predict
from ensemble_eval.detection.writing import Finding, Written, write_results
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.evaluation.job import forward_of
from ensemble_eval.evaluation.opening import Inputs, check_networks, member_sources, open_inputs
from ensemble_eval.files import sha256_of
from ensemble_eval.jobs.cpu import loaders_beside
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.runner import ImageRows, Job
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.settings import DetectSettings
from ensemble_eval.store import record
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.store import Store


class DetectJob(Job[DetectSettings, Written]):
    """Detect objects in the images of a data set, in proposals that are stored.

    Args:
        ensemble: Region classifiers, whose last class is "no object", or members that know no such class.
        dataset: The images.
        settings: Where the proposals are, how regions are classified, and what is written.

    Raises:
        InputError: The classes, the proposals or the data set do not belong together.
    """

    def __init__(self, ensemble: Ensemble, dataset: Dataset, settings: DetectSettings) -> None:
        self.settings, self._ensemble = settings, ensemble
        class_names, proposals = object_classes(ensemble), StoredProposals(settings.proposals, dataset)
        self._svm = None if settings.svm is None else load_svm(settings.svm)
        if self._svm is not None:
            require_fits(self._svm, ensemble)
        rows = configurations(
            list(proposals.keys_of_sets), len(ensemble.members), with_svm=settings.svm is not None
        )
        self._sources = member_sources(ensemble, dataset, settings)
        sets = {name: key.to_json() for name, key in proposals.keys_of_sets.items()}
        key = DetectKey(
            dataset=dataset.sha256,
            images=len(dataset.items),
            proposals=hashlib.sha256(json.dumps(sets, sort_keys=True).encode()).hexdigest(),
            members=self._sources.fingerprints(),
            classes=hashlib.sha256("\n".join(class_names).encode()).hexdigest(),
            precision=settings.precision,
            backend=self._sources.backend,
            device_type=self._sources.device.type,
            svm=None if settings.svm is None else sha256_of(settings.svm),
            most_overlap=MOST_OVERLAP,
            least_scores=dict(LEAST_SCORES),
            most_detections=MOST_DETECTIONS,
        )
        store = Store(settings.out, DETECT, key)
        self.folders = (Folder(store, dataset),)
        self.finding = Finding(class_names, dataset, proposals, rows, store)

    def check(self, ranks: int) -> Iterator[str]:
        """See `Job`."""
        del ranks
        yield from self._notices
        yield from self._sources.warnings
        yield from check_networks(self.settings, self._sources)

    def start(self, process: Process, stop: StopRequests) -> "_DetectWorker":
        """See `Job`."""
        inputs = open_inputs(self.settings, self._sources, process)
        notices = [*self._notices, *inputs.warnings]
        return _DetectWorker(self.settings, self.finding, inputs, self._svm, process, stop, notices)

    def describe(self, where: str) -> tuple[str, ...]:
        """See `Job`."""
        return (
            f"{len(self._ensemble.members)} models × the regions of {len(self.finding.dataset.items)} images on "
            f"{where}, {self._sources.backend}, {self.settings.precision}",
        )

    def finish(self) -> Written:
        """See `Job`."""
        facts = {
            "arguments": record.as_json(vars(self.settings)),
            "versions": record.versions(),
            **record.counts(self.finding.store.progress),
            "key": self.finding.store.key.to_json(),
        }
        return write_results(self.settings, self.finding, facts)

    @property
    def _notices(self) -> list[str]:
        if knows_no_object(self._ensemble):
            return []
        return [
            f'{self._ensemble.name} has no class "no object" at its end, so every region counts as some object; '
            "region classifiers of `ensemble-eval train` have one"
        ]


class _DetectWorker:
    def __init__(
        self,
        settings: DetectSettings,
        finding: Finding,
        inputs: Inputs,
        svm: RegionSvm | None,
        process: Process,
        stop: StopRequests,
        notices: list[str],
    ) -> None:
        self._finding, self._inputs, self._svm, self._stop, self._notices = finding, inputs, svm, stop, notices
        self.device = inputs.device
        self._engine = self._opened_engine(settings)
        self._loaders = settings.workers or loaders_beside(process.sharing)

    @property
    def batch_size(self) -> int:
        """Regions per batch; halved when one did not fit into memory."""
        return self._engine.batch_size

    def notices(self) -> list[str]:
        """See `Worker`."""
        notices, self._notices = [*self._notices, *self._engine.new_remarks()], []
        return notices

    def results(self, folder: Folder[Any], positions: Sequence[int]) -> Generator[ImageRows, None, None]:
        """See `Worker`."""
        finding, members = self._finding, len(self._inputs.members)
        items = ((position, folder.dataset.items[position]) for position in positions)
        images = (ImageRegions(position, item, finding.proposals[item.id]) for position, item in items)
        scored = score_regions(
            images,
            self._engine,
            self._inputs.ensemble.classes.count,
            with_svm=self._svm is not None,
            loaders=self._loaders,
            stop=self._stop,
        )
        with contextlib.closing(scored):
            for image, scores in scored:
                rows = decided(image.item.id, image.proposals, scores, finding.rows, len(finding.class_names))
                passes = len(scores.first_model) * members
                yield ImageRows(image.item.id, rows, passes, passes)

    def _opened_engine(self, settings: DetectSettings) -> RegionsEngine:
        inputs, members, with_svm = self._inputs, len(self._inputs.members), self._svm is not None
        predicts: dict[str, Predict] = dict(inputs.members)
        if self._svm is not None:
            # Behind the interface they are one more member, of a name that no other has.
            name = "the SVMs" + "'" * sum(member.startswith("the SVMs") for member in predicts)
            predicts[name] = svm_predict(self._svm, inputs.ensemble, inputs.device)
        classes = inputs.ensemble.classes.count

        def pool(image: ReadyImage) -> PooledRegions:
            return PooledRegions(image, members, classes, with_svm=with_svm)

        batch_size = settings.batch_size or default_batch_size(inputs.device)
        forward = forward_of(predicts, inputs, self._stop)
        return Engine(predicts, pool, inputs.device, batch_size, self._stop.check, forward=forward)
