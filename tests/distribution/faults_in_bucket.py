"""Kill workers that share a bucket at random moments, and compare what they leave with one undisturbed process.

    OMP_NUM_THREADS=1 python tests/distribution/faults_in_bucket.py --workers 64 --kills 100 --seed 1

Data set, weights and results are in a bucket of SeaweedFS, which is killed and started again twice. All requests
pass a proxy that breaks, refuses or delays 5% of them. Each worker is the whole command `ensemble-eval run`, with
its rank in torchrun's variables; whoever ends badly is started again with the same rank, as a launcher would. So
many processes fit into the memory of a small machine because they are forked from one that has imported torch.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from builders import write_dataset, write_ensemble
from outcome import outcome_bytes
from s3_proxy import Proxy
from s3_servers import KEY, SECRET, Server, free_port, seaweedfs

BUCKET = "faults"
_SETTLE_SECONDS, _PAUSE_SECONDS = 0.05, 0.4
# A launcher starts a worker again after a while.
_AGAIN_SECONDS, _SERVER_SECONDS = 1.0, 20.0


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--restarts", type=int, default=2, help="of the server")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nursery", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.nursery:
        nursery()
        return
    with tempfile.TemporaryDirectory(prefix="faults-in-bucket-") as folder:
        check(Path(folder), arguments)


def check(folder: Path, arguments: argparse.Namespace) -> None:
    """Run alone on files and together in the bucket, and compare."""
    sizes = [(40 + image % 3, 40) for image in range(arguments.images)]
    dataset, ensemble = write_dataset(folder / "val", sizes), write_ensemble(folder / "nets", members=1)
    alone = command(str(dataset), str(ensemble), str(folder / "alone"))
    subprocess.run([sys.executable, "-m", "ensemble_eval", *alone], check=True, capture_output=True)
    servers = Servers(folder / "server")
    try:
        with Proxy(f"http://127.0.0.1:{servers.port}") as proxy:
            for local, prefix in ((dataset, "val"), (ensemble.parent, "nets")):
                servers.upload(local, prefix)
            proxy.failing, proxy.slow = 0.03, 0.02
            words = command(f"s3://{BUCKET}/val", f"s3://{BUCKET}/nets/{ensemble.name}", f"s3://{BUCKET}/out")
            began = time.monotonic()
            ends, kills = together(words, servers, proxy, arguments)
            seconds = time.monotonic() - began
            servers.download("out", folder / "out")
        print(
            f"{arguments.workers} workers, {arguments.images} images, {kills} kills, {arguments.restarts} restarts"
        )
        print(f"of the server; ends of workers by exit code: {dict(sorted(ends.items()))}")
        print(f"{seconds:.0f} s, {proxy.requests} requests {dict(proxy.counts)}, {proxy.bytes / 1e6:.0f} MB")
        assert kills.total() >= arguments.kills, "all images were done before all kills; give more images"
        # Kubernetes takes it for bad input, and stops all pods.
        assert 2 not in ends, "a worker took a failing server for bad input"
        unreadable = (folder / "out" / "unreadable.csv").read_text()
        assert unreadable == "image,reason\n", unreadable
        assert outcome_bytes(folder / "out") == outcome_bytes(folder / "alone")
        print("the same bytes as one process that nothing disturbed")
    finally:
        servers.close()


def command(dataset: str, ensemble: str, out: str) -> list[str]:
    """The command line of every worker, which stores what it has about every second."""
    evaluation = [
        "--crops",
        "10",
        "--batch-size",
        "8",
        "--device",
        "cpu",
        "--backend",
        "torch",
        "--save-every",
        "1",
    ]
    return ["run", dataset, "--ensemble", ensemble, "--out", out, *evaluation, "--workers", "1"]


def together(
    words: list[str], servers: "Servers", proxy: Proxy, arguments: argparse.Namespace
) -> tuple[Counter[int], Counter[str]]:
    """Run all workers until rank 0 has written the table; return their exit codes and the signals sent to them."""
    rng, count = random.Random(arguments.seed), str(arguments.workers)
    environment = Server("seaweedfs", proxy.endpoint).environment
    environment |= {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "TORCHELASTIC_RUN_ID": "faults"}
    ends, kills = Counter[int](), Counter[str]()
    with contextlib.closing(Workers(words, environment)) as workers:
        for rank in range(arguments.workers):
            workers.start(rank)
        restarting = threading.Thread(target=servers.restart, args=(arguments.restarts,))
        restarting.start()
        next_kill, again = time.monotonic() + _PAUSE_SECONDS, dict[int, float]()
        while True:
            for rank, code in workers.ended():
                ends[code] += 1
                if rank == 0 and code == 0:
                    restarting.join()
                    return ends, kills
                if code:
                    again[rank] = time.monotonic() + _AGAIN_SECONDS
            for rank in [rank for rank, due in again.items() if time.monotonic() >= due]:
                workers.start(rank)
                del again[rank]
            if kills.total() < arguments.kills and time.monotonic() >= next_kill and workers.ranks:
                number = rng.choice([signal.SIGKILL, signal.SIGTERM])
                workers.kill(rng.choice(sorted(workers.ranks)), number)
                kills[number.name] += 1
                next_kill = time.monotonic() + rng.uniform(0.5, 1.5) * _PAUSE_SECONDS


class Servers:
    """SeaweedFS, which keeps its objects over a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(seaweedfs(folder, self.port))
        self._client().create_bucket(Bucket=BUCKET)

    def _client(self) -> Any:
        import boto3

        endpoint = f"http://127.0.0.1:{self.port}"
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=endpoint, **keys)

    def restart(self, times: int) -> None:
        """Kill the server and start it again, that many times."""
        for _ in range(times):
            time.sleep(_SERVER_SECONDS)
            self._stack.close()
            self._stack.enter_context(seaweedfs(self._folder, self.port))

    def close(self) -> None:
        self._stack.close()

    def upload(self, folder: Path, prefix: str) -> None:
        client = self._client()
        for path in filter(Path.is_file, folder.rglob("*")):
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")

    def download(self, prefix: str, folder: Path) -> None:
        client = self._client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        for each in (each for page in pages for each in page.get("Contents", [])):
            path = folder / each["Key"].removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(BUCKET, each["Key"], str(path))


