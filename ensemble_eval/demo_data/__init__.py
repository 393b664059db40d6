"""Pictures that the package draws itself: 64 classes, labelled, the same pixels from the same seed."""

from ensemble_eval.demo_data.classes import CLASS_NAMES, CLASSES, ClassCues
from ensemble_eval.demo_data.difficulty import Difficulty
from ensemble_eval.demo_data.pictures import SPLITS, Picture, Split, draw_picture
from ensemble_eval.demo_data.writing import DrawnDataset, draw_dataset

__all__ = [
    "CLASSES",
    "CLASS_NAMES",
    "SPLITS",
    "ClassCues",
    "Difficulty",
    "DrawnDataset",
    "Picture",
    "Split",
    "draw_dataset",
    "draw_picture",
]
