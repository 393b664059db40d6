"""Opening an ensemble that lies on disk: a manifest, or a folder of checkpoints that describe themselves."""

from pathlib import Path

from ensemble_eval.errors import InputError, located
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.manifest import read_manifest
from ensemble_eval.members.saving import read_member


def open_ensemble(path: str | Path, models: int | None = None) -> Ensemble:
    """Read an ensemble from a manifest or a folder of checkpoints; no weights are loaded yet.

    Args:
        path: a manifest, or a folder whose `*.safetensors` files, in sorted order, are the members.
        models: how many members to use, the first ones; None for all.

    Raises:
        InputError: nothing usable at `path`, or fewer members than asked for.

    Example:
        >>> import tempfile
        >>> from ensemble_eval.members.ensemble import Member
        >>> from ensemble_eval.members.manifest import write_manifest
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     members = [Member(name, weights=f"{folder}/{name}.pth", arch="googlenet") for name in "ab"]
        ...     write_manifest(Path(folder, "two.toml"), Ensemble(members, "imagenet-1k"))
        ...     [member.name for member in open_ensemble(f"{folder}/two.toml", models=1).members]
        ['a']
    """
    path = Path(checked_value(Path, "`path`", path, Rule(words="the path of a manifest or folder of checkpoints")))
    checked_value(int | None, "`models`", models)
    ensemble = _read_folder(path) if path.is_dir() else read_manifest(path)
    if models is None:
        return ensemble
    if not 1 <= models <= len(ensemble.members):
        raise InputError(
            f"{models} models were asked for and {path} has {len(ensemble.members)} members; "
            f"choose `models` from 1 to {len(ensemble.members)}"
        )
    return Ensemble(ensemble.members[:models], ensemble.classes, ensemble.name, ensemble.interpolation)


def _read_folder(folder: Path) -> Ensemble:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(f"{folder} holds no .safetensors files; give a manifest or a folder of checkpoints")
    described = [read_member(path) for path in paths]
    classes = described[0][1]
    for path, (_, other) in zip(paths, described, strict=True):
        if (other.count, other.names) != (classes.count, classes.names):
            raise InputError(f"{path} and {paths[0]} have different classes and are not one ensemble")
    with located(str(folder)):
        return Ensemble([member for member, _ in described], classes, folder.name)
