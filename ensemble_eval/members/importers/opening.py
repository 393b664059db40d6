"""Choosing the importer of a file of weights by the file's first bytes, never by its name."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import sha256_of
from ensemble_eval.locations import local_copy
from ensemble_eval.members.imported import Imported
from ensemble_eval.members.importers import caffe, graphs, keras, paddle, sorted_table, tensorflow, torch_files

_HEAD_BYTES = 4096
# How lists of MXNet's arrays begin, as in GluonCV's `.params`.
_MXNET = (0x112).to_bytes(8, "little")
_MIN_BYTES = 9


# For each format, a function that recognises it and one that reads it. Formats whose first bytes leave no doubt
# come first.
_FORMATS: Sequence[tuple[Callable[[bytes, Path], bool], Callable[[Path], Imported]]] = (
    (lambda head, _: head.startswith(keras.SIGNATURE), keras.read),
    (lambda head, _: head.startswith(paddle.PICKLE), paddle.read),
    (lambda _, path: sorted_table.is_table(path), tensorflow.read_checkpoint),
    (lambda head, _: graphs.is_tflite(head), graphs.read_tflite),
    (lambda head, _: tensorflow.is_graph(head), tensorflow.read_graph),
    (lambda head, _: graphs.is_onnx(head), graphs.read_onnx),
    (lambda head, _: caffe.recognises(head), caffe.read),
)


def read_weights(
    path: Path, *, sha256: str | None = None, averaged: bool | None = None, names: Collection[str] = ()
) -> Imported:
    """Read a file of weights of any format that is known.

    Args:
        path: of the file.
        sha256: of the file, in hexadecimal; checked when given.
        averaged: which of raw and averaged weights of a training script to take; None for the averaged where both
            are there.
        names: of the network that the tensors are for; prefixes that it has itself are not taken for a wrapper's.

    Raises:
        InputError: missing, truncated, of another SHA-256, of no format that is known, or of one that needs a
            library which is not installed.
    """
    if not path.is_file() and path.with_name(f"{path.name}.index").is_file():
        raise InputError(f"the weights {path} are a checkpoint of several files; name its {path.name}.index")
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist; check the path in the manifest")
    path = local_copy(path)
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        raise InputError(
            f"the weights {path} have the SHA-256 {actual}, the manifest says {sha256}; get the right file"
        )
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if len(head) < _MIN_BYTES:
        raise InputError(f"the weights {path} are damaged or truncated ({len(head)} bytes); get the file again")
    if head.startswith(_MXNET):
        raise InputError(
            f"the weights {path} are MXNet's, as GluonCV's .params are, which are not read; where MXNet is "
            "installed, save each of mxnet.nd.load(…) by torchvision's names as safetensors, and give that"
        )
    if torch_files.is_safetensors(head) or torch_files.is_torch(head):
        return torch_files.read(path, averaged=averaged, names=names)
    for recognises, read in _FORMATS:
        if recognises(head, path):
            if averaged is not None:
                raise InputError(
                    f"the weights {path} are of a format that holds one set of weights; leave `averaged` out"
                )
            return read(path)
    raise InputError(
        f"the weights {path} are of no format that is known, or damaged at the beginning; get the file again, or "
        "save the network's state_dict() as safetensors"
    )
