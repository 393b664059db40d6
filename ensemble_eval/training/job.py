"""The whole command: members one after the other, each resumed, trained, written and told of."""

import hashlib
import os
import platform
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from ensemble_eval import __version__
from ensemble_eval.datasets.folders import open_class_folders, open_files
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.errors import InputError
from ensemble_eval.files import sha256_of
from ensemble_eval.launch.cpu import loaders_beside, usable_processors
from ensemble_eval.launch.devices import device_name, device_of_rank
from ensemble_eval.launch.numa import bind_beside
from ensemble_eval.members.classes import ClassList, class_list
from ensemble_eval.settings import TrainingSettings
from ensemble_eval.training import folder
from ensemble_eval.training.config import MemberPlan, Recipe
from ensemble_eval.training.folder import MemberFiles
from ensemble_eval.training.images import DecodedImages, ImageFiles, ImageSource
from ensemble_eval.training.multibox_task import MultiBoxTask, read_objects
from ensemble_eval.training.networks import initial_weights
from ensemble_eval.training.processes import Processes
from ensemble_eval.training.records import (
    EpochDone,
    Event,
    ImagesDecoded,
    MemberFinished,
    MemberSkipped,
    MemberStarted,
    RunFinished,
)
from ensemble_eval.training.regions import open_regions
from ensemble_eval.training.task import Site, Task, TrainingData
from ensemble_eval.training.trainer import Trainer


def train(recipe: Recipe, settings: TrainingSettings, processes: Processes) -> Generator[Event]:
    """Train the members that are asked for and not finished yet.

    Yields:
        What happens, as it happens; everything an event tells of is written before it is yielded.

    Raises:
        InputError: data, recipe or disk do not allow it, a training here was another recipe's, or the
            loss became NaN.
    """
    plans = [recipe.member(name) for name in settings.members] or list(recipe.members)
    train_set, val_set = _open_data(recipe)
    run = _Run(recipe, settings, processes, train_set, val_set)
    if settings.fresh:
        run.forget(plans)
    run.refuse_other_recipes()
    yield from run.train(plans)


