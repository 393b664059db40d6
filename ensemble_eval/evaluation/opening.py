"""Opens and checks the inputs of a job before any work starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ensemble_eval.backends.opening import choose_backend, load_members, open_members
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import OWN, read_protocol
from ensemble_eval.datasets.folders import is_hidden
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import read_dataset
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError, first_names, located
from ensemble_eval.evaluation.key import RUN, MemberKey, RunKey
from ensemble_eval.jobs.devices import choose_device, device_of_rank
from ensemble_eval.jobs.process import Process, find_process
from ensemble_eval.members.ensemble import Ensemble, protocol_named
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.scoring.crop_ranks import MAX_CLASSES
from ensemble_eval.settings import Backend, MemberSettings, RunSettings, Settings
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.store import Store


@dataclass(frozen=True)
class Sources:
    """The inputs that the results depend on, without loaded networks. These inputs are enough to write the tables.

    Attributes:
        ensemble: The members.
        dataset: The images.
        backend: The software that runs the networks.
        device: The device that the settings name; with several processes, each chooses its own.
        rule: The crops that each member sees.
        weights_sha256: The hash that identifies each member, by name: of its weights, or of the fingerprint that
            the user gave with a predict function. Predict functions without a fingerprint have no entry.
        warnings: Sentences for the user.
    """

    ensemble: Ensemble
    dataset: Dataset
    backend: Backend
    device: torch.device
    rule: CropRule
    weights_sha256: Mapping[str, str]
    warnings: tuple[str, ...]

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each member, for the key of a stored job.

        Raises:
            InputError: A predict function has no fingerprint. Only stored results need one.
        """
        return {
            member.name: self.weights_sha256.get(member.name) or member_sha256(member)
            for member in self.ensemble.members
        }


@dataclass(frozen=True)
class Inputs(Sources):
    """The inputs as opened in one process. `device` is the device of this process.

    Attributes:
        members: The opened members by name, in the ensemble's order.
    """

    members: Mapping[str, Predict]


def open_sources(settings: RunSettings) -> Sources:
    """Open the ensemble and the data set of a command, without loading a network.

    Raises:
        InputError: One of them cannot be used.
    """
    ensemble = open_ensemble(settings.ensemble, settings.models)
    out = settings.out
    dataset = read_dataset(settings.dataset, ensemble.classes, settings, out, out, as_listed=another_lists())
    sources = sources_of(ensemble, dataset, settings)
    missing = (
        _missing_class_warnings(ensemble, dataset) if settings.labels is None and not dataset.scope.part else ()
    )
    return replace(sources, warnings=(*sources.warnings, *missing))


def another_lists() -> bool:
    """Whether another process lists a data set in a bucket: the one that reports does so at each start."""
    return not find_process().is_reporting


def sources_of(ensemble: Ensemble, dataset: Dataset, settings: Settings) -> Sources:
    """Check an ensemble and a data set against the settings of an evaluation.

    Raises:
        InputError: The labels or the settings do not fit the ensemble, or one of the errors of `member_sources`.
    """
    num_classes, scope = ensemble.classes.count, dataset.scope
    _refuse_labels_beyond(num_classes, dataset)
    if settings.early_exit_ks and not scope.labelled:
        raise InputError("`until_decided` needs labels, and the images have none; leave it out")
    if settings.surface and (scope.several_labels or scope.counted_classes is not None or not scope.labelled):
        raise InputError(
            "`surface` ranks one label of each image among all classes; leave it out, or give one label for each "
            'image and `subset_classes="all"`'
        )
    if settings.surface and num_classes > MAX_CLASSES:
        raise InputError(f"`surface` stores ranks among at most {MAX_CLASSES} classes, not {num_classes}")
    return member_sources(ensemble, dataset, settings, rule_of(ensemble, settings))


def rule_of(ensemble: Ensemble, settings: Settings) -> CropRule:
    """Return the crops that each member sees: those of its own protocol, or of the evaluation's.

    Raises:
        InputError: There is no such protocol or scheme, or a member takes crops of another size.
    """
    default = None if settings.protocol == OWN else read_protocol(settings.protocol)
    protocols = []
    for member in ensemble.members:
        with located(f"member {member.name}"):
            protocol = member.protocol or default or protocol_named(OWN, member.own_protocol)
            if member.input.size not in (None, protocol.size):
                raise InputError(
                    f"it takes {member.input.size} pixels, and the protocol {protocol.name} cuts {protocol.size}; "
                    "choose another `protocol`, or name one for the member in the manifest"
                )
        protocols.append(protocol)
    return CropRule(tuple(protocols), settings.crops or protocols[0].schemes[-1], ensemble.interpolation)


