"""What detection costs: regions beside the forward pass alone, memory over many images, proposals a second.

    OMP_NUM_THREADS=1 python -m benchmarks.detection

Pictures with objects are drawn. Each region goes through the shipped region classifiers. Rounds of the detection
and of the forward pass alone, on regions that are in memory, take turns.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.files import ROOT, sample, write_images
from ensemble_eval.crops import pixels
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.demo_data.writing import draw_dataset
from ensemble_eval.detection.detecting import DetectJob
from ensemble_eval.detection.proposing import ProposeJob
from ensemble_eval.detection.region_scores import region_rule
from ensemble_eval.detection.regions import warp_regions
from ensemble_eval.detection.selective_search import DOUBLED, RCNN, selective_search
from ensemble_eval.evaluation.opening import member_sources, open_inputs
from ensemble_eval.jobs.job import Finished, Opened, Progress
from ensemble_eval.jobs.runner import run_alone
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.settings import DetectSettings, ProposeSettings

_MULTIBOX = ROOT / "checkpoints" / "detection" / "multibox.safetensors"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ensemble", type=Path, default=ROOT / "manifests" / "detection.toml")
    parser.add_argument("--precision", default="float32", help="[%(default)s]")
    parser.add_argument("--batch", type=int, default=32, help="regions per batch [%(default)s]")
    parser.add_argument("--boxes", type=int, default=200, help="proposals of an image [%(default)s]")
    parser.add_argument("--images", type=int, default=8, help="of each round [%(default)s]")
    parser.add_argument("--drawn", type=int, default=24, help="pictures to draw and to propose on [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--counts", default="100,1000", help="images whose memory is compared [%(default)s]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = _drawn(folder, arguments.drawn)
        for line in _proposals(drawn, arguments.rounds):
            print(line, flush=True)
        for line in _regions(drawn, folder, arguments):
            print(line, flush=True)
        for line in _memory(drawn, folder, arguments):
            print(line, flush=True)


def _drawn(folder: Path, count: int) -> Path:
    draw_dataset(folder / "drawn", "val", count, seed=1)
    return folder / "drawn"


def _proposals(drawn: Path, rounds: int) -> list[str]:
    """Images and proposals a second, on one processor."""
    torch.set_num_threads(1)
    dataset = open_dataset(drawn, ["object"], "none")
    images = [pixels.decode(item.read()).permute(1, 2, 0).numpy() for item in dataset.items]
    found: dict[str, list[tuple[float, int]]] = {"rcnn": [], "doubled": [], "multibox": []}
    for _ in range(rounds):
        for name, setting in (("rcnn", RCNN), ("doubled", DOUBLED)):
            began = time.perf_counter()
            boxes = sum(len(selective_search(image, setting)) for image in images)
            found[name].append((time.perf_counter() - began, boxes))
        with tempfile.TemporaryDirectory() as out:
            settings = ProposeSettings(out=Path(out), sets=("multibox",), multibox=_MULTIBOX)
            began = time.perf_counter()
            *_, finished = run_alone(ProposeJob(dataset, settings))
            seconds = time.perf_counter() - began
            assert isinstance(finished, Finished)
            found["multibox"].append((seconds, round(finished.outcome.boxes["multibox"] * len(images))))
    return [
        f"{name}: {_spread([boxes / seconds for seconds, boxes in values])} proposals/s, "
        f"{_spread([len(images) / seconds for seconds, _ in values], 2)} images/s on one processor"
        for name, values in found.items()
    ]


def _regions(drawn: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Regions a second through all members, beside their forward pass alone on regions in memory."""
    ensemble = open_ensemble(arguments.ensemble)
    flat, _ = write_images(folder, sample(drawn, seed=1), arguments.images)
    dataset = open_dataset(flat, ensemble.classes, "none")
    proposals = _random_proposals(dataset, folder / "proposals", arguments.boxes)
    settings = DetectSettings(
        proposals=proposals, device="cpu", precision=arguments.precision, batch_size=arguments.batch
    )
    whole, alone = [], []
    # The first round warms up and does not count.
    for number in range(arguments.rounds + 1):
        alone.append(_forward_alone(ensemble, dataset, settings, arguments))
        whole.append(_detection(DetectJob(ensemble, dataset, replace(settings, out=folder / f"out-{number}"))))
    ratios = [ours / bare for ours, bare in zip(whole[1:], alone[1:], strict=True)]
    return [
        f"detection: {_spread(whole[1:])} regions/s through {len(ensemble.members)} members",
        f"forward pass alone: {_spread(alone[1:])} regions/s",
        f"detection over it: {_spread(ratios, 3)} (n = {len(ratios)})",
    ]


