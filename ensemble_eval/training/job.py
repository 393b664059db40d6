"""The command `train`: it trains one member after the other, or continues it, and writes it to the output folder.

The folder has each member's state, log, record and weights, and the ensemble's manifest. Every file is written
as a whole or not at all.
"""

import hashlib
import io
import itertools
import json
import os
import pickle
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from ensemble_eval import __version__
from ensemble_eval.datasets.boxes import read_boxes
from ensemble_eval.datasets.folders import open_class_folders, open_files
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.multibox import save_multibox
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.files import csv_text, sha256_of, write_atomically
from ensemble_eval.jobs.binding import bind_beside
from ensemble_eval.jobs.cpu import default_loaders, usable_processors
from ensemble_eval.jobs.devices import device_name, device_of_rank
from ensemble_eval.members.classes import ClassList, class_list
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.settings import TrainingSettings
from ensemble_eval.training import records
from ensemble_eval.training.config import MemberPlan, Recipe
from ensemble_eval.training.multibox import AnnotatedPictures, MultiBoxTask
from ensemble_eval.training.processes import Processes
from ensemble_eval.training.regions import open_regions
from ensemble_eval.training.samples import DecodedImages, ImageFiles, ImageSource
from ensemble_eval.training.task import Site, Task, TrainingData
from ensemble_eval.training.trainer import Trainer

# The files of a member: averaged weights, a row for each epoch, how the finished weights came about, and what an
# interrupted training continues from, which is removed once the member is finished.
_SUFFIXES = (".safetensors", ".csv", ".json", ".training-state.pt")
_WEIGHTS, _LOG, _RECORD, _STATE = _SUFFIXES


def train(recipe: Recipe, settings: TrainingSettings, processes: Processes) -> Generator[records.Event]:
    """Train the members that are asked for and not finished yet.

    Yields:
        What happens, as it happens; everything an event tells of is written before it is yielded.

    Raises:
        InputError: The data, the recipe or the disk cannot be used, the folder holds the training of another
            recipe, or the loss became NaN.
    """
    plans = [recipe.member(name) for name in settings.members] or list(recipe.members)
    yield from _Run(recipe, settings, processes).train(plans)


