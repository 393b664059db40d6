"""ONNX graphs as torch's networks, for devices and backends on which OpenVINO does not run them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ensemble_eval import files
from ensemble_eval.backends.network import channels_come_last, chosen_output, in_batches_of
from ensemble_eval.errors import InputError, needing_extra, refusing
from ensemble_eval.members.ensemble import Member

# What may stand between a softmax and the output without changing a value.
_RESHAPES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_SOFTMAX = {"Softmax", "LogSoftmax"}


class OnnxNetwork(nn.Module):
    """An ONNX classifier as onnx2torch converts it, up to what its softmax is applied to.

    Args:
        converted: takes float32 [B, 3, S, S], or [B, S, S, 3], and returns logits with one row per crop.
        channels_last: whether it takes the latter.
        own_batch: the batch size that the graph is written for; None for any.
    """

    def __init__(self, converted: nn.Module, *, channels_last: bool, own_batch: int | None) -> None:
        super().__init__()
        self.converted = converted
        self._channels_last = channels_last
        self._own_batch = own_batch

    def forward(self, pixels: Tensor) -> Tensor:
        """Float32 [B, 3, S, S] -> logits float32 [B, classes]."""
        pixels = pixels.permute(0, 2, 3, 1) if self._channels_last else pixels
        return in_batches_of(self._own_batch, pixels, self.converted)


def onnx_network(member: Member, size: int) -> OnnxNetwork:
    """The graph of a member as a network in eval mode; nothing in the file is run, and no other file is read.

    Args:
        member: its weights are an ONNX model; `options` may name one of several outputs as `output`.
        size: width and height of the crops, S.

    Raises:
        InputError: onnx2torch is missing or cannot convert the graph, or it is no classifier of one image.
    """
    path = member.weights_file
    what = f"member {member.name}: {path} on torch"
    with needing_extra("onnx", what):
        import onnx
        import onnx2torch
    model = _read(onnx, path)
    _leave_out_identities(model.graph)
    _keep_logits_alone(model.graph, member)
    stored = {tensor.name for tensor in model.graph.initializer}
    shapes = [each.type.tensor_type.shape for each in model.graph.input if each.name not in stored]
    # 0 where the size is a name or left open.
    sizes = [dimension.dim_value for shape in shapes[:1] for dimension in shape.dim]
    channels_last = channels_come_last(member, len(shapes), sizes, sizes, size)
    remedy = 'export it with opset_version=17, or run it with `device="cpu"` and `backend="openvino"`'
    # Each of its converters has errors of its own.
    with refusing(f"member {member.name}: onnx2torch cannot convert {path}", remedy):
        converted = onnx2torch.convert(model)
    network = OnnxNetwork(converted, channels_last=channels_last, own_batch=sizes[0] or None)
    return network.requires_grad_(requires_grad=False).eval()


def _read(onnx: Any, path: Path) -> Any:
    # The parser's own error is not among onnx's.
    with refusing(f"the weights {path} cannot be read by onnx"):
        model = onnx.load_model_from_string(files.read_regular(path))
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)):
        raise InputError(f"the weights {path} keep tensors in other files, which are not read; save them in one")
    return model


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, those in attributes of nodes and in graphs within it included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                # What is not set reads as an empty graph.
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _leave_out_identities(graph: Any) -> None:
    """Let nodes read what an `Identity` copies and not the copy.

    torch's older exporter writes equal tensors once and copies them, and onnx2torch takes weights from no node.
    """
    outputs = {output.name for output in graph.output}
    copied: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = copied.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            copied[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _keep_logits_alone(graph: Any, member: Member) -> None:
    """Let a graph end with what its softmax is applied to, or with its output where it has none."""
    names = [output.name for output in graph.output]
    makers = {name: node for node in graph.node for name in node.output}
    output = source = chosen_output(member, names, len(names)) or names[0]
    while source in makers and makers[source].op_type in _RESHAPES:
        source = makers[source].input[0]
    if source in makers and makers[source].op_type in _SOFTMAX:
        output = makers[source].input[0]
    needed, nodes = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    del graph.node[:], graph.output[:]
    graph.node.extend(reversed(nodes))
    graph.output.add().name = output
