"""Readers that do what the runner is to find."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from runner import Target

from ensemble_eval.errors import InputError

_VALID = b"valid" * 4


def _write(folder: Path) -> None:
    (folder / "file").write_bytes(_VALID)


def _unless_valid(fault: Callable[[], object]) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        if (folder / "file").read_bytes() != _VALID:
            fault()

    return read


def _refuse(sentence: str) -> None:
    raise InputError(sentence)


def _reader(name: str, fault: Callable[[], object], seconds: float = 20.0) -> Target:
    return Target(name, 2, _write, ("file",), _unless_valid(fault), seconds, mebibytes=64)


TARGETS = [
    _reader("good", lambda: _refuse("it is damaged")),
    _reader("wordy", lambda: _refuse("it is\ndamaged")),
    _reader("raising", lambda: dict[str, int]()["damaged"]),
    _reader("dying", lambda: os._exit(3)),
    _reader("hanging", lambda: time.sleep(60), seconds=0.5),
    _reader("starting", lambda: os.system("true")),
    _reader("filling", lambda: bytes(b"x" * (256 << 20))),
]
