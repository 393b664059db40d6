"""Which processes are at work in a folder, so that none discards what another one is writing.

Each process has a file of its own there and touches it as long as it lives. Locks of files would say the same, but
many clusters mount their shared folders without them.
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
from ensemble_eval.files import atomic_path, open_regular, require_writable

_PREFIX = ".in-use-"
_TOUCH_EVERY_SECONDS = 20.0
# Of a process on another machine: when it was killed, this is how long it seems to be alive.
_SILENT_SECONDS = 90.0


@dataclass(frozen=True)
class _Holder:
    """A process at work.

    Attributes:
        host: the name of its machine.
        machine: tells machines, their starts and their containers apart; process ids count within it.
        process: its id.
        began: when it was started, as `_began`.
        since: when it came to the folder, for people.
    """

    host: str
    machine: str
    process: int
    began: str | None
    since: str

    def is_alive(self, silent_seconds: float) -> bool:
        """Whether it still runs: what the machine says where it is this one, otherwise by its last touch."""
        if self.machine == _machine():
            # Stopped for a while is not ended, and an id may have been given to another process.
            if (began := _began(self.process)) is not None:
                return began == self.began
            if not _exists(self.process):
                return False
        return silent_seconds < _SILENT_SECONDS


@contextlib.contextmanager
def in_use(folder: Path, *, alone: bool) -> Iterator[None]:
    """Within the block other processes can tell that this one is at work in a folder, which is made if need be.

    Args:
        folder: shared by any number of processes, threads and machines.
        alone: refuse to begin while another one is at work. Two that begin at the same moment are both refused.

    Raises:
        InputError: another process is at work; or the folder takes no files.
    """
    require_writable(folder)
    own = folder / f"{_PREFIX}{uuid.uuid4().hex}.json"
    ended = threading.Event()
    with atomic_path(own, durable=False) as temporary:
        temporary.write_text(json.dumps(asdict(_this_process())))
    try:
        # Only now: of two that looked first, none would see the other.
        others = _others(own)
        if alone and others:
            raise InputError(_sentence(folder, others))
        threading.Thread(target=_touch, args=(own, ended), name="in use", daemon=True).start()
        yield
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            own.unlink()


def _touch(own: Path, ended: threading.Event) -> None:
    while not ended.wait(_TOUCH_EVERY_SECONDS):
        # A file system may be away for a while, or somebody has removed the folder.
        with contextlib.suppress(OSError):
            os.utime(own)


def _others(own: Path) -> list[_Holder]:
    """The other processes at work, the longest first; the files of those that have ended are removed."""
    # The time of the file system, which is that of all of its files.
    os.utime(own)
    now = own.stat().st_mtime
    alive = []
    for path in own.parent.glob(f"{_PREFIX}*.json"):
        # One may end just now; what is no such file says nothing.
        with contextlib.suppress(OSError, ValueError, TypeError):
            # Opened, so that a network file system asks its server anew.
            with open_regular(path) as file:
                holder, touched = _Holder(**json.load(file)), os.fstat(file.fileno()).st_mtime
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
    # Where there is no /proc, the name has to do.
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _began(process: int) -> str | None:
    """When a process of this machine was started, in ticks after the machine; `ended` for a zombie.

    None where there is no such process, or where the machine does not say.
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
