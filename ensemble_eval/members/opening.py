"""Opening what `--ensemble` names: a manifest, or a folder of checkpoints that describe themselves."""

from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.members.manifest import Ensemble, check_names, read_manifest
from ensemble_eval.members.saving import read_member


def open_ensemble(path: Path, models: int | None = None) -> Ensemble:
    """Read an ensemble and keep its first `models` members (all by default).

    Args:
        path: a manifest, or a folder whose `*.safetensors` files, in sorted order, are the members.
        models: how many members to use.

    Raises:
        InputError: nothing usable at `path`, or fewer members than asked for.
    """
    ensemble = _read_folder(path) if path.is_dir() else read_manifest(path)
    if models is None:
        return ensemble
    if not 1 <= models <= len(ensemble.members):
        raise InputError(
            f"{models} models were asked for and {path} has {len(ensemble.members)} members; "
            f"choose --models from 1 to {len(ensemble.members)}"
        )
    return Ensemble(ensemble.name, ensemble.classes, ensemble.members[:models], ensemble.interpolation)


def _read_folder(folder: Path) -> Ensemble:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(f"{folder} holds no .safetensors files; give a manifest or a folder of checkpoints")
    described = [read_member(path) for path in paths]
    classes = described[0][1]
    for path, (_, other) in zip(paths, described, strict=True):
        if (other.count, other.names) != (classes.count, classes.names):
            raise InputError(f"{path} and {paths[0]} have different classes and are not one ensemble")
    members = tuple(member for member, _ in described)
    check_names([member.name for member in members], folder)
    return Ensemble(folder.name, classes, members)
