"""`ensemble-eval detect-svm`."""

import contextlib
from pathlib import Path

import click

from ensemble_eval.cli.options import PATH, detection_options, option_of
from ensemble_eval.cli.output import say
from ensemble_eval.settings import Settings


@click.command("detect-svm")
@detection_options
@click.option("--boxes", type=PATH, required=True, help="Annotations: COCO's JSON, or a folder of XML files.")
@click.option("--out", type=PATH, default=Path("svm.safetensors"), show_default=True, help="File for the SVMs.")
@click.option("--regions", type=int, default=64, show_default=True, help="Proposals of an image to learn from.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw of these.")
@option_of(Settings, "device")
def detect_svm(
    dataset: Path,
    proposals: Path,
    ensemble: Path,
    boxes: Path,
    out: Path,
    regions: int,
    seed: int,
    device: str,
) -> None:
    """Train R-CNN's classifiers, one linear SVM a class, on the images of DATASET.

    They are the other way from a region to class scores: `detect --svm FILE` adds rows for them. This needs the
    extra [detection].
    """
    from rich.console import Console

    from ensemble_eval.cli.progress import counted
    from ensemble_eval.datasets.boxes import read_boxes
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.detection.proposals import StoredProposals
    from ensemble_eval.detection.regions import object_classes
    from ensemble_eval.detection.svm import RegionSvm, save_svm
    from ensemble_eval.detection.svm_training import train_svm
    from ensemble_eval.members.manifest import open_ensemble

    classifiers = open_ensemble(ensemble)
    images = open_dataset(dataset, classifiers.classes, "none")
    objects = read_boxes(boxes, object_classes(classifiers), [item.id for item in images.items])
    stored = StoredProposals(proposals, images)
    job = train_svm(classifiers, images, objects, stored, regions_per_image=regions, seed=seed, device=device)
    with (
        contextlib.closing(job) as events,
        counted(Console(stderr=True, markup=False), "features", "images", len(images.items)) as on_progress,
    ):
        for event in events:
            if isinstance(event, RegionSvm):
                save_svm(out, event)
            else:
                on_progress(event.done, event.total)
    say(f"written to {out}")