class _Run:
    def __init__(
        self,
        recipe: Recipe,
        settings: TrainingSettings,
        processes: Processes,
        train_set: Dataset,
        val_set: Dataset,
    ) -> None:
        self._recipe, self._settings, self._processes = recipe, settings, processes
        self._train_set, self._val_set = train_set, val_set
        names = train_set.class_names or ()
        self._class_names = names if recipe.regions is None else (*names, NO_OBJECT)
        self._fingerprint = train_set.sha256

    def train(self, plans: Sequence[MemberPlan]) -> Iterator[Event]:
        classes = ClassList(folder.CLASSES_NAME, len(self._class_names), self._class_names)
        if self._processes.first:
            classes = folder.write_classes(self._settings.out, self._class_names)
        # As the first sees the disk: another might see a file of the first's later, and wait for it forever.
        names = self._processes.from_first(lambda: [plan.name for plan in plans if not self._files(plan).finished])
        waiting = [plan for plan in plans if plan.name in names]
        yield from (MemberSkipped(plan.name) for plan in plans if plan not in waiting)
        if waiting:
            started = time.perf_counter()
            data, site = self._prepare()
            if self._recipe.data.cache_decoded:
                images = len(self._train_set.items) + len(self._val_set.items)
                yield ImagesDecoded(images, time.perf_counter() - started)
            for plan in waiting:
                yield from self._train_member(self._task(plan, data, site), classes)
        yield self._finish(classes)

    def _task(self, plan: MemberPlan, data: TrainingData, site: Site) -> Task:
        multibox = self._recipe.multibox
        if multibox is None:
            return Task(self._recipe, plan, data, site)
        objects = (
            read_objects(source, folder_of_images / multibox.boxes, self._class_names)
            for source, folder_of_images in (
                (data.train, self._recipe.data.train),
                (data.val, self._recipe.data.val),
            )
        )
        return MultiBoxTask(self._recipe, plan, data, site, *objects)

    def forget(self, plans: Sequence[MemberPlan]) -> None:
        if self._processes.first:
            for plan in plans:
                self._files(plan).remove()
        self._processes.wait()

    def refuse_other_recipes(self) -> None:
        self._processes.from_first(self._refuse_other_recipes)

    def _refuse_other_recipes(self) -> None:
        for plan in self._recipe.members:
            member_files = self._files(plan)
            if member_files.finished:
                there = folder.read_record(member_files.record)["decides_the_weights"]
            elif member_files.state.exists():
                there = folder.read_state(member_files.state).get("decides_the_weights", {})
            else:
                continue
            _refuse_difference(plan.name, there, self._decides(plan), self._settings.out)

    def _train_member(self, task: Task, classes: ClassList) -> Iterator[Event]:
        member_files = self._files(task.plan)
        trainer = Trainer(task)
        state = self._processes.from_first(lambda: _state(member_files))
        if state is not None:
            trainer.load_state_dict(state)
        yield MemberStarted(task.plan.name, trainer.step, task.steps, task.recipe.schedule.epochs)
        for event in trainer.run():
            if isinstance(event, EpochDone) or event.step % self._recipe.save_every_steps == 0:
                self._save(trainer, task.plan)
            yield event
        network = trainer.inference_network()
        if self._processes.first:
            self._export(trainer, task, network, classes)
        self._processes.wait()
        yield MemberFinished(task.plan.name, member_files.weights, trainer.history[-1])

    def _save(self, trainer: Trainer, plan: MemberPlan) -> None:
        if not self._processes.first:
            return
        state = {"decides_the_weights": self._decides(plan), "trainer": trainer.state_dict()}
        folder.write_state(self._files(plan).state, {"step": trainer.step, **state})
        folder.write_log(self._files(plan).log, trainer.history)

    def _export(self, trainer: Trainer, task: Task, network: nn.Module, classes: ClassList) -> None:
        """Weights, record and manifest; the state goes last, so that an interruption repeats this."""
        member_files = self._files(task.plan)
        folder.write_log(member_files.log, trainer.history)
        sha256 = folder.export_weights(member_files, self._recipe, task.plan, network, classes)
        unreadable = [["train", *row] for row in sorted(trainer.unreadable.items())]
        unreadable += [["val", *row] for row in sorted(trainer.unreadable_validation.items())]
        record = {
            "member": task.plan.name,
            "sha256": sha256,
            "decides_the_weights": self._decides(task.plan),
            "last_epoch": asdict(trainer.history[-1]),
            "train_images": len(task.data.train.items),
            "val_images": len(task.data.val.items),
            "training_seconds": round(sum(row.seconds for row in trainer.history), 1),
            "unreadable": unreadable,
            **_surroundings(task.site),
        }
        folder.write_record(member_files.record, record)
        folder.write_ensemble(self._settings.out, self._recipe, classes)
        member_files.state.unlink(missing_ok=True)

    def _finish(self, classes: ClassList) -> RunFinished:
        if not self._processes.first:
            return RunFinished(None, 0)
        manifest = folder.write_ensemble(self._settings.out, self._recipe, classes)
        rows = {
            tuple(row)
            for plan in self._recipe.members
            if self._files(plan).finished
            for row in folder.read_record(self._files(plan).record).get("unreadable", [])
        }
        if rows:
            folder.write_unreadable(self._settings.out / folder.UNREADABLE_NAME, sorted(rows))
        return RunFinished(manifest, len(rows))

    def _prepare(self) -> tuple[TrainingData, Site]:
        processes = self._processes
        device = device_of_rank(self._settings.device, processes.local_rank, processes.on_machine)
        _require_a_device_each(self._settings.device, device, processes)
        # Both are shares of the machine, and so they are counted before this process is bound to a part of it.
        threads = max(1, usable_processors() // processes.on_machine)
        workers = self._settings.workers
        loaders = _default_workers(device, processes) if workers is None else processes.loaders(workers)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            if processes.on_machine > 1:
                bind_beside(device)
        train_source = self._source(self._train_set, self._recipe.data.train, threads)
        val_source = self._source(self._val_set, self._recipe.data.val, threads)
        return TrainingData(train_source, val_source, len(self._class_names)), Site(device, processes, loaders)

    def _source(self, dataset: Dataset, folder: Path, threads: int) -> ImageSource:
        images: ImageSource = (
            DecodedImages(dataset.items, threads) if self._recipe.data.cache_decoded else ImageFiles(dataset.items)
        )
        if self._recipe.regions is None:
            return images
        return open_regions(
            images,
            folder / self._recipe.regions.boxes,
            self._class_names[:-1],
            self._recipe.regions,
            self._recipe.network.crop_size,
        )

    def _files(self, plan: MemberPlan) -> MemberFiles:
        return MemberFiles(self._settings.out, plan.name)

    def _decides(self, plan: MemberPlan) -> dict[str, Any]:
        """What a state or finished weights must agree with: recipe, data and the number of processes."""
        here: dict[str, Any] = {"training images": self._fingerprint, "processes": self._processes.world}
        if (initial := initial_weights(self._recipe, plan)) is not None:
            here["initial weights"] = sha256_of(initial) if initial.is_file() else None
        if self._recipe.annotations is not None:
            here["boxes"] = _fingerprint_of(self._recipe.data.train / self._recipe.annotations.boxes)
            if self._recipe.annotations.classes is not None:
                here["classes"] = list(self._class_names)
        return self._recipe.what_decides_the_weights(plan) | here


def _open_data(recipe: Recipe) -> tuple[Dataset, Dataset]:
    if recipe.annotations is not None and recipe.annotations.classes is not None:
        names = class_list(recipe.annotations.classes).names or ()
        return open_files(recipe.data.train, names), open_files(recipe.data.val, names)
    train_set = open_class_folders(recipe.data.train)
    names = train_set.class_names or ()
    counts = [0] * len(names)
    for item in train_set.items:
        counts[item.label] += 1
    if empty := [name for name, count in zip(names, counts, strict=True) if count == 0]:
        first = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        raise InputError(
            f"{recipe.data.train}: {len(empty)} of {len(names)} classes have no images ({first}); add images or "
            "remove their folders"
        )
    return train_set, open_class_folders(recipe.data.val, names)


def _fingerprint_of(boxes: Path) -> str | None:
    """Of the annotations, a file or a folder of them; None where there are none, which their reader says."""
    paths = sorted(boxes.rglob("*.xml")) if boxes.is_dir() else [boxes]
    if not all(path.is_file() for path in paths):
        return None
    return hashlib.sha256("".join(sha256_of(path) for path in paths).encode()).hexdigest()


def _refuse_difference(name: str, there: Mapping[str, Any], here: Mapping[str, Any], out: Path) -> None:
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if keys:
        differences = "; ".join(f"{key} was {there.get(key)!r} and is now {here.get(key)!r}" for key in keys)
        raise InputError(
            f"member {name} in {out} was trained by another recipe ({differences}); restore it, choose another "
            "`out`, or start over with `fresh=True`"
        )


def _require_a_device_each(name: str, device: torch.device, processes: Processes) -> None:
    """Gradients go between devices: processes that share one would wait for each other forever."""
    if device.type == "cuda" and ":" in name and processes.on_machine > 1 and torch.cuda.device_count() > 1:
        raise InputError(
            f'{processes.on_machine} processes train on this machine, and `device="{name}"` gives all of them the '
            'same device; choose `device="cuda"`, which gives each its own'
        )


def _default_workers(device: torch.device, processes: Processes) -> int:
    """One beside a CPU that is busy with the network anyway; for a GPU its share of the processors."""
    return 1 if device.type == "cpu" else min(16, loaders_beside(processes.on_machine))


def _state(member_files: MemberFiles) -> dict[str, Any] | None:
    """The trainer's part of an interrupted training's state; None where there is none."""
    return folder.read_state(member_files.state)["trainer"] if member_files.state.exists() else None


def _surroundings(site: Site) -> dict[str, Any]:
    return {
        "ensemble_eval": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device": device_name(site.device),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "threads": torch.get_num_threads(),
    }
