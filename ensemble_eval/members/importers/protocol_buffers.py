"""Protocol buffers of other frameworks, by the few fields that are read; no code is generated for them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError, first_line
from ensemble_eval.members.importers.extras import required

# Types of descriptor.proto.
INT32, INT64, FLOAT, STRING, BYTES, MESSAGE = 5, 3, 2, 9, 12, 11
_MAX_DIMENSIONS = 8


class Field(NamedTuple):
    """One field of a message: its name, its number and type in the framework's schema, and whether it repeats.

    Numbers that repeat in packed form may be described as one field of bytes: on the wire that is the same.
    """

    name: str
    number: int
    kind: int
    repeats: bool = False
    message: str = ""


def messages(package: str, schema: Mapping[str, Sequence[Field]], extra: str, what: str) -> Mapping[str, Any]:
    """Classes of messages by name, in a pool of their own, so that an installed framework may have its own too.

    Args:
        package: a prefix of the names.
        schema: the fields of each message.
        extra, what: see `required`.

    Raises:
        InputError: protobuf is not installed.
    """
    file = required("google.protobuf.descriptor_pb2", extra, what).FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto2"
    )
    for message_name, fields in schema.items():
        message = file.message_type.add(name=message_name)
        for each in fields:
            field = message.field.add(
                name=each.name, number=each.number, type=each.kind, label=3 if each.repeats else 1
            )
            if each.message:
                field.type_name = f".{package}.{each.message}"
    pool = required("google.protobuf.descriptor_pool", extra, what).DescriptorPool()
    pool.Add(file)
    factory = required("google.protobuf.message_factory", extra, what)
    found = factory.GetMessageClassesForFiles([file.name], pool)
    return {name: found[f"{package}.{name}"] for name in schema}


def parsed(message: Any, data: bytes, place: str) -> Any:
    """A message, filled from its bytes.

    Raises:
        InputError: they are damaged.
    """
    try:
        message.ParseFromString(data)
    except Exception as error:
        # protobuf's implementations raise errors of their own.
        raise InputError(f"{place} are damaged or truncated ({first_line(error)}); get the file again") from error
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
