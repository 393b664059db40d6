"""What a run is given, opened and found usable before any work starts."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ensemble_eval.backends.choice import Backend, PredictMaker, choose_backend, compiles, default_batch_size
from ensemble_eval.crops.schemes import CROP_SIZE, schemes_up_to
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Precision, Predict, memory_errors_of
from ensemble_eval.errors import InputError
from ensemble_eval.launch.cpu import keep_freed_memory
from ensemble_eval.launch.devices import choose_device, device_of_rank, prepare_device
from ensemble_eval.launch.place import Place
from ensemble_eval.members.manifest import Ensemble
from ensemble_eval.members.opening import open_ensemble
from ensemble_eval.members.weights import load_member, tensors_sha256, weights_sha256
from ensemble_eval.results.store import SAVE_EVERY_SECONDS

DEFAULT_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Settings:
    """What the command line says about a run; see `ensemble-eval run --help`.

    `decides` holds the k of each top-k error that is wanted of a run that stops when decided; empty for full.
    """

    dataset: Path
    ensemble: Path
    out: Path = Path("results")
    models: int | None = None
    crops: int = 144
    labels: Path | None = None
    device: str = "auto"
    ranks: int | None = None
    precision: Precision = "float32"
    backend: Backend | Literal["auto"] = "auto"
    batch_size: int | None = None
    workers: int = 2
    with_scores: bool = True
    decides: tuple[int, ...] = ()
    trust_python: bool = False
    fresh: bool = False
    save_every: float = SAVE_EVERY_SECONDS
    timeout: float = DEFAULT_TIMEOUT_SECONDS


@dataclass(frozen=True)
class Sources:
    """What the results depend on; enough to say what is missing and to write the tables.

    Attributes:
        ensemble: the members that take part.
        dataset: the labelled images.
        backend: what runs the networks.
        weights_sha256: by member.
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


def open_sources(settings: Settings) -> Sources:
    """Open ensemble and data set, without loading a network.

    Raises:
        InputError: whatever cannot be used, in one sentence with the remedy.
    """
    schemes_up_to(settings.crops)
    if settings.batch_size is not None and settings.batch_size < 1:
        raise InputError(f"--batch-size is at least 1, not {settings.batch_size}")
    if settings.workers < 1:
        raise InputError(f"--workers is at least 1, not {settings.workers}")
    for option, seconds in (("--save-every", settings.save_every), ("--timeout", settings.timeout)):
        if not math.isfinite(seconds):
            raise InputError(f"{option} is a number of seconds, not {seconds}")
    if settings.save_every < 0:
        raise InputError(f"--save-every is at least 0 seconds, not {settings.save_every}")
    if settings.timeout <= settings.save_every:
        raise InputError(
            f"--timeout {settings.timeout:g} must be longer than --save-every {settings.save_every:g}"
        )
    backend = choose_backend(settings.backend, choose_device(settings.device))
    ensemble = open_ensemble(settings.ensemble, settings.models)
    dataset = open_dataset(settings.dataset, ensemble.classes, settings.labels)
    weights = {member.name: weights_sha256(member.weights) for member in ensemble.members}
    return Sources(ensemble, dataset, backend, weights, _warnings(dataset))


def open_inputs(settings: Settings, place: Place = Place()) -> Inputs:  # noqa: B008 (it is frozen)
    """Open the sources, the device and the weights, and run every member once.

    Raises:
        InputError: whatever cannot be used, in one sentence with the remedy.
    """
    sources = open_sources(settings)
    keep_freed_memory()
    device = device_of_rank(settings.device, place.local_rank)
    prepare_device(device)
    ensemble, num_classes = sources.ensemble, sources.ensemble.classes.count
    make = PredictMaker(sources.backend, num_classes, device, settings.precision)
    members = {}
    hashes = {}
    for member in ensemble.members:
        network = load_member(member, num_classes, trust_python=settings.trust_python)
        hashes[member.name] = tensors_sha256(network.state_dict())
        members[member.name] = make(member, network)
    batch_size = settings.batch_size or default_batch_size(device)
    _try(members, batch_size if compiles(sources.backend) else 1, device)
    return Inputs(
        ensemble,
        sources.dataset,
        sources.backend,
        sources.weights_sha256,
        (*sources.warnings, *same_weights(hashes)),
        device,
        members,
    )


def _try(members: Mapping[str, Predict], crops: int, device: torch.device) -> None:
    """Run one batch of black crops through every member, so that what is wrong with one shows before the work."""
    for predict in members.values():
        try:
            with memory_errors_of(f"a batch of {crops}"):
                predict(torch.zeros(crops, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=device))
        except OutOfDeviceMemoryError as error:
            # The engine halves batches; of a single crop there is no half.
            if crops == 1:
                raise InputError(f"{error} does not fit into the memory of {device}; use fewer models") from error


def check_networks(settings: Settings, sources: Sources) -> tuple[str, ...]:
    """Load every member once, for a process that leaves the work to others; return the warnings.

    Raises:
        InputError: a member cannot be used.
    """
    hashes = {}
    for member in sources.ensemble.members:
        network = load_member(member, sources.ensemble.classes.count, trust_python=settings.trust_python)
        hashes[member.name] = tensors_sha256(network.state_dict())
    return tuple(same_weights(hashes))


def same_weights(sha256: Mapping[str, str]) -> Iterator[str]:
    """Warnings of members whose tensors are equal, whatever files they came from."""
    for other, name in itertools.combinations(sha256, 2):
        if sha256[name] == sha256[other]:
            yield f"members {other} and {name} have the same weights; that is not an ensemble"


def _warnings(dataset: Dataset) -> tuple[str, ...]:
    warnings = []
    if dataset.ignored:
        more = ", …" if len(dataset.ignored) > 3 else ""
        warnings.append(
            f"{len(dataset.ignored)} files are no labelled images by their place or suffix and take no part: "
            f"{', '.join(dataset.ignored[:3])}{more}"
        )
    return tuple(warnings)
