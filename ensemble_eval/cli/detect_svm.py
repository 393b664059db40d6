"""`ensemble-eval detect-svm`."""

from pathlib import Path
from typing import Any

import click

from ensemble_eval.cli.options import PATH, command, options_of, settings_from
from ensemble_eval.cli.output import say
from ensemble_eval.settings import SvmSettings


@command("ensemble-eval detect-svm train/ --proposals found --boxes boxes.json", "detect-svm")
@click.argument("dataset", type=PATH)
@options_of(SvmSettings)
def detect_svm(dataset: Path, **options: Any) -> None:
    """Train R-CNN's classifiers, one linear SVM a class, on the images of DATASET.

    They are the other way from a region to class scores: `detect --svm FILE` adds rows for them. This needs the
    extra [detection].
    """
    from rich.console import Console

    from ensemble_eval.cli.progress import progress_updates
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.detection.svm import save_svm, train_svm
    from ensemble_eval.members.manifest import open_ensemble

    settings = settings_from(SvmSettings, options)
    classifiers = open_ensemble(settings.ensemble)
    images = open_dataset(dataset, classifiers.classes, "none")
    with progress_updates(Console(stderr=True, markup=False), len(images.items)) as update:
        save_svm(settings.out, train_svm(classifiers, images, settings, update))
    say(f"written to {settings.out}")
