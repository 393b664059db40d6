"""What a run is given, opened and found usable before any work starts."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ensemble_eval.backends.choice import PredictMaker, choose_backend
from ensemble_eval.backends.conversion_cache import ConversionCache, cache_folder
from ensemble_eval.backends.network import SelectedOutputs
from ensemble_eval.datasets.folders import is_hidden
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.datasets.scope import Scope
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.evaluation.function_member import FunctionMember
from ensemble_eval.evaluation.key import RUN, RunKey, run_key
from ensemble_eval.evaluation.warm_up import WarmUp
from ensemble_eval.jobs.devices import choose_device, device_of_rank
from ensemble_eval.jobs.process import Process
from ensemble_eval.members.classes import output_selection
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.fingerprints import member_sha256, network_sha256
from ensemble_eval.members.imported import GRAPH
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.scoring.crop_ranks import MOST_CLASSES
from ensemble_eval.settings import Backend, RunSettings, Settings
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.store import Store


@dataclass(frozen=True)
class Sources:
    """What the results depend on; enough to say what is missing and to write the tables.

    Attributes:
        ensemble: the members that take part.
        dataset: the labelled images.
        backend: what runs the networks.
        weights_sha256: by member; a predict function without a fingerprint has none.
        warnings: sentences for the user; nothing that stops the run.
    """

    ensemble: Ensemble
    dataset: Dataset
    backend: Backend
    weights_sha256: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Inputs(Sources):
    """Everything that the evaluation itself needs.

    Attributes:
        device: where the members run.
        members: ready to predict, by name, in order.
    """

    device: torch.device
    members: Mapping[str, Predict]


def open_sources(settings: RunSettings) -> Sources:
    """Open ensemble and data set where they lie, without loading a network.

    Raises:
        InputError: whatever cannot be used, in one sentence with the remedy.
    """
    ensemble = open_ensemble(settings.ensemble, settings.models)
    dataset = open_dataset(
        settings.dataset,
        ensemble.classes,
        settings.labels,
        layout=settings.layout,
        blacklist=settings.blacklist,
        subset_classes=settings.subset_classes,
        limit=settings.limit,
        sample=settings.sample,
        seed=settings.seed,
        leaving_out=settings.out,
    )
    sources = sources_of(ensemble, dataset, settings)
    missing = _missing_classes(ensemble, dataset) if settings.labels is None and not dataset.scope.part else ()
    return replace(sources, warnings=(*sources.warnings, *missing))


def sources_of(ensemble: Ensemble, dataset: Dataset, settings: Settings) -> Sources:
    """What results depend on, of an ensemble and a data set that are open already.

    Raises:
        InputError: settings that cannot be met here, or weights that are not there.
    """
    _refuse_labels_beyond(ensemble.classes.count, dataset)
    if settings.decides and not dataset.scope.labelled:
        raise InputError("`until_decided` needs labels, and the images have none; run them in full")
    backend = choose_backend(settings.backend, choose_device(settings.device))
    weights = {
        member.name: member_sha256(member)
        for member in ensemble.members
        if member.predict is None or member.fingerprint is not None
    }
    return Sources(ensemble, dataset, backend, weights, (*_warnings(dataset), *_half_precision(settings)))


def open_inputs(
    settings: Settings,
    sources: Sources,
    process: Process = Process(),  # noqa: B008 (it is frozen)
) -> Inputs:
    """Open the device and the weights, and try every member.

    Raises:
        InputError: whatever cannot be used, in one sentence with the remedy.
    """
    device = device_of_rank(settings.device, process.local_rank, process.local_world_size)
    ensemble, num_classes = sources.ensemble, sources.ensemble.classes.count
    # Members of one number of outputs share what a backend prepares.
    make = functools.cache(
        lambda outputs: PredictMaker(sources.backend, outputs, device, settings.precision, cache=_cache(settings))
    )
    members: dict[str, Predict] = {}
    hashes: dict[str, str] = {}
    notes: list[str] = []
    with WarmUp(settings, sources.backend, device) as warm_up:
        for member in ensemble.members:
            selection = output_selection(
                member.outputs, ensemble.classes, renormalise=member.renormalise, member=member.name
            )
            outputs = selection.num_outputs if selection else num_classes
            if member.predict is not None:
                predict: Predict = FunctionMember(member.name, member.predict, outputs, device)
            elif member.arch == GRAPH:
                predict = make(outputs).of_graph(member)
            else:
                network = load_member(member, outputs, trust_python=settings.trust_python, tell=notes.append)
                hashes[member.name] = network_sha256(network)
                predict = make(outputs)(member, network)
            warm_up.add(predict)
            members[member.name] = SelectedOutputs(predict, selection, device) if selection else predict
    return Inputs(
        ensemble,
        sources.dataset,
        sources.backend,
        sources.weights_sha256,
        (*sources.warnings, *notes, *same_weights(hashes)),
        device,
        members,
    )


def _cache(settings: Settings) -> ConversionCache | None:
    folder = cache_folder() if settings.cache else None
    return ConversionCache(folder) if folder else None


def open_folder(settings: Settings, sources: Sources) -> Folder[RunKey]:
    """The output folder of a run of these settings over these sources; nothing is read or written yet.

    Raises:
        InputError: What the run is to store cannot be had of this data set.
    """
    ensemble, dataset = sources.ensemble, sources.dataset
    _refuse_surface_of(settings, dataset.scope)
    if settings.surface and ensemble.classes.count > MOST_CLASSES:
        raise InputError(
            f"`surface` stores ranks among at most {MOST_CLASSES} classes, not {ensemble.classes.count}"
        )
    # Here a predict function without a fingerprint is refused: predictions in memory need none.
    weights = {
        member.name: sources.weights_sha256.get(member.name) or member_sha256(member)
        for member in ensemble.members
    }
    key = run_key(
        ensemble,
        weights,
        dataset,
        crops=settings.crops,
        precision=settings.precision,
        backend=sources.backend,
        device_type=choose_device(settings.device).type,
        with_scores=settings.with_scores,
        surface=settings.surface,
        decides=settings.decides,
    )
    return Folder(Store(settings.out, RUN, key), dataset)


def _refuse_surface_of(settings: Settings, scope: Scope) -> None:
    if settings.surface and (scope.several_labels or scope.counted_classes is not None or not scope.labelled):
        raise InputError(
            "`surface` ranks one label of each image among all classes; leave it out, or give one label for each "
            'image and `subset_classes="all"`'
        )


def _refuse_labels_beyond(num_classes: int, dataset: Dataset) -> None:
    for item in dataset.items:
        label = max(dataset.labels_of(item.id, item.label), default=0)
        if label >= num_classes:
            raise InputError(
                f"the label of {item.id} is {label}, and the ensemble has {num_classes} classes; "
                f"labels run from 0 to {num_classes - 1}"
            )


def check_networks(settings: Settings, sources: Sources) -> tuple[str, ...]:
    """Load every member once, for a process that leaves the work to others; return the warnings.

    Raises:
        InputError: a member cannot be used.
    """
    hashes = {}
    notes: list[str] = []
    for member in sources.ensemble.members:
        if member.predict is None and member.arch != GRAPH:
            selection = output_selection(
                member.outputs, sources.ensemble.classes, renormalise=member.renormalise, member=member.name
            )
            outputs = selection.num_outputs if selection else sources.ensemble.classes.count
            network = load_member(member, outputs, trust_python=settings.trust_python, tell=notes.append)
            hashes[member.name] = network_sha256(network)
    return (*notes, *same_weights(hashes))


def same_weights(sha256: Mapping[str, str]) -> Iterator[str]:
    """Warnings of members whose tensors are equal, whatever files they came from."""
    for other, name in itertools.combinations(sha256, 2):
        if sha256[name] == sha256[other]:
            yield f"members {other} and {name} have the same weights; that is not an ensemble"


def _warnings(dataset: Dataset) -> Iterator[str]:
    links = [identifier for identifier in dataset.ignored if " -> " in identifier]
    if links:
        yield (
            f"{len(links)} links lead back to folders that are read anyway and are not followed: "
            f"{first_names(links)}"
        )
    ignored = [identifier for identifier in dataset.ignored if identifier not in links]
    hidden = [identifier for identifier in ignored if is_hidden(identifier)]
    if hidden:
        yield (
            f"{len(hidden)} images or folders are hidden (a dot begins their name) and take no part: "
            f"{first_names(hidden)}"
        )
    if others := [identifier for identifier in ignored if not is_hidden(identifier)]:
        yield (
            f"{len(others)} files are no labelled images by their place or suffix and take no part: "
            f"{first_names(others)}"
        )


def _half_precision(settings: Settings) -> Iterator[str]:
    """Until a GPU has shown what half precision changes, float32 is the default there; this says at what cost."""
    if settings.precision == "float32" and choose_device(settings.device).type == "cuda":
        yield (
            'float32 is computed without TF32; `precision="float16"` should take about a third of the time on '
            "CUDA, which was never measured, and changed 0 of 2,400 decisions where a CPU emulated it"
        )


def _missing_classes(ensemble: Ensemble, dataset: Dataset) -> Iterator[str]:
    """ImageNet's class folders are known without a class list, so that a subset could pass for the whole."""
    there = len({item.label for item in dataset.items})
    if ensemble.classes.names is None and there < ensemble.classes.count:
        ranked = (
            'labels are ranked among all classes, and among the subset\'s own with `subset_classes="dataset"`'
            if dataset.scope.counted_classes is None
            else "labels are ranked among its own classes"
        )
        yield (
            f"the images are of {there} of the {ensemble.classes.count} classes of {ensemble.classes.source}; "
            f"the errors are those of this subset, and {ranked}"
        )