class Workers:
    """The running workers by rank, which a process in between forks and reaps."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        arguments = [sys.executable, __file__, "--nursery"]
        self._words, self._environment = words, environment
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ranks: dict[int, int] = {}

    def start(self, rank: int) -> None:
        variables = self._environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        self.ranks[rank] = int(self._ask({"words": self._words, "environment": variables}))

    def kill(self, rank: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.ranks[rank], number)

    def ended(self) -> list[tuple[int, int]]:
        """Rank and exit code of each worker that has ended since the last call."""
        time.sleep(_SETTLE_SECONDS)
        codes = self._ask({})
        found = [(rank, codes[str(pid)]) for rank, pid in self.ranks.items() if str(pid) in codes]
        for rank, _ in found:
            del self.ranks[rank]
        return found

    def close(self) -> None:
        for pid in self.ranks.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def nursery() -> None:
    """Import everything once, then fork a worker for each request, and report those that ended."""
    import ensemble_eval.evaluation.finishing
    import ensemble_eval.evaluation.opening
    import ensemble_eval.jobs.runner  # noqa: F401 (for the processes that are forked)
    from ensemble_eval.cli import run_command_line

    for line in sys.stdin:
        request = json.loads(line)
        if not request:
            print(json.dumps(dict(_reaped())), flush=True)
            continue
        if (pid := os.fork()) == 0:
            os.environ.update(request["environment"])
            sys.argv = ["ensemble-eval", *request["words"]]
            for number in (0, 1):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os._exit(run_command_line())
        print(json.dumps(pid), flush=True)


def _reaped() -> list[tuple[int, int]]:
    found = []
    with contextlib.suppress(ChildProcessError):
        while (each := os.waitpid(-1, os.WNOHANG))[0]:
            found.append((each[0], os.waitstatus_to_exitcode(each[1])))
    return found


if __name__ == "__main__":
    main()
