"""Image data sets: one reader per layout, each giving the same `Dataset` of (id, label, file)."""

from ensemble_eval.datasets.class_folders import open_class_folders
from ensemble_eval.datasets.items import Dataset, Item
from ensemble_eval.datasets.labelled_files import open_labelled_files
from ensemble_eval.datasets.opening import open_dataset

__all__ = ["Dataset", "Item", "open_class_folders", "open_dataset", "open_labelled_files"]
