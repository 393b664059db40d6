"""What an evaluation or a training can be asked for, with every default. Nothing heavy is imported here."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ensemble_eval.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Backend = Literal["torch", "compiled", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
Layout = Literal["auto", "class-folders", "files", "tar", "webdataset", "parquet"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
# What is given for labels where there are none.
UNLABELLED = "none"
# Selective search as R-CNN sets it, with superpixels twice as large, MultiBox, and boxes from a file.
PROPOSAL_SETS = ("rcnn", "doubled", "multibox", "file")
FROM_FILE = "file"
SubsetClasses = Literal["all", "dataset"]
SUBSET_CLASSES: tuple[SubsetClasses, ...] = get_args(SubsetClasses)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How images are evaluated, whatever the ensemble and the data set.

    Attributes:
        crops: the largest crop scheme, 1, 10 or 144; the smaller ones come along.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: of the convolutions; softmax and sums are never in half precision.
        backend: what runs the networks; `auto` is OpenVINO on a CPU where it is installed, else torch.
        batch_size: crops per batch; None for what suits the device. It is halved when memory runs out.
        workers: threads that decode and resize; None for one for each processor that the process may use, shared
            among the ranks there, less one.
        with_scores: whether mean softmax vectors are stored beside ranks.
        surface: whether the label's rank is stored for every number of models and crops, for groups of crops
            and for other averages; two bytes for each rank.
        decides: the k of each top-k error that a run which stops when decided is asked for; empty for a full run.
        trust_python: whether members of the form `python:…` may import and run installed code.
        save_every: seconds after which finished images are written, however few.
        cache: whether conversions for OpenVINO are kept between runs, in the user's folder of caches.
    """

    crops: int = 144
    device: str = "auto"
    precision: Precision = "float32"
    backend: Backend | Literal["auto"] = "auto"
    batch_size: int | None = None
    workers: int | None = None
    with_scores: bool = True
    surface: bool = False
    decides: tuple[int, ...] = ()
    trust_python: bool = False
    save_every: float = 30.0
    cache: bool = True


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """What `ensemble-eval run` is given: where the inputs are, how they are evaluated, over how many processes.

    Attributes:
        dataset: folder, archive, shards or pattern of shards with the images.
        ensemble: manifest, or folder of checkpoints.
        out: folder for the results.
        models: how many of the ensemble's members take part; None for all.
        labels: file of labels, where they do not lie among the images; `none` for images without labels.
        layout: how to read `dataset`; `auto` to recognise it.
        blacklist: text file of places among the sorted validation images, from 1 on, that are left out.
        subset_classes: whether labels are ranked among all classes, or among those of the data set.
        limit: how many of the first images take part; None for all.
        sample: how many images, drawn with `seed`, take part; None for all.
        seed: of `sample`; None for 0.
        ranks: processes on this machine; None for one for each GPU, and one on the CPU.
        fresh: whether to discard what an earlier run left in `out`.
        live: whether the table of the images that are done is written every minute.
        timeout: seconds after which a process that stores nothing is given up.
    """

    dataset: Path
    ensemble: Path = Path("manifests/default.toml")
    out: Path = Path("results")
    models: int | None = None
    labels: Path | None = None
    layout: Layout = "auto"
    blacklist: Path | None = None
    subset_classes: SubsetClasses = "all"
    limit: int | None = None
    sample: int | None = None
    seed: int | None = None
    ranks: int | None = None
    fresh: bool = False
    live: bool = False
    timeout: float = 600.0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What `ensemble-eval train` is given beside the recipe.

    Attributes:
        out: folder for weights, logs, training states and the ensemble's manifest.
        members: names of those to train; none means all.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers: loading processes on each machine, shared among its training processes; None for what suits the
            device.
        fresh: whether to forget what is there of these members.
    """

    out: Path = Path("checkpoints")
    members: tuple[str, ...] = ()
    device: str = "auto"
    workers: int | None = None
    fresh: bool = False


@dataclass(frozen=True, kw_only=True)
class ProposeSettings:
    """What `ensemble-eval propose` is given beside the data set.

    Attributes:
        out: folder for the proposals.
        sets: of `PROPOSAL_SETS`, but the one from a file.
        multibox: a MultiBox that `ensemble-eval train` wrote; needed for that set.
        multibox_boxes: its boxes for an image; the paper has 200.
        from_file: boxes to be taken over, as CSV or Parquet.
        workers: processes that search; None for one for each processor that the process may use.
        save_every: seconds after which finished images are written, however few.
        fresh: whether to discard what an earlier run left of these sets in `out`.
    """

    out: Path = Path("proposals")
    sets: tuple[str, ...] = ("rcnn", "doubled", "multibox")
    multibox: Path | None = None
    multibox_boxes: int = 200
    from_file: Path | None = None
    workers: int | None = None
    save_every: float = Settings.save_every
    fresh: bool = False

    def __post_init__(self) -> None:
        require_seconds(save_every=self.save_every)
        known = [name for name in PROPOSAL_SETS if name != FROM_FILE]
        if unknown := [name for name in self.sets if name not in known]:
            raise InputError(f"`sets` has {unknown[0]!r}; choose among {', '.join(known)}")
        if "multibox" in self.sets and self.multibox is None:
            raise InputError("the set multibox needs `multibox`, the file of a trained MultiBox")
        if not self.sets and self.from_file is None:
            raise InputError("`sets` is empty; name at least one set, or give `from_file`")
        for name, count in (("workers", self.workers), ("multibox_boxes", self.multibox_boxes)):
            if count is not None and count < 1:
                raise InputError(f"`{name}` is at least 1, not {count}")


def require_seconds(**arguments: float) -> None:
    """Refuse what is no number of seconds, by its name.

    >>> require_seconds(timeout=float("inf"))
    Traceback (most recent call last):
    ensemble_eval.errors.InputError: `timeout` is a number of seconds, not inf
    """
    for name, seconds in arguments.items():
        if not math.isfinite(seconds):
            raise InputError(f"`{name}` is a number of seconds, not {seconds}")


def decided_k(*, until_decided: bool, top1: bool) -> tuple[int, ...]:
    """The k of each top-k error that a run which stops when decided has to know; empty for a full run.

    >>> decided_k(until_decided=True, top1=True)
    (5, 1)

    Raises:
        InputError: top-1 decisions are asked of a full run.
    """
    if top1 and not until_decided:
        raise InputError("`top1` belongs to `until_decided`; a full run has the top-1 columns anyway")
    return () if not until_decided else (5, 1) if top1 else (5,)
