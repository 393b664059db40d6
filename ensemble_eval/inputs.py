"""What a run is given, opened and found usable before any work starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ensemble_eval.backends import Backend, Precision, Predict, make_predict
from ensemble_eval.checkpoints import load_member, weights_sha256
from ensemble_eval.cpu import keep_freed_memory
from ensemble_eval.crops import CROP_SIZE, schemes_up_to
from ensemble_eval.datasets import Dataset, open_dataset
from ensemble_eval.devices import choose_device, device_of_rank
from ensemble_eval.distributed import Place
from ensemble_eval.ensembles import open_ensemble
from ensemble_eval.errors import InputError
from ensemble_eval.manifests import Ensemble
from ensemble_eval.store import SAVE_EVERY_SECONDS

DEFAULT_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Settings:
    """What the command line says about a run; see `ensemble-eval run --help`."""

    dataset: Path
    ensemble: Path
    out: Path = Path("results")
    models: int | None = None
    crops: int = 144
    labels: Path | None = None
    device: str = "auto"
    ranks: int | None = None
    precision: Precision = "float32"
    backend: Backend = "torch"
    batch_size: int | None = None
    workers: int = 2
    with_scores: bool = True
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
        weights_sha256: by member.
        warnings: sentences for the user; nothing that stops the run.
    """

    ensemble: Ensemble
    dataset: Dataset
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
    if settings.save_every < 0:
        raise InputError(f"--save-every is at least 0 seconds, not {settings.save_every}")
    if settings.timeout <= settings.save_every:
        raise InputError(
            f"--timeout {settings.timeout:g} must be longer than --save-every {settings.save_every:g}"
        )
    choose_device(settings.device)
    ensemble = open_ensemble(settings.ensemble, settings.models)
    dataset = open_dataset(settings.dataset, ensemble.classes, settings.labels)
    weights = {member.name: weights_sha256(member.weights) for member in ensemble.members}
    return Sources(ensemble, dataset, weights, _warnings(dataset, weights))


def open_inputs(settings: Settings, place: Place = Place()) -> Inputs:  # noqa: B008 (it is frozen)
    """Open the sources, the device and the weights, and run one crop through every member.

    Raises:
        InputError: whatever cannot be used, in one sentence with the remedy.
    """
    sources = open_sources(settings)
    keep_freed_memory()
    device = device_of_rank(settings.device, place.local_rank)
    ensemble, num_classes = sources.ensemble, sources.ensemble.classes.count
    members = {}
    for member in ensemble.members:
        network = load_member(member, num_classes, trust_python=settings.trust_python)
        members[member.name] = make_predict(
            settings.backend, member, network, num_classes, device, settings.precision
        )
    black = torch.zeros(1, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=device)
    for predict in members.values():
        predict(black)
    return Inputs(ensemble, sources.dataset, sources.weights_sha256, sources.warnings, device, members)


def _warnings(dataset: Dataset, weights_sha256: Mapping[str, str]) -> tuple[str, ...]:
    warnings = []
    names = list(weights_sha256)
    for index, name in enumerate(names):
        for other in names[:index]:
            if weights_sha256[name] == weights_sha256[other]:
                warnings.append(f"members {other} and {name} have the same weights; that is not an ensemble")
    if dataset.ignored:
        more = ", …" if len(dataset.ignored) > 3 else ""
        warnings.append(
            f"{len(dataset.ignored)} files are no labelled images by their place or suffix and take no part: "
            f"{', '.join(dataset.ignored[:3])}{more}"
        )
    return tuple(warnings)
