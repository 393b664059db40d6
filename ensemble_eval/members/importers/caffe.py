"""Caffe's `.caffemodel`: the network that its model zoo calls bvlc_googlenet, and what was trained from it.

The file is one protocol buffer. The few fields that are read are described in our `caffe.proto` by their numbers
in Caffe's; no code is generated from it, and fields that are not described are skipped.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ensemble_eval.errors import InputError, first_names
from ensemble_eval.members.imported import Imported, InputFormat
from ensemble_eval.members.importers.layouts import imported_googlenet, trunk_names
from ensemble_eval.members.importers.protocol_buffers import floats, messages, parsed, text
from ensemble_eval.models.layers import LRN

_INPUT = InputFormat(channels="bgr", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))
_STEM = ("conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3")
_COLUMNS = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
# A network that was trained further has another name for the layer whose classes are others.
_CLASSIFIER = "loss3/classifier"
_PUBLISHED = "68.7% top-1 and 88.9% top-5 (bvlc_googlenet)"


def recognises(head: bytes) -> bool:
    """Whether a file begins as a Caffe model: with the network's name, or with its first layer.

    A frozen graph of TensorFlow begins with the same byte, and has a message where Caffe's name is text.
    """
    old_layer, layer = b"\x12", b"\xa2\x06"
    if head.startswith((old_layer, layer)):
        return True
    name = head[2 : 2 + head[1]]
    after = head[2 + head[1] : 4 + head[1]]
    return (
        head[0] == 0x0A
        and head[1] < 0x80
        and not name.startswith(b"\n")
        and after.startswith((old_layer, layer, b"\x1a", b"\x22", b"\x28"))
    )


def read(path: Path) -> Imported:
    """The network of a Caffe model.

    Raises:
        InputError: protobuf is not installed, or the file is damaged or holds another network.
    """
    place = f"the weights {path}"
    net = parsed(messages("caffe", "a Caffe model")["Net"](), path.read_bytes(), place)
    layers = {text(layer.name): layer for layer in (*net.layers, *net.layer)}
    _refuse_other_normalisation(layers, place)
    tensors = dict(_tensors({name: layer.blobs for name, layer in layers.items()}, place))
    file_format = f"a Caffe model ({'layer' if net.layer else 'the old layers'} messages)"
    arch = "googlenet-paper"
    return imported_googlenet(
        Imported(format=file_format, arch=arch, input=_INPUT, published=_PUBLISHED, tensors=tensors)
    )


def _tensors(blobs: Mapping[str, Any], place: str) -> Iterator[tuple[str, Tensor]]:
    for ours, theirs in trunk_names(_STEM, "inception_{}/{}", _COLUMNS).items():
        weight, bias = _weight_and_bias(blobs, theirs, place)
        yield f"{ours}.conv.weight", weight
        yield f"{ours}.conv.bias", bias.flatten()
    classifiers = [name for name in blobs if name.startswith(_CLASSIFIER) and len(blobs[name])]
    weight, bias = _weight_and_bias(blobs, classifiers[0] if len(classifiers) == 1 else _CLASSIFIER, place)
    yield "fc.weight", weight.reshape(weight.shape[-2:])
    yield "fc.bias", bias.flatten()


def _weight_and_bias(blobs: Mapping[str, Any], layer: str, place: str) -> tuple[Tensor, Tensor]:
    if len(blobs.get(layer, ())) != 2:
        raise InputError(
            f"{place} are a Caffe model without weights and biases of a layer {layer}; only bvlc_googlenet's "
            f"layers are known, and its own are {first_names([name for name in blobs if name])}"
        )
    weight, bias = (_tensor(blob, f"{place}: {layer}") for blob in blobs[layer])
    return weight, bias


def _tensor(blob: Any, place: str) -> Tensor:
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    return torch.from_numpy(floats(blob.data, shape, place))


def _refuse_other_normalisation(layers: Mapping[str, Any], place: str) -> None:
    for name, layer in layers.items():
        lrn = layer.lrn_param
        given = (lrn.local_size, lrn.alpha, lrn.beta, lrn.k)
        if layer.HasField("lrn_param") and not np.allclose(given, LRN, rtol=1e-5):
            raise InputError(f"{place}: {name} normalises otherwise than bvlc_googlenet; it cannot be read")
