"""Figures that the paper prints (Szegedy et al., CVPR 2015): its tables and two claims."""

from typing import TYPE_CHECKING, NamedTuple

from ensemble_eval.tables.table import FilledColumn

if TYPE_CHECKING:
    from ensemble_eval.scoring.table3 import Row


class PublishedEntry(NamedTuple):
    """A row of Table 2: an entry of ILSVRC's classification challenge."""

    team: str
    year: int
    place: str
    top5_error_percent: float
    external_data: str


class PublishedDetection(NamedTuple):
    """A row of Table 4: an entry of ILSVRC's detection challenge; a question mark is the paper's."""

    team: str
    year: int
    place: str
    map_percent: float
    external_data: str
    models: str


class PublishedSingleModel(NamedTuple):
    """A row of Table 5: detection with a single model; a question mark is the paper's."""

    team: str
    map_percent: float
    contextual_model: str
    box_regression: str


TABLE_2 = (
    PublishedEntry("SuperVision", 2012, "1st", 16.4, "no"),
    PublishedEntry("SuperVision", 2012, "1st", 15.3, "ImageNet 22k"),
    PublishedEntry("Clarifai", 2013, "1st", 11.7, "no"),
    PublishedEntry("Clarifai", 2013, "1st", 11.2, "ImageNet 22k"),
    PublishedEntry("MSRA", 2014, "3rd", 7.35, "no"),
    PublishedEntry("VGG", 2014, "2nd", 7.32, "no"),
    PublishedEntry("GoogLeNet", 2014, "1st", 6.67, "no"),
)

# Top-5 errors in percent, by models and crops: ILSVRC-2012 validation, 50,000 images.
TABLE_3 = {(1, 1): 10.07, (1, 10): 9.15, (1, 144): 7.89, (7, 1): 8.09, (7, 10): 7.62, (7, 144): 6.67}

TABLE_3_COLUMNS: tuple[FilledColumn["Row"], ...] = (
    ("paper_top5_error", "paper, top-5", "percent", lambda row: TABLE_3.get((row.models, row.crops))),
    ("paper_compared_to_base", "paper, to base", "points", lambda row: _published_difference(row)),
)
"""Columns with the figures of the paper for Table 3; differences are computed from its errors."""

TABLE_4 = (
    PublishedDetection("UvA-Euvision", 2013, "1st", 22.6, "none", "?"),
    PublishedDetection("Deep Insight", 2014, "3rd", 40.5, "ImageNet 1k", "3"),
    PublishedDetection("CUHK DeepID-Net", 2014, "2nd", 40.7, "ImageNet 1k", "?"),
    PublishedDetection("GoogLeNet", 2014, "1st", 43.9, "ImageNet 1k", "6"),
)

TABLE_5 = (
    PublishedSingleModel("Trimps-Soushen", 31.6, "no", "?"),
    PublishedSingleModel("Berkeley Vision", 34.5, "no", "yes"),
    PublishedSingleModel("UvA-Euvision", 35.4, "?", "?"),
    PublishedSingleModel("CUHK DeepID-Net2", 37.7, "no", "?"),
    PublishedSingleModel("GoogLeNet", 38.02, "no", "no"),
    PublishedSingleModel("Deep Insight", 40.2, "yes", "yes"),
)

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


def _published_difference(row: "Row") -> float | None:
    published = TABLE_3.get((row.models, row.crops))
    return None if published is None else published - TABLE_3[1, 1]
