"""What a data set in a bucket costs: requests and seconds to open it, and the speed of reading beside files.

    OMP_NUM_THREADS=1 python -m benchmarks.buckets --images 50000 --read 2000

moto's server and SeaweedFS run on this machine, behind a proxy that counts requests when requests are counted, and
without it when time is measured. The objects are listed by obstore alone, which shows what the server takes. The
data set is opened as a first process does it, and as all others do, who find its listing in the output folder.
Then images are read by threads: from class folders in the bucket, from a tar in the bucket, and from the same tar
on the disk. Rounds take turns.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ensemble_eval import stores
from ensemble_eval.locations import ObjectPath

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from s3_proxy import Proxy
from s3_servers import KEY, SECRET, Server, moto, seaweedfs

CLASSES = [f"class{index:04}" for index in range(1000)]
_UPLOADS_AT_ONCE = 16


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000, help="objects of the data set that is opened")
    parser.add_argument("--read", type=int, default=2000, help="images that are read")
    parser.add_argument("--bytes", type=int, default=110_000, help="of each image that is read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=8, help="threads that read")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(**json.loads(arguments.measure))))
        return
    for start in (seaweedfs, moto):
        with tempfile.TemporaryDirectory() as folder, start(Path(folder, "server")) as server:
            os.environ.update(server.environment)
            create_bucket(server)
            stores.store_of.cache_clear()
            measure_server(server, Path(folder), arguments)


def measure_server(server: Server, folder: Path, arguments: argparse.Namespace) -> None:
    """Print what opening and reading take on one server."""
    upload({f"val/{name}": b"no image" for name in names(arguments.images)})
    with Proxy(server.endpoint) as proxy:
        for round_number in range(arguments.rounds):
            bare = _run("list", "s3://bench/val", "", endpoint=server.endpoint)
            print(f"{server.name}: list {bare['images']} objects by obstore alone: {bare['seconds']:.2f} s")
            for state in ("alone", "with the listing"):
                # Requests are counted in a process of its own, then time is taken without the proxy.
                out = f"s3://bench/out-{round_number}"
                _run("open", "s3://bench/val", out, endpoint=proxy.endpoint, keep=False)
                requests, counts = proxy.requests, dict(proxy.counts)
                proxy.reset()
                timed = _run("open", "s3://bench/val", out, endpoint=server.endpoint, keep=state == "alone")
                print(
                    f"{server.name}: open {arguments.images} objects {state}: {requests} requests {counts}, ",
                    end="",
                )
                print(f"{timed['seconds']:.2f} s, {timed['mebibytes']:.0f} MiB", flush=True)
    data = {name: os.urandom(arguments.bytes) for name in names(arguments.read)}
    write_tar(folder / "val.tar", data)
    upload({f"read/{name}": image for name, image in data.items()})
    upload({"val.tar": (folder / "val.tar").read_bytes()})
    sources = {
        "objects": "s3://bench/read",
        "tar in the bucket": "s3://bench/val.tar",
        "tar on the disk": str(folder / "val.tar"),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    for _ in range(arguments.rounds):
        for name, rounds in found.items():
            rounds.append(_run("read", sources[name], "", workers=arguments.workers))
    for name, rounds in found.items():
        speeds = [each["images"] / each["seconds"] for each in rounds]
        print(
            f"{server.name}: read {name}: {statistics.median(speeds):.0f} images/s "
            f"({min(speeds):.0f} to {max(speeds):.0f}, n = {len(speeds)}), "
            f"{max(each['mebibytes'] for each in rounds):.0f} MiB at most",
            flush=True,
        )


def names(images: int) -> list[str]:
    """Images in a thousand class folders."""
    return [f"{CLASSES[index % len(CLASSES)]}/{index:08}.JPEG" for index in range(images)]


def create_bucket(server: Server) -> None:
    """Create the bucket, which obstore cannot."""
    import boto3

    boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    ).create_bucket(Bucket="bench")


def upload(objects: dict[str, bytes]) -> None:
    """Put objects into the bucket."""
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as threads:
        for _ in threads.map(lambda each: ObjectPath(f"s3://bench/{each[0]}").put(each[1]), objects.items()):
            pass


def write_tar(path: Path, data: dict[str, bytes]) -> None:
    """The same images in a tar."""
    with tarfile.open(path, "w") as tar:
        for name, image in sorted(data.items()):
            info = tarfile.TarInfo(name)
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))


def _run(what: str, root: str, out: str, *, endpoint: str = "", **options: Any) -> dict[str, float]:
    environment = {**os.environ, **({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})}
    request = json.dumps({"what": what, "root": root, "out": out, **options})
    command = [sys.executable, "-m", "benchmarks.buckets", "--measure", request]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(what: str, root: str, out: str, *, keep: bool = False, workers: int = 1) -> dict[str, float]:
    """Seconds, and what they added to the memory, of opening a data set or of reading all of its images."""
    from ensemble_eval.datasets.listing import write_bucket
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.locations import location

    if what == "list":
        store = stores.store_of("s3://bench")
        began = time.perf_counter()
        images = sum(map(len, stores.obstore().list(store, root.removeprefix("s3://bench/"), chunk_size=1000)))
        return {"seconds": time.perf_counter() - began, "images": images}
    before, began = _peak_mebibytes(), time.perf_counter()
    dataset = open_dataset(root, CLASSES, listed_in=out or None, as_listed=True)
    if what == "open":
        _ = dataset.sha256
        if keep and dataset.listing is not None:
            write_bucket(location(out), dataset.listing, replaces=False)
        return {"seconds": time.perf_counter() - began, "mebibytes": _peak_mebibytes() - before}
    before, began = _peak_mebibytes(), time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        sizes: Sequence[int] = list(threads.map(lambda item: len(item.read()), dataset.items))
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "images": len(sizes), "mebibytes": _peak_mebibytes() - before}


def _peak_mebibytes() -> float:
    # Not that of getrusage, which a process inherits from the one that started it.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
