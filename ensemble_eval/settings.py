"""What an evaluation or a training can be asked for: each option once, with type, default, limits and help.

From Python as from the command line, settings are checked when they are made, and nowhere else. Nothing heavy is
imported here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ensemble_eval.errors import InputError
from ensemble_eval.fields import CheckedFields, option, required_option

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Backend = Literal["torch", "compiled", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
BackendChoice = Literal["auto", "torch", "compiled", "openvino"]
Layout = Literal["auto", "class-folders", "files", "tar", "webdataset", "parquet"]
# What is given for labels where there are none.
UNLABELLED = "none"
SubsetClasses = Literal["all", "dataset"]
# Selective search as R-CNN sets it, with superpixels twice as large, and MultiBox.
SearchedSet = Literal["rcnn", "doubled", "multibox"]
# Boxes from a file.
FROM_FILE = "file"
PROPOSAL_SETS = (*get_args(SearchedSet), FROM_FILE)

# The sections of `--help`, in their order; options of none of them stand before. `check` needs none of the last.
GROUPS = ("Data", "Ensemble and crops", "Speed", "Output", "Distribution")
_DATA, _ENSEMBLE, _SPEED, _OUTPUT, DISTRIBUTION = GROUPS
# Names the folder of converted networks; empty is as if it were not there.
CACHE_VARIABLE = "ENSEMBLE_EVAL_CACHE"
# Where the shipped network that proposes boxes lies in a clone of the repository.
SHIPPED_MULTIBOX = Path("checkpoints/detection/multibox.safetensors")
_SECONDS = "a number of seconds"
# Options of the command line with another name or value than their argument, without dashes.
OPTION_OF = {"store_scores": "scores", "store_scores=True": "scores all", "store_scores=False": "scores none"}


def _device(group: str = "") -> str:
    named = "auto, cpu, cuda or cuda:N"
    return option("auto", f"{named}.", group, pattern=r"auto|cpu|cuda(:\d{1,3})?", words=named)


def _fresh(help_text: str, group: str = "") -> bool:
    # Not from the environment, where it would outlive the command that it was meant for.
    return option(False, help_text, group, in_environment=False)


def _models() -> int | None:
    return option(None, "Use only the first N members.  [default: all]", _ENSEMBLE)


@dataclass(frozen=True, kw_only=True)
class JobSettings(CheckedFields):
    """How a job runs, whatever it computes."""

    out: Path = option(Path("results"), "Folder for the results.")
    fresh: bool = _fresh("Discard what an earlier run left in `out`; not under a launcher.", _OUTPUT)
    device: str = _device(_SPEED)
    workers: int | None = option(
        None,
        "Threads that decode and resize.  [default: the usable processors, shared among ranks, less one]",
        _SPEED,
        low=1,
    )
    save_every: float = option(
        30.0, "Write finished images at least this often (seconds).", DISTRIBUTION, low=0, words=_SECONDS
    )
    live: bool = option(
        False, "Every minute write the table of the images that are done to partial.csv and .md.", DISTRIBUTION
    )


@dataclass(frozen=True, kw_only=True)
class DistributedSettings(JobSettings):
    """How a command's job is spread over processes."""

    ranks: int | None = option(
        None, "Processes on this machine.  [default: one for each GPU; 1 on the CPU]", DISTRIBUTION, low=1
    )
    timeout: float = option(
        600.0,
        "Seconds after which a process that stores nothing is treated as hung; longer than `save_every`.",
        DISTRIBUTION,
        words=_SECONDS,
    )
    unreadable_ok: bool = option(
        False, "Exit with 0 instead of 3 if images are unreadable; they are still listed.", DISTRIBUTION
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timeout <= self.save_every:
            raise InputError(f"`timeout={self.timeout:g}` must be longer than `save_every={self.save_every:g}`")


@dataclass(frozen=True, kw_only=True)
class DataSettings(CheckedFields):
    """How a data set is read, and which of its images take part."""

    labels: Path | None = option(
        None,
        "Labels of the images: CSV file,label, Caffe's val.txt, Kaggle's CSV, JSON list of lists, or ILSVRC's "
        "devkit; none for images without.  [default: what lies in DATASET]",
        _DATA,
    )
    layout: Layout = option("auto", "How to read DATASET.", _DATA)
    blacklist: Path | None = option(
        None, "Leave out the validation images at these places (one a line, from 1).", _DATA
    )
    subset_classes: SubsetClasses = option(
        "all", "Rank labels among all classes, or among those that DATASET has images of.", _DATA
    )
    limit: int | None = option(None, "Take only the first N images, by id.", _DATA, low=1)
    sample: int | None = option(None, "Take only N images, drawn with `seed`.", _DATA, low=1)
    seed: int | None = option(None, "Seed of the draw for `sample`.  [default: 0]", _DATA, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed is not None and self.sample is None:
            raise InputError("`seed` draws the images of `sample`; give both, or leave it out")
        if self.limit is not None and self.sample is not None:
            raise InputError("`limit` and `sample` exclude each other; give one of them")


@dataclass(frozen=True, kw_only=True)
class MemberSettings(JobSettings):
    """How the members of an ensemble are opened and run."""

    trust_python: bool = option(False, "Allow members that run installed code (python:…).", _ENSEMBLE)
    precision: Precision = option(
        "float32", "Precision of the convolutions. Softmax and sums are never in half precision.", _SPEED
    )
    backend: BackendChoice = option(
        "auto", "What runs the networks; auto is openvino (the extra [cpu]) on a CPU, else torch.", _SPEED
    )
    batch_size: int | None = option(
        None, "Crops per batch.  [default: by device, halved if needed]", _SPEED, low=1
    )
    cache: bool = option(True, "Keep converted networks between runs, and use those that are there.", _SPEED)


@dataclass(frozen=True, kw_only=True)
class Settings(MemberSettings):
    """How images are evaluated and where the results go, whatever the ensemble and the data set."""

    crops: int | None = option(
        None,
        "Largest crop scheme of the protocol; smaller are included. In googlenet: 1, 10 or 144.  [default: all]",
        low=1,
    )
    protocol: str = option(
        "googlenet",
        "Multi-crop protocol: a name of docs/protocols.md, such as vgg-150 or timm, or a .toml file.",
        _ENSEMBLE,
    )
    store_scores: bool = option(True, "Keep every mean softmax vector, or only ranks and top 5.", _OUTPUT)
    surface: bool = option(
        False,
        "Also keep what every number of models and crops would decide, for `Results.surface`: 2 bytes each.",
        _OUTPUT,
    )
    until_decided: bool = option(
        False,
        "Run each image until its top-5 outcome is certain: the same top-5 table from fewer passes.",
        _OUTPUT,
    )
    top1: bool = option(False, "With `until_decided`: decide the top-1 columns too.", _OUTPUT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top1 and not self.until_decided:
            raise InputError("`top1` belongs to `until_decided`; a full run has the top-1 columns anyway")
        if self.surface and self.until_decided:
            raise InputError("`surface` needs every pass, and `until_decided` leaves some out; choose one of them")

    @property
    def early_exit_ks(self) -> tuple[int, ...]:
        """The k of each top-k error that a run which stops when decided has to know; empty for a full run."""
        return () if not self.until_decided else (5, 1) if self.top1 else (5,)

    @property
    def with_scores(self) -> bool:
        """Whether mean softmax vectors are stored beside ranks; a run that stops when decided has none."""
        return self.store_scores and not self.until_decided


@dataclass(frozen=True, kw_only=True)
class RunSettings(DataSettings, DistributedSettings, Settings):
    """What `ensemble-eval run` is given: where the inputs are, how they are evaluated, over how many processes."""

    dataset: Path
    ensemble: Path = option(Path("manifests/default.toml"), "Manifest, or folder of checkpoints.")
    models: int | None = _models()


@dataclass(frozen=True, kw_only=True)
class RegionSettings(CheckedFields):
    """What every command on regions is given beside the data set."""

    proposals: Path = required_option("What `propose` wrote for DATASET.")
    ensemble: Path = option(
        Path("manifests/detection.toml"), "Region classifiers: manifest, or folder of checkpoints."
    )


@dataclass(frozen=True, kw_only=True)
class DetectSettings(RegionSettings, DistributedSettings, MemberSettings):
    """What `ensemble-eval detect` is given beside the data set."""

    models: int | None = _models()
    out: Path = option(Path("detections"), "Folder for the results.")
    boxes: Path | None = option(
        None,
        "Annotations: COCO's JSON, or a folder of XML files. Without them there are detections and no tables.",
    )
    workers: int | None = option(
        None, "Threads that warp regions.  [default: the usable processors less one]", _SPEED, low=1
    )
    batch_size: int | None = option(
        None, "Regions per batch.  [default: by device, halved if needed]", _SPEED, low=1
    )
    svm: Path | None = option(None, "SVMs of `detect-svm`, for rows of their own.", _OUTPUT)
    draw: tuple[str, ...] = option((), "Draw what is found in this image; repeatable.", _OUTPUT, metavar="IMAGE")
    draw_above: float | None = option(
        None, "Draw only detections of this score or more.  [default: 0.25; with SVMs a margin of 0]", _OUTPUT
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draw_above is not None and self.svm is None and not 0 <= self.draw_above <= 1:
            raise InputError(
                f"`draw_above` is {self.draw_above:g}, and scores are from 0 to 1; 0.9 draws from 90% on"
            )


@dataclass(frozen=True, kw_only=True)
class SvmSettings(RegionSettings):
    """What `ensemble-eval detect-svm` is given beside the data set."""

    boxes: Path = required_option("Annotations: COCO's JSON, or a folder of XML files.")
    out: Path = option(Path("svm.safetensors"), "File for the SVMs.")
    regions: int = option(64, "Proposals of an image to learn from.", low=0)
    seed: int = option(0, "Seed of the draw of these proposals.", low=0)
    device: str = _device()


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(CheckedFields):
    """What `ensemble-eval train` is given beside the recipe; no `members` means all."""

    out: Path = option(Path("checkpoints"), "Weights, logs, training states and the ensemble's manifest.")
    members: tuple[str, ...] = option((), "Train this one; repeatable.  [default: all]", spelling="member")
    device: str = _device()
    workers: int | None = option(
        None,
        "Loading processes on each machine.  [default: 1 for each training process on a CPU, up to 16 on a GPU]",
        low=0,
    )
    fresh: bool = _fresh("Start these members over, whatever is there.")


@dataclass(frozen=True, kw_only=True)
class ProposeSettings(DistributedSettings):
    """What `ensemble-eval propose` is given beside the data set."""

    out: Path = option(Path("proposals"), "Folder for the proposals.")
    sets: tuple[SearchedSet, ...] = option(
        get_args(SearchedSet),
        "What to propose with: selective search as R-CNN has it, with doubled superpixels, and MultiBox.",
    )
    multibox: Path | None = option(
        None, f"File of a trained MultiBox.  [default: {SHIPPED_MULTIBOX}, where it is there]"
    )
    multibox_boxes: int = option(200, "Boxes of MultiBox for an image.", low=1)
    from_file: Path | None = option(
        None, "Boxes to take over: CSV or Parquet image,left,top,right,bottom[,score]."
    )
    boxes: Path | None = option(None, "Annotations, for the coverage: COCO's JSON, or a folder of XML files.")
    device: str = "cpu"
    workers: int | None = option(
        None, "Searching processes.  [default: one for each usable processor]", _SPEED, low=1
    )
    ranks: int | None = option(1, "Processes on this machine.", DISTRIBUTION, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if "multibox" in self.sets and self.multibox is None:
            raise InputError("the set multibox needs `multibox`, the file of a trained MultiBox")
        if not self.sets and self.from_file is None:
            raise InputError("`sets` is empty; name at least one set, or give `from_file`")
