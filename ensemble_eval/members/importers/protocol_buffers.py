"""Protocol buffers of other frameworks, by the few fields that are read; no code is generated for them."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError, needing_extra
from ensemble_eval.members.imported import refusing_damage

# As descriptor.proto numbers them.
_TYPES = {"float": 2, "int64": 3, "int32": 5, "string": 9, "bytes": 12}
_MESSAGE = 11
_FIELD = re.compile(r"(\w+) (\w+) (\w+) = (\d+)(?: \[default = ([\d.]+)\])?;")
_LABELS = {"optional": 1, "repeated": 3}
_MAX_DIMENSIONS = 8


@lru_cache
def messages(framework: str, purpose: str) -> Mapping[str, Any]:
    """Classes of messages by name, in a pool of their own, so that an installed framework may have its own too.

    Args:
        framework: whose `.proto` file beside this module describes the messages, with the fields that are read.
            Numbers that repeat in packed form may be described as one field of bytes: on the wire that is the
            same. The framework's name is that of an extra, too.
        purpose: of `needing_extra`.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    with needing_extra(framework, purpose):
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    path = Path(__file__).with_name(f"{framework}.proto")
    file: Any = descriptor_pb2.FileDescriptorProto(name=path.name, package=framework, syntax="proto2")
    for name, body in re.findall(r"message (\w+) {(.*?)}", path.read_text(), re.DOTALL):
        message = file.message_type.add(name=name)
        for label, kind, field, number, default in _FIELD.findall(body):
            typed = {"type": _TYPES[kind]} if kind in _TYPES else {"type_name": kind, "type": _MESSAGE}
            stated = {"name": field, "number": int(number), "default_value": default or None}
            message.field.add(label=_LABELS[label], **stated, **typed)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = message_factory.GetMessageClassesForFiles([file.name], pool)
    return {name.removeprefix(f"{framework}."): message for name, message in found.items()}


def parsed(message: Any, data: bytes, place: str) -> Any:
    """A message, filled from its bytes.

    Raises:
        InputError: they are damaged.
    """
    # protobuf's implementations raise errors of their own.
    with refusing_damage(place):
        message.ParseFromString(data)
    return message


def text(value: str | bytes) -> str:
    """A field of text, which protobuf gives as bytes where it is no UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def floats(data: bytes, shape: Sequence[int], place: str) -> NDArray[np.float32]:
    """An array of little-endian float32.

    Raises:
        InputError: there are more or fewer bytes than the shape needs.
    """
    sane = len(shape) <= _MAX_DIMENSIONS and all(size > 0 for size in shape)
    if not sane or 4 * math.prod(shape) != len(data):
        raise InputError(f"{place} is damaged: {len(data)} bytes for the shape {tuple(shape)}; get the file again")
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)
