"""What many tests need: pictures, networks whose weights matter, and whole ensembles and data sets on disk."""

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Generator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from ensemble_eval.cli import cli
from ensemble_eval.crops.plan import CropPlan, CropRule
from ensemble_eval.crops.protocols import CROP_SIZE, GOOGLENET
from ensemble_eval.engine.predict import Predict
from ensemble_eval.evaluation.finishing import Outcome
from ensemble_eval.evaluation.job import RunJob, RunWorker
from ensemble_eval.evaluation.key import MemberKey, RunKey
from ensemble_eval.evaluation.opening import Inputs, open_inputs, open_sources
from ensemble_eval.jobs.job import Event, Notice, Progress
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.jobs.runner import run_job, run_shard
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.registry import build
from ensemble_eval.settings import RunSettings
from ensemble_eval.store.parts import Execution

# Where photographs and pretrained networks lie, which are no part of the project.
SHARED = Path(os.environ.get("SHARED_FOLDER") or Path(__file__).parents[1] / ".." / "shared")
# Seven, so that a top-5 decision can be wrong.
CLASS_NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
CLASSES = ClassList("classes.txt", len(CLASS_NAMES), CLASS_NAMES)
TINY = 0.05
# Square, landscape, portrait, smaller than every scale, odd, and a small square.
PICTURE_SIZES = ((300, 300), (320, 240), (240, 350), (101, 67), (291, 257), (64, 64))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture of shades, discs and grain; the same for the same arguments."""
    rng = np.random.default_rng((seed, width, height))
    shades = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    image = shades.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, radius = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(2, 40))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    grain = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A small PNG whose header promises another size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + encoded(picture(9, 9))[33:]


def tiff_with_offsets_in_text() -> bytes:
    """A TIFF of 2 × 2 grey pixels; where they lie is given as text, of which Pillow makes a `TypeError`."""
    width, height, bits, compression, photometric, offsets, rows, counts = 256, 257, 258, 259, 262, 273, 278, 279
    text, short = 2, 3
    fields = [
        *((width, short, 2), (height, short, 2), (bits, short, 8), (compression, short, 1)),
        *((photometric, short, 1), (offsets, text, 110), (rows, short, 2), (counts, short, 4)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes([10, 20, 30, 40])


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Give every weight and statistic a random value, and put the network in eval mode."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor, std: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)

    def uniform(tensor: Tensor) -> None:
        tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                normal(module.weight, (1.5 / module.weight[0].numel()) ** 0.5)
                if module.bias is not None:
                    normal(module.bias, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                normal(module.bias, 0.1)
                normal(module.running_mean, 0.1)
                uniform(module.weight)
                uniform(module.running_var)
    return network.eval()


def googlenet_plan(width: int, height: int, crops: int, members: int = 1) -> CropPlan:
    """The views of the protocol `googlenet` in one image, which all members see."""
    return CropRule((GOOGLENET,) * members, crops).plan(width, height)


def tiny_network(arch: str = "googlenet", *, seed: int = 0, width: float = TINY) -> nn.Module:
    """A narrow network of seven classes in eval mode whose probabilities vary from crop to crop."""
    network = build(arch, len(CLASS_NAMES), width=width).eval()
    network.load_state_dict(_tiny_weights(arch, seed, width))
    return network


@cache
def _tiny_weights(arch: str, seed: int, width: float) -> dict[str, Tensor]:
    network = randomise(build(arch, len(CLASS_NAMES), width=width), seed)
    crops = np.stack([np.asarray(picture(CROP_SIZE, CROP_SIZE, seed)) for seed in range(6)])
    with torch.no_grad():
        logits = network((torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - 0.45) / 0.225)
        classifier = network.get_submodule("fc")
        assert isinstance(classifier, nn.Linear)
        gain = 2 / logits.std(dim=0)
        classifier.weight.mul_(gain[:, None])
        classifier.bias.copy_(classifier.bias * gain - logits.mean(dim=0) * gain)
    return network.state_dict()


def colour_classifier(seed: int = 0) -> Predict:
    """A fast member: a softmax over random directions in the colours of 7×7 patches."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(3 * 32 * 32, len(CLASS_NAMES), generator=generator, dtype=torch.float64) / 4

    def predict(crops: Tensor) -> Tensor:
        # Sums of 49 whole numbers, which float32 holds exactly.
        sums = functional.avg_pool2d(crops.float(), 7, divisor_override=1)
        return torch.softmax(sums.double().flatten(1) / (49 * 255) @ directions.to(crops.device), dim=1).float()

    return predict


