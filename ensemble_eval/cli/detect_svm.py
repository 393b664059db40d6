"""`ensemble-eval detect-svm`."""

import contextlib
from pathlib import Path

import click

from ensemble_eval.cli.options import PATH
from ensemble_eval.cli.output import say


@click.command("detect-svm")
@click.argument("dataset", type=PATH)
@click.option("--boxes", type=PATH, required=True, help="Annotations: COCO's JSON, or a folder of XML files.")
@click.option("--proposals", type=PATH, required=True, help="What `propose` wrote for DATASET.")
@click.option(
    "--ensemble",
    type=PATH,
    default=Path("manifests/detection.toml"),
    show_default=True,
    help="Region classifiers; the first member gives the features.",
)
@click.option("--out", type=PATH, default=Path("svm.safetensors"), show_default=True, help="File for the SVMs.")
@click.option("--regions", type=int, default=64, show_default=True, help="Proposals of an image to learn from.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw of these.")
def detect_svm(
    dataset: Path, boxes: Path, proposals: Path, ensemble: Path, out: Path, regions: int, seed: int
) -> None:
    """Train R-CNN's classifiers, one linear SVM a class, on the images of DATASET.

    They are the other way from a region to class scores: `detect --svm FILE` adds rows for them. This needs the
    extra [detection].
    """
    from rich.console import Console

    from ensemble_eval.cli.progress import counted
    from ensemble_eval.datasets.boxes import read_boxes
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.detection.proposals import read_proposals
    from ensemble_eval.detection.svm import RegionSvm, names_of, save_svm
    from ensemble_eval.detection.svm_training import train_svm
    from ensemble_eval.members.opening import open_ensemble

    classifiers = open_ensemble(ensemble)
    images = open_dataset(dataset, classifiers.classes, "none")
    objects = read_boxes(boxes, names_of(classifiers), [item.id for item in images.items])
    job = train_svm(classifiers, images, objects, read_proposals(proposals), regions_per_image=regions, seed=seed)
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
