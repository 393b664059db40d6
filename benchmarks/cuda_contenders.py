"""What is measured side by side on a GPU: the forward pass alone, ours, a script, and loaders alone."""

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.cuda_script import Script
from ensemble_eval.backends.opening import default_batch_size
from ensemble_eval.backends.torch import CapturedForward, CudaGraphs
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import CROP_SIZE, GOOGLENET
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.engine.predict import Forward
from ensemble_eval.evaluation.job import RunJob, RunWorker
from ensemble_eval.evaluation.opening import Inputs, open_inputs, sources_of
from ensemble_eval.jobs.cpu import default_loaders
from ensemble_eval.jobs.prefetch import load_images
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.runner import run_shard
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.settings import Backend, Precision, Settings

# Models × crops: what is bound by decoding, what by the loop, and what by the forward pass.
ROWS = ((1, 1), (1, 10), (7, 144))
_PICTURES = 32


@dataclass(frozen=True)
class Contender:
    """One line of the table.

    Attributes:
        title: for the table.
        bound_by: the keys of what it cannot be faster than.
        prepare: for so many images, what is to be timed; that returns the passes that its answer consists of, or
            0 where it runs none.
    """

    title: str
    bound_by: tuple[str, ...]
    prepare: Callable[[int], Callable[[], int]]


@dataclass(frozen=True)
class Scene:
    """What all contenders work with.

    Attributes:
        ensemble: manifest of the networks.
        device: where they run.
        precision: of their convolutions.
        backend: of ours.
        compiler: torch.compile's backend, for the script.
        rows: models × crops.
        folder: for ours to write into.
    """

    ensemble: Path
    device: torch.device
    precision: Precision
    backend: Backend
    compiler: str
    rows: Sequence[tuple[int, int]]
    folder: Path

    @property
    def batch(self) -> int:
        """Crops through a network at once."""
        return default_batch_size(self.device)

    @property
    def loaders(self) -> int:
        """Threads that load images."""
        return default_loaders(1)


def picture_bytes(seed: int) -> bytes:
    """A picture of ImageNet's usual size and bytes: smooth noise, 500 × 375, some 100 KiB as a JPEG."""
    noise = np.random.default_rng(seed).integers(0, 256, (94, 125, 3), dtype=np.uint8)
    grain = np.random.default_rng(seed + 1).integers(-14, 15, (375, 500, 3))
    smooth = np.asarray(Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC))
    data = BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
    return data.getvalue()


def contenders(scene: Scene) -> Mapping[str, Contender]:
    """All that is measured, by key; networks are loaded here, and compiled when they first run."""
    files = [picture_bytes(seed) for seed in range(_PICTURES)]
    opened = {models: _opened(scene, models) for models in {models for models, _ in scene.rows}}
    script = _script(scene, max(opened))
    found: dict[str, Contender] = {}
    for models, inputs in sorted(opened.items()):
        found[f"forward {models}"] = _forward(scene, inputs, models)
    for crops in sorted({crops for _, crops in scene.rows}):
        found[f"loaders {crops}"] = _loaders(scene, files, crops)
    for models, crops in scene.rows:
        bound = (f"forward {models}", f"loaders {crops}")
        row = f"{models}×{crops}"
        found[f"ours {row}"] = _ours(scene, opened[models], files, crops, bound, f"ours, {row}")
        found[f"script {row}"] = Contender(
            f"script: torchvision v2, torch.compile, {row}",
            bound,
            lambda images, models=models, crops=crops: (  # type: ignore[misc]  # defaults that bind the row
                lambda: script.run(_some(files, images), crops, models)
            ),
        )
    models, crops = scene.rows[-1]
    title = f"ours, {models}×{crops}, until decided"
    found["decided"] = _ours(scene, opened[models], files, crops, (), title, until_decided=True)
    return found


def _opened(scene: Scene, models: int) -> Inputs:
    manifest = open_ensemble(scene.ensemble)
    ensemble = Ensemble(manifest.members[:models], manifest.classes, manifest.name)
    dataset = Dataset.of([("0.jpg", 0, picture_bytes(0))])
    settings = _settings(scene, crops=1)
    return open_inputs(settings, sources_of(ensemble, dataset, settings))


def _settings(scene: Scene, crops: int, *, until_decided: bool = False) -> Settings:
    return Settings(
        crops=crops,
        device=str(scene.device),
        precision=scene.precision,
        backend=scene.backend,
        until_decided=until_decided,
        cache=False,
    )


def _forward(scene: Scene, inputs: Inputs, models: int) -> Contender:
    shape = (scene.batch, 3, CROP_SIZE, CROP_SIZE)
    generator = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    crops = crops.to(scene.device).contiguous(memory_format=torch.channels_last)

    # As the engine runs them: on a GPU captured as one graph, whose inputs stay where they are.
    forward: Forward = (
        CapturedForward(inputs.members, lambda: None, CudaGraphs(scene.device))
        if scene.device.type == "cuda"
        else Forward(tuple(inputs.members.values()))
    )
    members = tuple(range(models))

    def prepare(images: int) -> Callable[[], int]:
        batches = -(-images // scene.batch)

        def run() -> int:
            for _ in range(batches):
                forward(crops, members)
            return batches * scene.batch * models

        return run

    title = f"the forward pass alone, {models} model{'s' * (models > 1)}, crops that are on the device"
    return Contender(title, (), prepare)


def _loaders(scene: Scene, files: Sequence[bytes], crops: int) -> Contender:
    def prepare(images: int) -> Callable[[], int]:
        items = list(enumerate(_dataset(files, images).items))

        def run() -> int:
            loaded = load_images(
                items,
                CropRule((GOOGLENET,), crops),
                workers=scene.loaders,
                ahead=max(2 * scene.loaders, 64),
                pinned=scene.device.type == "cuda",
            )
            for _ in loaded:
                pass
            return 0

        return run

    return Contender(f"loaders alone, {crops} crop{'s' * (crops > 1)}", (), prepare)


def _ours(
    scene: Scene,
    inputs: Inputs,
    files: Sequence[bytes],
    crops: int,
    bound_by: tuple[str, ...],
    title: str,
    *,
    until_decided: bool = False,
) -> Contender:
    settings = _settings(scene, crops, until_decided=until_decided)

    def prepare(images: int) -> Callable[[], int]:
        given = replace(inputs, dataset=_dataset(files, images), rule=inputs.rule.up_to(crops))
        out = Path(tempfile.mkdtemp(dir=scene.folder))
        stop = StopRequests()
        job = RunJob(replace(settings, out=out), given)
        worker = RunWorker(job.settings, given, Process(), stop)
        job.folder.open(fresh=False)

        def evaluate() -> int:
            for _ in run_shard(job, worker, Process(), stop):
                pass
            return images * crops * len(inputs.members)

        return evaluate

    return Contender(title, bound_by, prepare)


def _script(scene: Scene, models: int) -> Script:
    manifest = open_ensemble(scene.ensemble)
    networks = [load_member(member, manifest.classes.count).eval() for member in manifest.members[:models]]
    dtype = getattr(torch, scene.precision)
    return Script(networks, scene.device, dtype, scene.batch, scene.loaders, scene.compiler)


def _dataset(files: Sequence[bytes], images: int) -> Dataset:
    return Dataset.of([(f"{number:07}.jpg", 0, data) for number, data in enumerate(_some(files, images))])


def _some(files: Sequence[bytes], images: int) -> list[bytes]:
    return list(itertools.islice(itertools.cycle(files), images))
