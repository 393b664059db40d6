"""Figures of the paper (Szegedy et al., CVPR 2015), and errors that other papers print for their protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ensemble_eval.crops.protocols import PROTOCOLS
from ensemble_eval.tables.table import Column, FilledColumn, Table, filled_from

if TYPE_CHECKING:
    from ensemble_eval.scoring.table3 import Row


def _columns(*keys: str) -> tuple[Column, ...]:
    return tuple(Column(key, key.replace("_", " ")) for key in keys)


# Entries of ILSVRC's classification challenge.
TABLE_2 = Table(
    "table2",
    "Table 2: the challenge's entries, and this run",
    (
        *_columns("team", "year", "place"),
        Column("top5_error", "top-5 error", "percent"),
        Column("top5", "95% interval", "percent interval"),
        *_columns("external_data", "source"),
        Column("data", "images"),
    ),
    (
        ("SuperVision", 2012, "1st", 16.4, None, "no", "published", "ILSVRC"),
        ("SuperVision", 2012, "1st", 15.3, None, "ImageNet 22k", "published", "ILSVRC"),
        ("Clarifai", 2013, "1st", 11.7, None, "no", "published", "ILSVRC"),
        ("Clarifai", 2013, "1st", 11.2, None, "ImageNet 22k", "published", "ILSVRC"),
        ("MSRA", 2014, "3rd", 7.35, None, "no", "published", "ILSVRC"),
        ("VGG", 2014, "2nd", 7.32, None, "no", "published", "ILSVRC"),
        ("GoogLeNet", 2014, "1st", 6.67, None, "no", "published", "ILSVRC"),
    ),
)

# Top-5 errors in percent, by models and crops: ILSVRC-2012 validation, 50,000 images.
TABLE_3 = {(1, 1): 10.07, (1, 10): 9.15, (1, 144): 7.89, (7, 1): 8.09, (7, 10): 7.62, (7, 144): 6.67}


class PublishedErrors(NamedTuple):
    """Published errors of an ensemble with some crops, on ILSVRC-2012's validation images.

    Attributes:
        protocol: The name of the protocol.
        archs: The architectures of the members, sorted, by their names in torchvision and timm.
        crops: The number of crops.
        top5_error: In percent.
        top1_error: In percent; None where it is not printed.
        source: The paper, table and row.
    """

    protocol: str
    archs: tuple[str, ...]
    crops: int
    top5_error: float
    top1_error: float | None
    source: str


_AAAI = "Szegedy et al., Inception-v4, AAAI 2017"
_VGG = "Simonyan & Zisserman, arXiv:1409.1556v6"
_RESNET = "He et al., arXiv:1512.03385"
_ONE_CROP = "table 1, without about 1,700 images of the blacklist"
_V3, _V4, _RESNET_V2 = ("inception_v3",), ("inception_v4",), ("inception_resnet_v2",)
OTHER_ERRORS = (
    PublishedErrors("inception-299", _V3, 1, 5.6, 21.2, f"{_AAAI}, {_ONE_CROP}"),
    PublishedErrors("inception-299", _V3, 12, 4.6, 19.8, f"{_AAAI}, table 2"),
    PublishedErrors("inception-299", _V3, 144, 4.3, 18.9, f"{_AAAI}, table 3"),
    PublishedErrors("inception-299", _V4, 1, 5.0, 20.0, f"{_AAAI}, {_ONE_CROP}"),
    PublishedErrors("inception-299", _V4, 12, 4.2, 18.7, f"{_AAAI}, table 2"),
    PublishedErrors("inception-299", _V4, 144, 3.8, 17.7, f"{_AAAI}, table 3"),
    PublishedErrors("inception-299", _RESNET_V2, 1, 4.9, 19.9, f"{_AAAI}, {_ONE_CROP}"),
    PublishedErrors("inception-299", _RESNET_V2, 12, 4.1, 18.7, f"{_AAAI}, table 2"),
    PublishedErrors("inception-299", _RESNET_V2, 144, 3.7, 17.8, f"{_AAAI}, table 3"),
    PublishedErrors("inception-299", 4 * _V3, 144, 3.6, 17.3, f"{_AAAI}, table 4"),
    PublishedErrors("inception-299", 3 * _RESNET_V2 + _V4, 144, 3.1, 16.4, f"{_AAAI}, table 4"),
    PublishedErrors("vgg-150", ("vgg16",), 150, 7.5, 24.6, f"{_VGG}, table 5, network D"),
    PublishedErrors("vgg-150", ("vgg19",), 150, 7.4, 24.6, f"{_VGG}, table 5, network E"),
    PublishedErrors("vgg-150", ("vgg16", "vgg19"), 150, 7.2, 23.9, f"{_VGG}, table 6, D and E"),
    PublishedErrors("resnet-10", ("resnet34",), 10, 7.46, 24.52, f"{_RESNET}, table 3, ResNet-34 B"),
    PublishedErrors("resnet-10", ("resnet50",), 10, 6.71, 22.85, f"{_RESNET}, table 3"),
    PublishedErrors("resnet-10", ("resnet101",), 10, 6.05, 21.75, f"{_RESNET}, table 3"),
    PublishedErrors("resnet-10", ("resnet152",), 10, 5.71, 21.43, f"{_RESNET}, table 3"),
)
"""Errors of other papers. Unless the source says otherwise, they are on all 50,000 images."""
_GOOGLENET = "googlenet"


@dataclass(frozen=True)
class Published:
    """Published errors beside the rows of a Table 3.

    Attributes:
        errors: By models and crops.
        of_the_paper: Whether they are the figures of the GoogLeNet paper.
    """

    errors: Mapping[tuple[int, int], PublishedErrors]
    of_the_paper: bool

    @property
    def who(self) -> str:
        """A phrase for the publisher."""
        return "the paper" if self.of_the_paper else "published"

    @property
    def sources(self) -> str:
        """A sentence that names the sources; empty for the GoogLeNet paper."""
        lines = dict.fromkeys(f"{each.crops} crops: {each.source}" for each in self.errors.values())
        return "" if self.of_the_paper or not lines else f"The published errors are from {'; '.join(lines)}."

    def columns(self) -> tuple[FilledColumn["Row"], ...]:
        """Columns with the published errors; differences from the first row are computed from these."""
        if not self.errors:
            return ()
        title = "paper" if self.of_the_paper else "published"
        columns: list[FilledColumn[PublishedErrors]] = [
            ("paper_top5_error", f"{title}, top-5", "percent", lambda each: each.top5_error)
        ]
        protocol = PROTOCOLS[next(iter(self.errors.values())).protocol]
        if base := self.errors.get((1, protocol.schemes[0])):
            base_error, versus = base.top5_error, f"{title}, vs. base"
            columns.append(("paper_compared_to_base", versus, "points", lambda each: each.top5_error - base_error))
        if any(each.top1_error is not None for each in self.errors.values()):
            columns.append(("paper_top1_error", f"{title}, top-1", "percent", lambda each: each.top1_error))
        return tuple(filled_from(lambda row: self.errors.get((row.models, row.crops)), columns))


NOTHING_PUBLISHED = Published({}, of_the_paper=False)


def published_errors(protocol: str, archs: Sequence[str], one_model: str) -> Published:
    """Return the published errors for a protocol and the architectures of an ensemble.

    The figures of the GoogLeNet paper stand beside every run of its protocol.

    Args:
        protocol: The name of the protocol.
        archs: The architectures of the members, with or without the prefix of a library.
        one_model: The architecture of the member that the rows of one model show.
    """
    if protocol == _GOOGLENET:
        errors = {
            (models, crops): PublishedErrors(protocol, (), crops, error, None, "table 3")
            for (models, crops), error in TABLE_3.items()
        }
        return Published(errors, of_the_paper=True)
    wanted = {(one_model,): 1, tuple(archs): len(archs)}
    models_of = {tuple(sorted(map(_base, names))): models for names, models in wanted.items()}
    return Published(
        {
            (models_of[each.archs], each.crops): each
            for each in OTHER_ERRORS
            if each.protocol == protocol and each.archs in models_of
        },
        of_the_paper=False,
    )


def _base(arch: str) -> str:
    """The name of an architecture without its library and its tag of weights."""
    return arch.rpartition(":")[2].partition(".")[0]


_MAP = Column("map", "mAP", "percent")
_ELSEWHERE = "Figures on other images cannot be compared."
# Entries of ILSVRC's detection challenge; question marks are the paper's.
TABLE_4 = Table(
    "table4",
    "Table 4: detection",
    (*_columns("team", "year", "place"), _MAP, *_columns("external_data", "models", "source")),
    (
        ("UvA-Euvision", 2013, "1st", 22.6, "none", "?", "the paper"),
        ("Deep Insight", 2014, "3rd", 40.5, "ImageNet 1k", "3", "the paper"),
        ("CUHK DeepID-Net", 2014, "2nd", 40.7, "ImageNet 1k", "?", "the paper"),
        ("GoogLeNet", 2014, "1st", 43.9, "ImageNet 1k", "6", "the paper"),
    ),
    (_ELSEWHERE,),
)
TABLE_5 = Table(
    "table5",
    "Table 5: detection with a single model",
    (*_columns("team"), _MAP, *_columns("contextual_model", "box_regression", "source")),
    (
        ("Trimps-Soushen", 31.6, "no", "?", "the paper"),
        ("Berkeley Vision", 34.5, "no", "yes", "the paper"),
        ("UvA-Euvision", 35.4, "?", "?", "the paper"),
        ("CUHK DeepID-Net2", 37.7, "no", "?", "the paper"),
        ("GoogLeNet", 38.02, "no", "no", "the paper"),
        ("Deep Insight", 40.2, "yes", "yes", "the paper"),
    ),
    (_ELSEWHERE, "The paper's text says 40% for a single model where its Table 5 says 38.02%."),
)


def among(published: Table, ours: tuple[Any, ...], key: str, *, falling: bool = False) -> Table:
    """A table of the paper with a row of our own in the order of a column; equal figures come after ours."""
    at = [column.key for column in published.columns].index(key)
    rows = sorted((ours, *published.rows), key=itemgetter(at), reverse=falling)
    return replace(published, rows=tuple(rows))


# Parameters and multiply-adds of Table 1's rows, by the first stage of each row; K is 1024, M a million.
TABLE_1 = {
    "conv1": ("2.7K", "34M"),
    "conv2": ("112K", "360M"),
    "inception3a": ("159K", "128M"),
    "inception3b": ("380K", "304M"),
    "inception4a": ("364K", "73M"),
    "inception4b": ("437K", "88M"),
    "inception4c": ("463K", "100M"),
    "inception4d": ("580K", "119M"),
    "inception4e": ("840K", "170M"),
    "inception5a": ("1072K", "54M"),
    "inception5b": ("1388K", "71M"),
    "fc": ("1000K", "1M"),
}

CLAIMED_MULTIPLY_ADDS = 1.5e9
CLAIMED_TIMES_FEWER = 12

# AlexNet (Krizhevsky et al. 2012), layer by layer: kernel, inputs per group, outputs. Two groups where the
# two GPUs did not exchange data; the fully connected layers are kernels of size 1.
ALEXNET_LAYERS = (
    (11, 3, 96),
    (5, 48, 256),
    (3, 256, 384),
    (3, 192, 384),
    (3, 192, 256),
    (1, 256 * 6 * 6, 4096),
    (1, 4096, 4096),
    (1, 4096, 1000),
)