def _detection(job: DetectJob) -> float:
    """Regions a second, from when the members are ready."""
    began, passes = 0.0, 0
    for event in run_alone(job):
        if isinstance(event, Opened):
            began = time.perf_counter()
        elif isinstance(event, Progress):
            passes = event.passes
    return passes / len(job.data.store.key.members) / (time.perf_counter() - began)


def _forward_alone(
    ensemble: Ensemble, dataset: Dataset, settings: DetectSettings, arguments: argparse.Namespace
) -> float:
    sizes = [CROP_SIZE] * len(ensemble.members)
    inputs = open_inputs(settings, member_sources(ensemble, dataset, settings, region_rule(sizes)))
    boxes = _random_boxes(0, arguments.batch)
    regions = warp_regions(pixels.decode(dataset.items[0].read()), boxes)
    batch = regions.contiguous(memory_format=torch.channels_last)
    batches = int(arguments.images * arguments.boxes / arguments.batch)
    with torch.inference_mode():
        began = time.perf_counter()
        for _ in range(batches):
            for predict in inputs.members.values():
                predict(batch)
    return batches * int(arguments.batch) / (time.perf_counter() - began)


def _random_boxes(seed: int, count: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Boxes of the sizes that proposals have, in pictures of demo-data."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 120, (count, 2))
    return np.hstack([corners, corners + rng.integers(20, 120, (count, 2))]).astype(np.float64)


def _random_proposals(dataset: Dataset, out: Path, count: int) -> Path:
    lines = ["image,left,top,right,bottom"]
    for number, item in enumerate(dataset.items):
        lines += [f"{item.id},{','.join(map(str, box))}" for box in _random_boxes(number, count).tolist()]
    out.mkdir()
    (out / "boxes.csv").write_text("\n".join(lines) + "\n")
    for _ in run_alone(ProposeJob(dataset, ProposeSettings(out=out, sets=(), from_file=out / "boxes.csv"))):
        pass
    return out


def _memory(drawn: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Peak memory of `detect` with one member, by the number of images."""
    peaks = {}
    for count in map(int, arguments.counts.split(",")):
        flat, _ = write_images(folder / "memory", sample(drawn, seed=1), count)
        dataset = open_dataset(flat, ["object"], "none")
        proposals = _random_proposals(dataset, folder / f"proposals-{count}", arguments.boxes)
        words = ["detect", flat, "--proposals", proposals, "--ensemble", arguments.ensemble, "--models", 1]
        words += ["--out", folder / f"memory-{count}", "--device", "cpu", "--precision", arguments.precision]
        peaks[count] = _peak_mib([sys.executable, "-m", "ensemble_eval", *map(str, words)])
    few, many = min(peaks), max(peaks)
    lines = [f"{count} images of {arguments.boxes} proposals: {peak:.0f} MiB" for count, peak in peaks.items()]
    return [*lines, f"{many} images over {few}: {peaks[many] / peaks[few]:.2f}×"]


def _peak_mib(command: list[str]) -> float:
    """See `memory.peak_mib`; from a process without torch, because a child's peak starts at its parent's."""
    program = "import sys; from benchmarks.memory import peak_mib; print(peak_mib(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def _spread(values: list[float], digits: int = 0) -> str:
    """Median (least to greatest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
