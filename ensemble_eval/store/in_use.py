"""Registers the processes that use an output folder, so that none discards what another one is writing.

Each process has a file in the folder, and touches it while it runs; in a bucket, it writes it again. File locks
would do the same, but many clusters mount their shared folders without them, and buckets have none.
"""

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import create, read_dated, require_writable
from ensemble_eval.locations import ObjectPath
from ensemble_eval.stores import UnreachableError

_PREFIX = ".in-use-"
_TOUCH_EVERY_SECONDS = 20.0
# A killed process on another machine counts as running for this long.
_SILENT_SECONDS = 90.0


@dataclass(frozen=True)
class _Holder:
    """A process that uses the folder.

    Attributes:
        host: The name of its machine.
        machine: Identifies the machine, its boot and its container, within which process ids are unique.
        process: Its process id.
        began: The start of the process; see `_began`.
        since: The time at which it opened the folder, for people.
    """

    host: str
    machine: str
    process: int
    began: str | None
    since: str

    def is_alive(self, silent_seconds: float) -> bool:
        """Whether it still runs, which is known on the same machine, and follows from its last touch elsewhere."""
        if self.machine == _machine():
            # A suspended process has not ended, and the id of an ended one may have been reused.
            if (began := _began(self.process)) is not None:
                return began == self.began
            if not _exists(self.process):
                return False
        return silent_seconds < _SILENT_SECONDS


@contextlib.contextmanager
def in_use(folder: Path, *, alone: bool) -> Iterator[None]:
    """Register this process as a user of a folder within the block. The folder is created if it does not exist.

    Args:
        folder: A folder that any number of processes, threads and machines may share.
        alone: Refuse to start if another process uses it. Two that start at the same moment are both refused.

    Raises:
        InputError: Another process uses the folder, or the folder cannot be written.
    """
    require_writable(folder)
    own = folder / f"{_PREFIX}{uuid.uuid4().hex}.json"
    ended = threading.Event()
    text = json.dumps(asdict(_this_process())).encode()
    create(own, text)
    try:
        # Checked only now, because two processes that check before they register would not see each other.
        others = _others(own)
        if alone and others:
            raise InputError(_sentence(folder, others))
        threading.Thread(target=_touch, args=(own, text, ended), name="in use", daemon=True).start()
        yield
    finally:
        ended.set()
        with contextlib.suppress(OSError, UnreachableError):
            own.unlink(missing_ok=True)


def _touch(own: Path, text: bytes, ended: threading.Event) -> None:
    while not ended.wait(_TOUCH_EVERY_SECONDS):
        # The file system may be unavailable for a while, or the folder may have been removed.
        with contextlib.suppress(OSError, UnreachableError):
            if isinstance(own, ObjectPath):
                own.put(text)
            else:
                os.utime(own)
    # An object may have been written once more after it was removed.
    with contextlib.suppress(OSError, UnreachableError):
        own.unlink(missing_ok=True)


def _others(own: Path) -> list[_Holder]:
    """Return the other processes, the earliest first, and remove the files of those that have ended."""
    # Written a moment ago, by the clock of the file system, which may differ from that of this machine.
    now = own.stat().st_mtime
    alive = []
    for path in own.parent.glob(f"{_PREFIX}*.json"):
        # A process may end at this moment, and other files with such a name are skipped.
        with contextlib.suppress(OSError, ValueError, TypeError):
            text, touched = read_dated(path)
            holder = _Holder(**json.loads(text))
            if path != own and holder.is_alive(now - touched):
                alive.append(holder)
            elif path != own:
                path.unlink()
    return sorted(alive, key=lambda holder: holder.since)


def _sentence(folder: Path, others: list[_Holder]) -> str:
    first, more = others[0], f" and {len(others) - 1} more" if len(others) > 1 else ""
    killed = (
        f", or wait {_SILENT_SECONDS:.0f} s if it was killed"
        if any(other.machine != _machine() for other in others)
        else ""
    )
    return (
        f"`fresh=True` would discard what others are writing to {folder}: process {first.process} on {first.host} "
        f"(since {first.since}){more}; stop it or choose another `out`{killed}"
    )


def _this_process() -> _Holder:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return _Holder(socket.gethostname(), _machine(), os.getpid(), _began(os.getpid()), since)


def _machine() -> str:
    parts = [socket.gethostname()]
    # Without /proc, the host name is all there is.
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _began(process: int) -> str | None:
    """Return when a process of this machine was started, in ticks since boot, or `ended` for a zombie.

    None if there is no such process, or without /proc.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
