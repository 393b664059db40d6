"""The recipe of `ensemble-eval train` as data: from TOML to frozen dataclasses, checked strictly, without torch.

The defaults are the paper's where it states a value (section 6); where they are not, the field says so.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ensemble_eval import toml_tables
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.errors import InputError
from ensemble_eval.fields import bounds

TrainingPrecision = Literal["float32", "bfloat16"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_SEED = 2**62


@dataclass(frozen=True)
class Data:
    """The images: folders of class folders.

    Attributes:
        train: Images to learn from; the class folders are the classes.
        val: Images for the errors in the log; no weight depends on them.
        cache_decoded: Keep all decoded images in shared memory; they must fit.
    """

    train: Path
    val: Path
    cache_decoded: bool = False


@dataclass(frozen=True)
class Annotations:
    """The annotations of the images.

    Attributes:
        boxes: The name of the annotations in both folders of images: COCO's JSON, or a folder of VOC's or
            ILSVRC's XML.
        classes: A text file with one class of objects per line; without it, the class folders are the classes.
    """

    boxes: str = "boxes.json"
    classes: Path | None = None


@dataclass(frozen=True)
class Regions(Annotations):
    """Trains region classifiers, on regions of the images; without it, members learn whole images.

    Attributes:
        objects: The number of regions with an object in each image.
        backgrounds: The number of regions without one.
        seed: The seed of the boxes, the same for all members.
    """

    objects: int = field(default=6, metadata=bounds(1, 1000))
    backgrounds: int = field(default=8, metadata=bounds(1, 1000))
    seed: int = field(default=0, metadata=bounds(0, _MAX_SEED))


@dataclass(frozen=True)
class Boxes(Annotations):
    """Trains a MultiBox, which proposes boxes of any class; without it, members are classifiers.

    Attributes:
        shapes: The number of shapes of priors, half of them for each of the two feature maps.
        location_weight: The weight of the loss of locations beside that of confidences (alpha in the paper).
    """

    shapes: int = field(default=6, metadata=bounds(2, 100))
    location_weight: float = field(default=1.0, metadata=bounds(0, 1000))


@dataclass(frozen=True)
class Network:
    """The network, which all members share but for their width.

    Attributes:
        arch: The architecture's name in the registry.
        init_seed: The seed of the initial weights: the same for all members, as in the paper (by oversight, it
            says).
        crop_size: The side of the training patches after resizing, in pixels.
        initial: A folder of trained members: each member begins with the weights of the one of its name, but for
            the last layer. Or a `.safetensors` file for all members. Without it, weights are drawn anew.
    """

    arch: str = "googlenet"
    init_seed: int = field(default=0, metadata=bounds(0, _MAX_SEED))
    crop_size: int = field(default=224, metadata=bounds(32, 1024))
    dropout: float = field(default=0.4, metadata=bounds(0, 1, below_high=True))
    auxiliary_dropout: float = field(default=0.7, metadata=bounds(0, 1, below_high=True))
    initial: Path | None = None


@dataclass(frozen=True)
class Schedule:
    """Stochastic gradient descent as in section 6; the same for all members.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step, over all processes together.
        learning_rate: The rate of the first epoch after the warm-up.
        lr_decay_period_epochs: The epochs, or the fraction of one, after which the learning rate falls.
        lr_decay_factor: The factor by which it falls; 0.96 is the paper's 4%.
        warmup_epochs: The epochs over which the learning rate rises linearly; the paper has none.
        averaging_start_epoch: The epoch, from 0, from which Polyak averaging takes in the iterates.
        averaging_every_steps: The steps from one iterate in the average to the next.
        batch_norm_images: Images that give the averaged model new batch-norm statistics.
        auxiliary_weight: The weight of each auxiliary head's loss; 0 trains without heads.
    """

    epochs: int = field(metadata=bounds(1, 100_000))
    batch_size: int = field(metadata=bounds(2, 1_000_000))
    learning_rate: float = field(metadata=bounds(0, 1000, above_low=True))
    averaging_start_epoch: int = field(metadata=bounds(0, 100_000))
    momentum: float = field(default=0.9, metadata=bounds(0, 1, below_high=True))
    weight_decay: float = field(default=0.0, metadata=bounds(0, 1))
    lr_decay_period_epochs: float = field(default=8.0, metadata=bounds(0, 100_000, above_low=True))
    lr_decay_factor: float = field(default=0.96, metadata=bounds(0, 1, above_low=True))
    warmup_epochs: float = field(default=0.0, metadata=bounds(0, 100_000))
    averaging_every_steps: int = field(default=1, metadata=bounds(1, 1_000_000))
    batch_norm_images: int = field(default=10_000, metadata=bounds(2, 100_000_000))
    auxiliary_weight: float = field(default=0.3, metadata=bounds(0, 10))
    label_smoothing: float = field(default=0.0, metadata=bounds(0, 1, below_high=True))

    def __post_init__(self) -> None:
        if self.averaging_start_epoch >= self.epochs:
            raise InputError(
                f"averaging_start_epoch is below epochs, not {self.averaging_start_epoch} of {self.epochs}: "
                "nothing would be averaged"
            )
        if self.warmup_epochs > self.epochs:
            raise InputError(f"warmup_epochs is at most epochs, not {self.warmup_epochs} of {self.epochs}")


@dataclass(frozen=True)
class Sampling:
    """How a training patch is taken from an image; members may differ in it.

    Attributes:
        patch_area: The fraction of the image's area, uniform between the two.
        patch_aspect: Width over height, log-uniform between the two.
        brightness, contrast, saturation: Factors uniform in 1 ± this, in random order (Howard, arXiv 1312.5402).
        lighting: The standard deviation of the colour noise along ImageNet's principal colour axes.
        random_interpolation_from_epoch: From this epoch on, patches are resized by bilinear, area, nearest or
            bicubic interpolation, equally likely; before, by bilinear.
    """

    patch_area: tuple[float, float] = field(default=(0.08, 1.0), metadata=bounds(0, 1, above_low=True))
    patch_aspect: tuple[float, float] = field(default=(3 / 4, 4 / 3), metadata=bounds(0.1, 10))
    brightness: float = field(default=0.5, metadata=bounds(0, 1))
    contrast: float = field(default=0.5, metadata=bounds(0, 1))
    saturation: float = field(default=0.5, metadata=bounds(0, 1))
    lighting: float = field(default=0.1, metadata=bounds(0, 1))
    random_interpolation_from_epoch: int = field(default=0, metadata=bounds(0, 100_000))

    def __post_init__(self) -> None:
        for name, (low, high) in (("patch_area", self.patch_area), ("patch_aspect", self.patch_aspect)):
            if low > high:
                raise InputError(f"{name} is [lowest, highest], not [{low}, {high}]; swap the two")


@dataclass(frozen=True)
class MemberPlan:
    """One member: its width, the seed of its image order and sampling, and its way of sampling."""

    name: str
    seed: int = field(metadata=bounds(0, _MAX_SEED))
    width: float = field(default=1.0, metadata=bounds(0, 16, above_low=True))
    sampling: Sampling = Sampling()


@dataclass(frozen=True, kw_only=True)
class _Shared:
    data: Data
    schedule: Schedule
    name: str = ""
    network: Network = Network()
    precision: TrainingPrecision = "float32"
    validate_every_epochs: int = field(default=1, metadata=bounds(1, 100_000))
    save_every_steps: int = field(default=1000, metadata=bounds(1, 100_000_000))
    regions: Regions | None = None
    multibox: Boxes | None = None


@dataclass(frozen=True, kw_only=True)
class _Document(_Shared):
    members: list[Mapping[str, Any]]
    sampling: Sampling = Sampling()


@dataclass(frozen=True, kw_only=True)
class Recipe(_Shared):
    """A whole training configuration.

    Attributes:
        precision: The precision of the convolutions; outputs, loss, weights and their average are always float32.
        validate_every_epochs: The epochs from one validation to the next; the last epoch is always validated.
        save_every_steps: The steps after which the state for resuming is saved, beside the ends of epochs.
        regions: What region classifiers learn; None for whole images.
        multibox: What a MultiBox learns; None for a classifier.
    """

    members: tuple[MemberPlan, ...]

    @property
    def annotations(self) -> Annotations | None:
        """Where the annotations are; None if the class folders say what images show."""
        return self.regions or self.multibox

    def member(self, name: str) -> MemberPlan:
        """The plan of the member called `name`.

        Raises:
            InputError: there is none.
        """
        plans = {plan.name: plan for plan in self.members}
        if name not in plans:
            raise InputError(f"the recipe has no member {name!r}; its members are {', '.join(plans)}")
        return plans[name]

    def with_data(self, train: Path | None, val: Path | None) -> "Recipe":
        """The same recipe with other folders of images, as far as they are given."""
        return replace(self, data=replace(self.data, train=train or self.data.train, val=val or self.data.val))

    def initial_weights(self, plan: MemberPlan) -> Path | None:
        """The file of the weights that a member begins with; None if they are drawn anew."""
        initial = self.network.initial
        if initial is None or initial.suffix == ".safetensors":
            return initial
        return initial / f"{plan.name}.safetensors"

    def what_decides_the_weights(self, plan: MemberPlan) -> dict[str, Any]:
        """Every field that the weights of one member depend on, flat, as JSON values: what resuming compares."""
        tables = {**vars(self), "sampling": plan.sampling}
        flat = {
            f"{name}.{field}": list(value) if isinstance(value, tuple) else value
            for name in ("network", "schedule", "sampling", "regions", "multibox")
            if tables[name] is not None
            for field, value in vars(tables[name]).items()
            # What these files hold decides, and not where they lie.
            if field not in ("initial", "classes")
        }
        return flat | {"precision": self.precision, "member.seed": plan.seed, "member.width": plan.width}


def read_recipe(path: Path) -> Recipe:
    """Read a training configuration; relative paths in it start at its own folder.

    Raises:
        InputError: the file is missing or not TOML, or has an unknown, missing or impossible field.
    """
    return recipe_from_table(toml_tables.read(path), str(path), path.parent)


def recipe_from_table(table: Mapping[str, Any], place: str, folder: Path) -> Recipe:
    """The recipe that a parsed TOML document describes.

    Args:
        table: The document.
        place: Where the document is; every message begins with it.
        folder: Where the document's relative paths start.
    """
    document = toml_tables.fill(_Document, table, place)
    members = tuple(
        _member(row, document.sampling, f"{place}, member {number}")
        for number, row in enumerate(document.members, start=1)
    )
    shared = {part.name: _below(folder, getattr(document, part.name)) for part in fields(_Shared)}
    recipe = Recipe(**shared | {"name": document.name or Path(place).stem, "members": members})
    if recipe.regions is not None and recipe.multibox is not None:
        raise InputError(f"{place}: [regions] and [multibox] exclude each other; write a recipe for each")
    if recipe.multibox is not None and recipe.network.crop_size != CROP_SIZE:
        raise InputError(
            f"{place}: a [multibox] sees pictures of {CROP_SIZE} pixels, so crop_size cannot be "
            f"{recipe.network.crop_size}; leave it out"
        )
    _check_names(recipe, place)
    return recipe


def _below(folder: Path, part: Any) -> Any:
    """A part of a recipe with its relative paths starting at a folder."""
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return replace(part, **{name: folder / each for name, each in vars(part).items() if isinstance(each, Path)})


def _member(row: Mapping[str, Any], shared: Sampling, place: str) -> MemberPlan:
    own = row.get("sampling", {})
    if isinstance(own, Mapping):
        row = {**row, "sampling": {**asdict(shared), **own}}
    return toml_tables.fill(MemberPlan, row, place)


def _check_names(recipe: Recipe, place: str) -> None:
    if not recipe.members:
        raise InputError(f"{place}: there are no members; add at least one [[members]] table")
    seen: set[str] = set()
    for plan in recipe.members:
        # Names become file names, and some file systems do not tell a from A.
        folded = plan.name.casefold()
        if not _NAME.fullmatch(plan.name) or folded == "ensemble":
            raise InputError(
                f"{place}: the member's name {plan.name!r} cannot serve as a file name here; use letters, "
                "digits, '-', '_' and '.', and not 'ensemble'"
            )
        if folded in seen:
            raise InputError(f"{place}: two members are named {plan.name!r}; give each its own name")
        seen.add(folded)
