"""PaddleClas's `.pdparams` of GoogLeNet: a pickle, read by an unpickler that can make arrays and nothing else."""

import io
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.errors import InputError, first_names, refusing
from ensemble_eval.members.imported import Imported, InputFormat, refusing_damage
from ensemble_eval.members.importers.layouts import imported_googlenet, trunk_names

# How a pickle begins; files of `torch.save`, which begin so too, are recognised before.
PICKLE = b"\x80"
_STEM = ("_conv", "_conv_1", "_conv_2")
_COLUMNS = ("_conv1", "_conv3r", "_conv3", "_conv5r", "_conv5", "_convprj")
# Paddle's dropout of 40% leaves activations alone in training and makes them smaller in inference
# ("downscale_in_infer").
_KEPT_BY_DROPOUT = 0.6
_PUBLISHED = "70.7% top-1 and 89.7% top-5 (PaddleClas)"
_FLOAT32 = ("f4", "<f4")


@dataclass
class _Dtype:
    """What a pickle says of an array's numbers; `numpy.dtype` itself is never called."""

    name: object

    def __setstate__(self, state: object) -> None:
        if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", "|", "=")):
            raise pickle.UnpicklingError("numbers of another byte order")


class _Array:
    """An array as a pickle states it; checked, and made, only when it is asked for."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def values(self) -> NDArray[np.float32]:
        """The array.

        Raises:
            ValueError: what the pickle states is no array of float32.
        """
        match self.state:
            case (_, tuple() as shape, _Dtype(name=name), bool() as fortran, bytes() as data) if (
                name in _FLOAT32 and all(type(size) is int and size > 0 for size in shape)
            ):
                if len(data) != 4 * math.prod(shape):
                    raise ValueError(f"{len(data)} bytes for the shape {shape}")
                order: Any = "F" if fortran else "C"
                return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape, order=order)
        raise ValueError("no array of float32")


class _Names(dict[str, Any]):
    """A dictionary by names: tuples of tuples as keys could take for ever to hash."""

    def __setitem__(self, key: object, value: object) -> None:
        if not isinstance(key, str):
            raise pickle.UnpicklingError("a key that is no name")
        super().__setitem__(key, value)


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    """Bytes, which the older protocols of pickles write as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("text in an unknown encoding")
    return text.encode("latin1")


# All that a pickle may call, and what is called instead.
_INSTEAD: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): lambda name, *_: _Dtype(name),
    ("_codecs", "encode"): _encoded,
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
    ("collections", "OrderedDict"): _Names,
}


def _refuse(_: object) -> None:
    raise pickle.UnpicklingError("a set, or a dictionary of an old kind")


# Python's own, because the one in C allots as much memory as a file asks for.
class _ArraysOnly(pickle._Unpickler):
    dispatch: ClassVar[Any] = {
        **pickle._Unpickler.dispatch,
        pickle.EMPTY_DICT[0]: lambda unpickler: unpickler.append(_Names()),
        **dict.fromkeys((pickle.DICT[0], pickle.EMPTY_SET[0], pickle.FROZENSET[0]), _refuse),
    }

    def find_class(self, module: str, name: str) -> Any:
        """The replacement of a global; a pickle may name no other."""
        if (module, name) not in _INSTEAD:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _INSTEAD[module, name]


def read(path: Path) -> Imported:
    """The network of a `.pdparams` file of PaddleClas's GoogLeNet.

    Raises:
        InputError: the file is damaged, holds more than arrays, or another network.
    """
    place = f"the weights {path}"
    arrays = _arrays(path, place)
    tensors = {
        f"{ours}.conv.weight": _tensor(arrays, f"{theirs}._conv.weight", 4, place)
        for ours, theirs in trunk_names(_STEM, "_ince{}.{}", _COLUMNS).items()
    }
    # Inputs by outputs there, outputs by inputs here.
    tensors["fc.weight"] = _tensor(arrays, "_fc_out.weight", 2, place).T.contiguous() * _KEPT_BY_DROPOUT
    tensors["fc.bias"] = _tensor(arrays, "_fc_out.bias", 1, place)
    file_format, arch = "parameters of PaddleClas's GoogLeNet", "googlenet-paddle"
    return imported_googlenet(
        Imported(format=file_format, arch=arch, input=InputFormat(), published=_PUBLISHED, tensors=tensors)
    )


def _arrays(path: Path, place: str) -> Mapping[str, Any]:
    more = f"{place} hold more than tensors, or are no weights at all"
    remedy = "nothing in them was run: save the parameters alone, best as safetensors"
    # A damaged pickle asks for whatever does not work.
    with refusing_damage(place), refusing(more, remedy, pickle.UnpicklingError):
        content = _ArraysOnly(io.BytesIO(path.read_bytes())).load()
    if not isinstance(content, dict):
        raise InputError(f"{place} hold a {type(content).__name__}, and parameters by name are needed")
    return {name: value for name, value in content.items() if isinstance(name, str)}


def _tensor(arrays: Mapping[str, Any], name: str, dimensions: int, place: str) -> Tensor:
    found = arrays.get(name)
    # Paddle saves a parameter as its array, or since 2.1 as a pair of its other name and its array.
    if isinstance(found, tuple) and len(found) == 2:
        found = found[1]
    if not isinstance(found, _Array):
        raise InputError(
            f"{place} lack the parameter {name}; of Paddle's networks only PaddleClas's GoogLeNet is known, "
            f"and these are {first_names(list(arrays))}"
        )
    with refusing(f"{place}: {name} is damaged", "get the file again", ValueError):
        values = found.values()
    if values.ndim != dimensions:
        raise InputError(f"{place}: {name} has the shape {values.shape}, and GoogLeNet has another there")
    return torch.from_numpy(values.copy())
