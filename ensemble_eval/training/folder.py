"""What lies in the output folder: each member's state, log, record and weights, and the ensemble's manifest.

Every file is written as a whole or not at all.
"""

import io
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ensemble_eval.detection.multibox import save_multibox
from ensemble_eval.errors import InputError
from ensemble_eval.files import csv_text, write_atomically
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.training.config import MemberPlan, Recipe
from ensemble_eval.training.records import EpochRecord

CLASSES_NAME = "classes.txt"
MANIFEST_NAME = "ensemble.toml"
UNREADABLE_NAME = "unreadable.csv"

# Significant digits of a log's numbers.
_DIGITS = 6


@dataclass(frozen=True)
class MemberFiles:
    """The files of one member below `folder`."""

    folder: Path
    name: str

    @property
    def weights(self) -> Path:
        """The averaged weights, once the member is finished."""
        return self.folder / f"{self.name}.safetensors"

    @property
    def log(self) -> Path:
        """A row for each epoch."""
        return self.folder / f"{self.name}.csv"

    @property
    def record(self) -> Path:
        """How the finished weights came about."""
        return self.folder / f"{self.name}.json"

    @property
    def state(self) -> Path:
        """What an interrupted training continues from; gone once the member is finished."""
        return self.folder / f"{self.name}.training-state.pt"

    @property
    def finished(self) -> bool:
        """Whether there are finished weights with their record."""
        return self.weights.exists() and self.record.exists()

    def remove(self) -> None:
        """Forget everything about the member."""
        for path in (self.weights, self.log, self.record, self.state):
            path.unlink(missing_ok=True)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save a training state.

    Raises:
        InputError: the disk does not take it; the previous state is still there.
    """
    # Through memory: torch reports a full disk as a RuntimeError that says nothing of it.
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any]:
    """Load what `write_state` saved: tensors and plain values, never code.

    Raises:
        InputError: damaged, or not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"the training state {path} cannot be read; start over with `fresh=True`") from error
    if not isinstance(state, dict) or "step" not in state:
        raise InputError(f"{path} is not a training state; start over with `fresh=True`")
    return state


def write_log(path: Path, history: Sequence[EpochRecord]) -> None:
    """Write a member's log as CSV, a row for each epoch."""
    columns = [field.name for field in fields(EpochRecord)]
    rows = ([_cell(value) for value in asdict(record).values()] for record in history)
    write_atomically(path, csv_text(columns, rows).encode())


def write_unreadable(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write split, image and reason of every image that was left out."""
    write_atomically(path, csv_text(["split", "image", "reason"], rows).encode())


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write how a member came about, as JSON."""
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())


def read_record(path: Path) -> dict[str, Any]:
    """Read what `write_record` wrote.

    Raises:
        InputError: damaged, or not such a file.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["decides_the_weights"], dict) or not isinstance(record["sha256"], str):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no record of a training; start over with `fresh=True`") from error
    return dict(record)


def write_classes(folder: Path, class_names: Sequence[str]) -> ClassList:
    """Write the class list that every member's outputs stand for, and return it."""
    path = folder / CLASSES_NAME
    write_atomically(path, "".join(f"{name}\n" for name in class_names).encode())
    return ClassList(str(path), len(class_names), tuple(class_names))


def export_weights(
    files: MemberFiles, recipe: Recipe, plan: MemberPlan, network: nn.Module, classes: ClassList
) -> str:
    """Write a member's weights for inference, in float32, and return their SHA-256."""
    if isinstance(network, MultiBox):
        return save_multibox(files.weights, network, plan.width)
    return save_weights(files.weights, network.state_dict(), member(files, recipe, plan, None), classes)


def member(files: MemberFiles, recipe: Recipe, plan: MemberPlan, sha256: str | None) -> Member:
    """How the ensemble's manifest describes a member."""
    return Member(
        plan.name, weights=files.weights, arch=recipe.network.arch, options={"width": plan.width}, sha256=sha256
    )


def write_ensemble(folder: Path, recipe: Recipe, classes: ClassList) -> Path | None:
    """Write the manifest of all members finished so far, in the recipe's order.

    None while there are none, and for MultiBoxes, which are no members of an ensemble.
    """
    if recipe.multibox is not None:
        return None
    members = []
    for plan in recipe.members:
        files = MemberFiles(folder, plan.name)
        if files.finished:
            members.append(member(files, recipe, plan, read_record(files.record)["sha256"]))
    if not members:
        return None
    write_manifest(folder / MANIFEST_NAME, Ensemble(members, classes, recipe.name))
    return folder / MANIFEST_NAME


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)
