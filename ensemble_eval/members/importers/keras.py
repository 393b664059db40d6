"""Keras's HDF5 files of Inception-v1, as fchollet's layout and its copies name the layers."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError, needing_extra
from ensemble_eval.members.imported import Imported, refusing_damage
from ensemble_eval.members.importers import inception_v1
from ensemble_eval.members.importers.layouts import trunk_names

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_COLUMNS = ("0_a_1x1", "1_a_1x1", "1_b_3x3", "2_a_1x1", "2_b_3x3", "3_b_1x1")
_NAMING = inception_v1.Naming(
    trunk_names(inception_v1.STEM, "Mixed_{}_Branch_{}", _COLUMNS, inception_v1.MODULES),
    weights="{}_conv/weights",
    normalisation="{}_bn/{}",
    classifier="Logits/{}",
)
# What a whole saved model keeps its weights under; a file of weights alone has the layers at its root.
_OF_A_MODEL = "model_weights"
_MAX_ARRAY_BYTES = 1 << 28


def read(path: Path) -> Imported:
    """The network of a Keras file of Inception-v1.

    Raises:
        InputError: h5py is not installed, or the file is damaged or holds another network.
    """
    with needing_extra("keras", "a Keras file"):
        import h5py
    place = f"the weights {path}"
    with refusing_damage(place), h5py.File(path, "r") as file:
        root = _inside(h5py, file, _OF_A_MODEL) or file
        variables = partial(_variable, h5py, root, place)
        return inception_v1.imported(variables, _NAMING, "a Keras file of Inception-v1", place)


def _variable(h5py: Any, root: Any, place: str, name: str) -> NDArray[Any] | None:
    """The array of a layer's variable; the last part of its path in the layer's group says which it is."""
    layer, _, variable = name.partition("/")
    last = {"weights": "kernel", "biases": "bias"}.get(variable, variable)
    group = _inside(h5py, root, layer)
    if not isinstance(group, h5py.Group):
        return None
    for listed in group.attrs.get("weight_names", ()):
        path = listed.decode() if isinstance(listed, bytes) else str(listed)
        if path.rpartition("/")[2].partition(":")[0] == last:
            found = group
            for part in path.split("/"):
                found = _inside(h5py, found, part)
            return _array(h5py, found, f"{place}: {path}")
    return None


def _inside(h5py: Any, group: Any, name: str) -> Any:
    """A member of a group, if it is in the file itself: links may lead to other files."""
    if not isinstance(group, h5py.Group) or not name or name not in group:
        return None
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None


def _array(h5py: Any, dataset: Any, place: str) -> NDArray[Any] | None:
    if not isinstance(dataset, h5py.Dataset):
        return None
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{place} lies in another file, which is not followed; save all weights in one")
    small = dataset.size is not None and dataset.size * dataset.dtype.itemsize <= _MAX_ARRAY_BYTES
    if dataset.dtype.kind != "f" or not small:
        raise InputError(f"{place} holds {dataset.dtype} {dataset.shape}, and Inception-v1 has floats there")
    return np.asarray(dataset[()])
