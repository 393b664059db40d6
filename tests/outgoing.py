"""What Python processes try to send: a stand-in for whatever opens connections, which notes and refuses."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Python runs a `sitecustomize` that it finds on its path at every start, also of processes that others start.
_SITECUSTOMIZE = """
import os, sys

# Not socket.gethostbyaddr: torch's launcher asks for this machine's own name.
REFUSED = ("http.client.", "os.fork", "socket.connect", "socket.getaddrinfo", "socket.send", "urllib.")

def note_and_refuse(event, arguments):
    if event.startswith(REFUSED):
        descriptor = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{{event}} {{arguments!r:.200}}\\n".encode())
        os.close(descriptor)
        raise ConnectionRefusedError(event)

sys.addaudithook(note_and_refuse)
"""


@dataclass(frozen=True)
class Outgoing:
    """A watch over processes that run in an environment of their own.

    Attributes:
        home: their home folder, empty at first.
        environment: to start them with.
    """

    home: Path
    environment: Mapping[str, str]
    _log: Path

    def attempts(self) -> list[str]:
        """Every connection, name look-up or forked child that was tried, and refused."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def left_at_home(self) -> list[str]:
        """What lies in the home folder by now."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))


def watched(folder: Path) -> Outgoing:
    """A watch that keeps its files in a folder."""
    home, site, log = folder / "home", folder / "site", folder / "attempts.txt"
    home.mkdir()
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(log=str(log)))
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    # OpenVINO reports nothing where CI is set, which would hide what this is to find.
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    kept = {name: value for name, value in kept.items() if not name.startswith("XDG_")}
    return Outgoing(home, {**kept, "HOME": str(home), "PYTHONPATH": path}, log)
