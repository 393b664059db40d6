"""What reading images from an archive costs beside reading them from a folder: seconds and memory.

    OMP_NUM_THREADS=1 python -m benchmarks.archives --images 5000

The same JPEGs lie in a flat folder, in a tar archive, in WebDataset shards and in Parquet files. Each layout is
opened, fingerprinted and read by threads as a run reads it, in a process of its own, with decoding and without.
Rounds of all layouts take turns, so that other work on the machine meets all of them.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ensemble_eval.datasets.items import Dataset, Item

CLASSES = [f"class {index}" for index in range(10)]
LAYOUTS = ("folder", "tar", "webdataset", "parquet")
_DISTINCT = 64


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--side", type=int, default=160, help="pixels of the shorter side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        layout, folder = arguments.measure
        print(json.dumps(measured(layout, Path(folder), arguments.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write_all(Path(folder), arguments.images, arguments.side)
        print(f"{arguments.images} images of {size / arguments.images / 1000:.1f} kB, {arguments.rounds} rounds")
        found: dict[str, list[dict[str, float]]] = {layout: [] for layout in LAYOUTS}
        for _ in range(arguments.rounds):
            for layout, rounds in found.items():
                command = [sys.executable, "-m", "benchmarks.archives", "--measure", layout, folder]
                command += ["--workers", str(arguments.workers)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rounds.append(json.loads(done.stdout))
    for layout, rounds in found.items():
        print(f"{layout:11}", ", ".join(_told(name, [each[name] for each in rounds]) for name in rounds[0]))


def _told(name: str, values: list[float]) -> str:
    return f"{name} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def measured(layout: str, folder: Path, workers: int) -> dict[str, float]:
    """Seconds to open and fingerprint, to read, and to read and decode; and what that added to the memory."""
    from ensemble_eval.crops import pixels

    labels = folder / "labels.csv"
    began, before = time.perf_counter(), _peak_mebibytes()
    dataset = _open(layout, folder, labels)
    opened = time.perf_counter()
    _ = dataset.sha256
    fingerprinted = time.perf_counter()
    listed = _peak_mebibytes()
    _each(dataset, workers, lambda item: len(item.read()))
    read = time.perf_counter()
    memory = _peak_mebibytes()
    _each(dataset, workers, lambda item: pixels.decode(item.read()).numel())
    decoded = time.perf_counter()
    return {
        "open s": opened - began,
        "fingerprint s": fingerprinted - opened,
        "read s": read - fingerprinted,
        "read and decode s": decoded - read,
        "listing MiB": listed - before,
        "reading MiB": memory - listed,
    }


def _open(layout: str, folder: Path, labels: Path) -> Dataset:
    from ensemble_eval.datasets.opening import open_dataset

    roots = {"folder": folder / "flat", "tar": folder / "flat.tar"}
    if layout in roots:
        return open_dataset(roots[layout], CLASSES, labels)
    return open_dataset(folder / layout, CLASSES)


def _each(dataset: Dataset, workers: int, work: Callable[[Item], int]) -> None:
    """As a run does: in order, with a few images ahead."""
    with ThreadPoolExecutor(workers) as threads:
        ahead = 2 * workers
        for first in range(0, len(dataset.items), ahead):
            list(threads.map(work, dataset.items[first : first + ahead]))


def write_all(folder: Path, images: int, side: int) -> int:
    """Write the images in every layout; how many bytes they have together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    encoded = []
    for _ in range(_DISTINCT):
        file = io.BytesIO()
        shades = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        shades.resize((side * 4 // 3, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    for name in ("flat", "webdataset", "parquet"):
        (folder / name).mkdir()
    rows, lines = [], ["file,label\n"]
    with (
        tarfile.open(folder / "flat.tar", "w") as tar,
        tarfile.open(folder / "webdataset" / "0.tar", "w") as shard,
    ):
        for number in range(images):
            data, label, name = encoded[number % _DISTINCT], number % len(CLASSES), f"{number:08d}"
            (folder / "flat" / f"{name}.jpg").write_bytes(data)
            _add(tar, f"{name}.jpg", data)
            _add(shard, f"{name}.jpg", data)
            _add(shard, f"{name}.cls", str(label).encode())
            rows.append({"image": {"bytes": data, "path": f"{name}.jpg"}, "label": label})
            lines.append(f"{name}.jpg,{label}\n")
    (folder / "labels.csv").write_text("".join(lines))
    pq.write_table(pa.Table.from_pylist(rows), folder / "parquet" / "0.parquet", row_group_size=100)
    return sum(len(encoded[number % _DISTINCT]) for number in range(images))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _peak_mebibytes() -> float:
    # Not ru_maxrss, which a started process takes over from the one that starts it.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