def member_sources(ensemble: Ensemble, dataset: Dataset, settings: MemberSettings, rule: CropRule) -> Sources:
    """Choose the device and the backend, and hash the weights of the ensemble.

    Every job that runs an ensemble uses this.

    Raises:
        InputError: The device, the backend or a weights file is missing.
    """
    device = choose_device(settings.device)
    backend = choose_backend(settings.backend, device)
    weights = {
        member.name: member_sha256(member)
        for member in ensemble.members
        if member.predict is None or member.fingerprint is not None
    }
    warnings = (*_ignored_file_warnings(dataset), *_half_precision_suggestion(settings, device))
    return Sources(ensemble, dataset, backend, device, rule, weights, warnings)


def open_inputs(
    settings: MemberSettings,
    sources: Sources,
    process: Process = Process(),  # noqa: B008 (it is frozen)
) -> Inputs:
    """Choose the device of a process, and load the members onto it.

    Raises:
        InputError: One of them cannot be used.
    """
    device = device_of_rank(settings.device, process.local_rank, process.local_world_size)
    warnings: list[str] = []
    sizes = [protocol.size for protocol in sources.rule.protocols]
    members = open_members(sources.ensemble, settings, sources.backend, device, sizes, warnings.append)
    opened = {"device": device, "members": members, "warnings": (*sources.warnings, *warnings)}
    return Inputs(**{**vars(sources), **opened})


def check_networks(settings: MemberSettings, sources: Sources) -> list[str]:
    """Load every member once and discard it, and return the warnings.

    A supervisor can thus report errors before it starts workers.

    Raises:
        InputError: A member cannot be used.
    """
    warnings: list[str] = []
    for _ in load_members(sources.ensemble, settings, warnings.append):
        pass
    return warnings


def open_folder(settings: Settings, sources: Sources) -> Folder[RunKey]:
    """Return the `Folder` of a run. Nothing is read or written yet.

    Raises:
        InputError: A predict function has no fingerprint.
    """
    ensemble, dataset, weights = sources.ensemble, sources.dataset, sources.fingerprints()
    members = (
        MemberKey(
            name=member.name,
            weights=weights[member.name],
            arch=member.arch,
            options=dict(member.options),
            input=member.input.stated(),
            protocol=protocol,
        )
        for member, protocol in zip(ensemble.members, sources.rule.protocols, strict=True)
    )
    key = RunKey(
        crops=sources.rule.crops,
        precision=settings.precision,
        backend=sources.backend,
        device_type=sources.device.type,
        scores=settings.with_scores,
        surface=settings.surface,
        until_decided=tuple(f"top-{k}" for k in settings.early_exit_ks),
        interpolation=ensemble.interpolation,
        classes=ensemble.classes.count,
        dataset=dataset.sha256,
        images=len(dataset.items),
        members=tuple(members),
        scope=dataset.scope,
    )
    return Folder(Store(settings.out, RUN, key.stored()), dataset)


def _refuse_labels_beyond(num_classes: int, dataset: Dataset) -> None:
    for item in dataset.items:
        label = max(dataset.labels_of(item.id, item.label), default=0)
        if label >= num_classes:
            raise InputError(
                f"the label of {item.id} is {label}, and the ensemble has {num_classes} classes; "
                f"labels run from 0 to {num_classes - 1}"
            )


def _ignored_file_warnings(dataset: Dataset) -> Iterator[str]:
    links = [identifier for identifier in dataset.ignored if " -> " in identifier]
    if links:
        yield (
            f"{len(links)} links are not followed, because they lead back to folders that are read anyway: "
            f"{first_names(links)}"
        )
    ignored = [identifier for identifier in dataset.ignored if identifier not in links]
    hidden = [identifier for identifier in ignored if is_hidden(identifier)]
    if hidden:
        yield (
            f"{len(hidden)} images or folders are hidden (their names begin with a dot) and are ignored: "
            f"{first_names(hidden)}"
        )
    if others := [identifier for identifier in ignored if not is_hidden(identifier)]:
        yield (
            f"{len(others)} files are ignored, because by location or suffix they are not labelled images: "
            f"{first_names(others)}"
        )


def _half_precision_suggestion(settings: MemberSettings, device: torch.device) -> Iterator[str]:
    """Suggest half precision on CUDA. float32 is the default there until results on a GPU have been measured."""
    if settings.precision == "float32" and device.type == "cuda":
        yield (
            'float32 is computed without TF32; `precision="float16"` should take about a third of the time '
            "(not measured), and changed 0 of 2,400 decisions when a CPU emulated it"
        )


def _missing_class_warnings(ensemble: Ensemble, dataset: Dataset) -> Iterator[str]:
    """Warn if the images cover only some classes of ImageNet.

    Class folders are recognised by WNID without a class list, so a missing class would not be noticed.
    """
    present = len({item.label for item in dataset.items})
    if ensemble.classes.names is None and present < ensemble.classes.count:
        ranked = (
            'labels are ranked among all classes; to rank them among the subset\'s, use `subset_classes="dataset"`'
            if dataset.scope.counted_classes is None
            else "labels are ranked among the classes of the subset"
        )
        yield (
            f"the images are of {present} of the {ensemble.classes.count} classes of {ensemble.classes.source}, "
            f"so the errors are those of this subset; {ranked}"
        )