def execution(batch_size: int = 16, device: str = "cpu") -> Execution:
    """What may have run a part's images."""
    return Execution(device, "a processor", batch_size, threads=2, ranks=1, versions={"torch": "2.12.0"})


def run_key(**changes: Any) -> RunKey:
    """What the predictions of some run depend on."""
    fields: dict[str, Any] = {
        "crops": 1,
        "precision": "float32",
        "backend": "torch",
        "device_type": "cpu",
        "scores": False,
        "until_decided": (),
        "interpolation": "bilinear",
        "classes": len(CLASS_NAMES),
        "dataset": "1234",
        "images": 4,
        "members": (member_key("a"),),
    }
    return RunKey(**{**fields, **changes})


def member_key(name: str, weights: str = "w1") -> MemberKey:
    """What the scores of some member depend on."""
    return MemberKey(name=name, weights=weights, arch="googlenet", options={}, input={})


def write_dataset(root: Path, sizes: Sequence[tuple[int, int]] = PICTURE_SIZES) -> Path:
    """A folder of class folders, one for each of the seven classes, with one PNG per size, dealt in turn."""
    for name in CLASS_NAMES:
        (root / name).mkdir(parents=True)
    for index, (width, height) in enumerate(sizes):
        name = CLASS_NAMES[index % len(CLASS_NAMES)]
        (root / name / f"{index:02}.png").write_bytes(encoded(picture(width, height, seed=index)))
    return root


def write_ensemble(folder: Path, members: int = 2, *, width: float = TINY) -> Path:
    """A manifest of GoogLeNets named a, b, … with different random weights, beside its files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CLASSES.source).write_text("".join(f"{name}\n" for name in CLASS_NAMES))
    described = []
    for seed, name in zip(range(members), "abcdefg", strict=False):
        path = folder / f"{name}.safetensors"
        member = Member(name, arch="googlenet", weights=path, options={"width": width})
        save_weights(path, tiny_network(seed=seed, width=width).state_dict(), member, CLASSES)
        described.append(member)
    classes = ClassList(str(folder / CLASSES.source), CLASSES.count, CLASSES.names)
    write_manifest(folder / "ensemble.toml", Ensemble(described, classes, "tiny"))
    return folder / "ensemble.toml"


def opened(settings: RunSettings) -> Inputs:
    """Everything that a run of these settings needs, open."""
    return open_inputs(settings, open_sources(settings))


class ShardRun:
    """One process's shard of a run, whose output folder is open; it waits for nobody.

    Attributes:
        job: the run.
        folder: its output folder.
        notices: what it told so far, beside how far it is.
    """

    def __init__(self, job: RunJob, worker: RunWorker, process: Process, stop: StopRequests) -> None:
        self.job, self.folder, self.worker, self._process, self._stop = job, job.folder, worker, process, stop
        self.notices = worker.notices()

    def evaluate(self) -> Generator[Progress, None, None]:
        with contextlib.closing(run_shard(self.job, self.worker, self._process, self._stop)) as events:
            for event in events:
                if isinstance(event, Notice):
                    self.notices.append(event.sentence)
                else:
                    yield event

    def finish(self) -> Outcome:
        self.folder.close()
        return self.job.finish()


def started(
    settings: RunSettings,
    inputs: Inputs | None = None,
    process: Process | None = None,
    stop: StopRequests | None = None,
) -> ShardRun:
    """One process's shard of a run."""
    inputs, process, stop = inputs or opened(settings), process or Process(), stop or StopRequests()
    job = RunJob(settings, inputs)
    worker = RunWorker(settings, inputs, process, stop)
    job.folder.open(fresh=settings.fresh, checked=process.role is Role.WORKER)
    return ShardRun(job, worker, process, stop)


def run_events(
    settings: RunSettings, process: Process | None = None, words: Sequence[str] = ("no", "worker")
) -> Generator[Event[Outcome], None, None]:
    """The whole job of `run`."""
    job = RunJob(settings, open_sources(settings))
    return run_job(job, process or Process(), StopRequests(), words)


def all_commands() -> dict[str, click.Command]:
    """Every command of the command line by its name."""
    context = click.Context(cli)
    found = ((name, cli.get_command(context, name)) for name in cli.list_commands(context))
    return {name: command for name, command in found if command is not None}