class _Run:
    def __init__(self, recipe: Recipe, settings: TrainingSettings, processes: Processes) -> None:
        self._recipe, self._out, self._settings, self._processes = recipe, settings.out, settings, processes
        self._train_set, self._val_set = _open_data(recipe)
        names = self._train_set.class_names or ()
        self._class_names = names if recipe.regions is None else (*names, NO_OBJECT)
        self._classes = ClassList(str(self._out / "classes.txt"), len(self._class_names), self._class_names)

    def train(self, plans: Sequence[MemberPlan]) -> Iterator[records.Event]:
        if self._settings.fresh and self._processes.is_reporting:
            for plan, suffix in itertools.product(plans, _SUFFIXES):
                self._path(plan, suffix).unlink(missing_ok=True)
        self._processes.from_first(self._refuse_other_recipes)
        if self._processes.is_reporting:
            lines = "".join(f"{name}\n" for name in self._class_names)
            write_atomically(self._out / "classes.txt", lines.encode())
        # Only the first process looks: another may see its files later, and would then wait for it forever.
        finished = self._processes.from_first(lambda: [*filter(self._is_finished, plans)])
        yield from (records.Line(f"{plan.name}: already trained") for plan in finished)
        if waiting := [plan for plan in plans if plan not in finished]:
            started = time.perf_counter()
            data, site = self._prepare()
            if self._recipe.data.cache_decoded:
                images = len(self._train_set.items) + len(self._val_set.items)
                yield records.Line(f"{images} images decoded in {time.perf_counter() - started:.0f} s")
            task = Task if self._recipe.multibox is None else MultiBoxTask
            for plan in waiting:
                yield from self._train_member(task(self._recipe, plan, data, site))
        yield self._finish()

    def _path(self, plan: MemberPlan, suffix: str) -> Path:
        return self._out / f"{plan.name}{suffix}"

    def _is_finished(self, plan: MemberPlan) -> bool:
        return all(self._path(plan, suffix).exists() for suffix in (_WEIGHTS, _RECORD))

    def _refuse_other_recipes(self) -> None:
        for plan in self._recipe.members:
            if self._is_finished(plan):
                there = read_record(self._path(plan, _RECORD))["decides_the_weights"]
            elif (state := self._path(plan, _STATE)).exists():
                there = read_state(state).get("decides_the_weights", {})
            else:
                continue
            here = self._decides(plan)
            if keys := [key for key in {**there, **here} if there.get(key) != here.get(key)]:
                differences = "; ".join(
                    f"{key} was {there.get(key)!r} and is now {here.get(key)!r}" for key in keys
                )
                raise InputError(
                    f"member {plan.name} in {self._out} was trained by another recipe ({differences}); restore "
                    "it, choose another `out`, or start over with `fresh=True`"
                )

    def _train_member(self, task: Task) -> Iterator[records.Event]:
        trainer, path = Trainer(task), self._path(task.plan, _STATE)
        state = self._processes.from_first(lambda: read_state(path)["trainer"] if path.exists() else None)
        if state is not None:
            trainer.load_state_dict(state)
        yield records.MemberStarted(task.plan.name, trainer.step, task.steps, task.recipe.schedule.epochs)
        for event in trainer.run():
            due = isinstance(event, records.EpochDone) or event.step % self._recipe.save_every_steps == 0
            if due and self._processes.is_reporting:
                self._save(trainer, task.plan)
            yield event
        network = trainer.inference_network()
        if self._processes.is_reporting:
            self._export(trainer, task, network)
        self._processes.wait()
        yield records.Line(f"{task.plan.name}: written to {self._path(task.plan, _WEIGHTS)}")

    def _save(self, trainer: Trainer, plan: MemberPlan) -> None:
        state = {"step": trainer.step, "decides_the_weights": self._decides(plan)}
        # Through memory: torch reports a full disk as a RuntimeError that says nothing of it.
        buffer = io.BytesIO()
        torch.save({**state, "trainer": trainer.state_dict()}, buffer)
        write_atomically(self._path(plan, _STATE), buffer.getvalue())
        _write_log(self._path(plan, _LOG), trainer.history)

    def _export(self, trainer: Trainer, task: Task, network: nn.Module) -> None:
        """Write weights, record and manifest; remove the state last, so that an interruption repeats this."""
        plan, weights = task.plan, self._path(task.plan, _WEIGHTS)
        _write_log(self._path(plan, _LOG), trainer.history)
        if isinstance(network, MultiBox):
            sha256 = save_multibox(weights, network, plan.width)
        else:
            sha256 = save_weights(weights, network.state_dict(), self._member(plan, None), self._classes)
        unreadable = [["train", *row] for row in sorted(trainer.unreadable.items())]
        unreadable += [["val", *row] for row in sorted(trainer.unreadable_validation.items())]
        record = {
            "member": plan.name,
            "sha256": sha256,
            "decides_the_weights": self._decides(plan),
            "last_epoch": asdict(trainer.history[-1]),
            "train_images": len(task.data.train.items),
            "val_images": len(task.data.val.items),
            "training_seconds": round(sum(row.seconds for row in trainer.history), 1),
            "unreadable": unreadable,
            "ensemble_eval": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "device": device_name(task.site.device),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "threads": torch.get_num_threads(),
        }
        write_atomically(self._path(plan, _RECORD), (json.dumps(record, indent=2) + "\n").encode())
        self._write_ensemble()
        self._path(plan, _STATE).unlink(missing_ok=True)

    def _member(self, plan: MemberPlan, sha256: str | None) -> Member:
        """The member as the ensemble's manifest describes it."""
        weights, options = self._path(plan, _WEIGHTS), {"width": plan.width}
        return Member(plan.name, weights=weights, arch=self._recipe.network.arch, options=options, sha256=sha256)

    def _records(self) -> Iterator[tuple[MemberPlan, dict[str, Any]]]:
        """The members that are finished, in the recipe's order, with their records."""
        for plan in filter(self._is_finished, self._recipe.members):
            yield plan, read_record(self._path(plan, _RECORD))

    def _write_ensemble(self) -> Path | None:
        """Write the manifest of the finished members; return its path.

        There is none without finished members, and for MultiBoxes, which are no members of an ensemble.
        """
        members = [self._member(plan, record["sha256"]) for plan, record in self._records()]
        if self._recipe.multibox is not None or not members:
            return None
        write_manifest(self._out / "ensemble.toml", Ensemble(members, self._classes, self._recipe.name))
        return self._out / "ensemble.toml"

    def _finish(self) -> records.RunFinished:
        if not self._processes.is_reporting:
            return records.RunFinished(None, 0)
        rows = sorted({tuple(row) for _, record in self._records() for row in record.get("unreadable", [])})
        if rows:
            write_atomically(self._out / "unreadable.csv", csv_text(["split", "image", "reason"], rows).encode())
        return records.RunFinished(self._write_ensemble(), len(rows))

    def _prepare(self) -> tuple[TrainingData, Site]:
        processes, name, workers = self._processes, self._settings.device, self._settings.workers
        here = processes.local_world_size
        device = device_of_rank(name, processes.local_rank, here)
        # Processes that exchange gradients on one device would wait for each other forever.
        if device.type == "cuda" and ":" in name and here > 1 and torch.cuda.device_count() > 1:
            raise InputError(
                f'{here} processes train on this machine, and `device="{name}"` gives all of them the same '
                'device; choose `device="cuda"`, which gives each its own'
            )
        # Threads and loaders are shares of the machine, so count them before binding this process to a part of it.
        threads = max(1, usable_processors() // here)
        # On a CPU, which is busy with the network, one is enough; a GPU has its share of the processors.
        by_default = 1 if device.type == "cpu" else min(16, default_loaders(here))
        loaders = by_default if workers is None else processes.loaders(workers)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            if here > 1:
                bind_beside(device)
        train = self._source(self._train_set, self._recipe.data.train, threads)
        val = self._source(self._val_set, self._recipe.data.val, threads)
        return TrainingData(train, val, len(self._class_names)), Site(device, processes, loaders)

    def _source(self, dataset: Dataset, folder: Path, threads: int) -> ImageSource:
        recipe, items = self._recipe, dataset.items
        images = DecodedImages(items, threads) if recipe.data.cache_decoded else ImageFiles(items)
        if recipe.regions is not None:
            boxes, classes = folder / recipe.regions.boxes, self._class_names[:-1]
            return open_regions(images, boxes, classes, recipe.regions, recipe.network.crop_size)
        if recipe.multibox is not None:
            ids = [item.id for item in items]
            return AnnotatedPictures(images, read_boxes(folder / recipe.multibox.boxes, self._class_names, ids))
        return images

    def _decides(self, plan: MemberPlan) -> dict[str, Any]:
        """What decides the weights of a member: the recipe, the data and the number of processes."""
        here: dict[str, Any] = {"training images": self._train_set.sha256, "processes": self._processes.world_size}
        if (initial := self._recipe.initial_weights(plan)) is not None:
            here["initial weights"] = sha256_of(initial) if initial.is_file() else None
        if self._recipe.annotations is not None:
            here["boxes"] = _fingerprint_of(self._recipe.data.train / self._recipe.annotations.boxes)
            if self._recipe.annotations.classes is not None:
                here["classes"] = list(self._class_names)
        return self._recipe.what_decides_the_weights(plan) | here


def read_state(path: Path) -> dict[str, Any]:
    """Load a training state: tensors and plain values, never code.

    Raises:
        InputError: The file is damaged, or no training state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"the training state {path} cannot be read; start over with `fresh=True`") from error
    if not isinstance(state, dict) or "step" not in state:
        raise InputError(f"{path} is not a training state; start over with `fresh=True`")
    return state


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a finished member.

    Raises:
        InputError: The file is damaged, or no such record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["decides_the_weights"], dict) or not isinstance(record["sha256"], str):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no record of a training; start over with `fresh=True`") from error
    return dict(record)


def _write_log(path: Path, history: Sequence[records.EpochRecord]) -> None:
    """Write a member's log as CSV, a row for each epoch, with six significant digits."""
    rows = (
        ["" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value) for value in row]
        for row in (asdict(record).values() for record in history)
    )
    write_atomically(path, csv_text([field.name for field in fields(records.EpochRecord)], list(rows)).encode())


def _open_data(recipe: Recipe) -> tuple[Dataset, Dataset]:
    if recipe.annotations is not None and recipe.annotations.classes is not None:
        names = class_list(recipe.annotations.classes).names or ()
        return open_files(recipe.data.train, names), open_files(recipe.data.val, names)
    train_set = open_class_folders(recipe.data.train)
    names = train_set.class_names or ()
    shown = {item.label for item in train_set.items}
    if empty := [name for label, name in enumerate(names) if label not in shown]:
        raise InputError(
            f"{recipe.data.train}: {len(empty)} of {len(names)} classes have no images ({first_names(empty)}); "
            "add images or remove their folders"
        )
    return train_set, open_class_folders(recipe.data.val, names)


def _fingerprint_of(boxes: Path) -> str | None:
    """A hash of the annotations, a file or a folder; None without them, which their reader refuses."""
    paths = sorted(boxes.rglob("*.xml")) if boxes.is_dir() else [boxes]
    if not all(path.is_file() for path in paths):
        return None
    return hashlib.sha256("".join(sha256_of(path) for path in paths).encode()).hexdigest()
