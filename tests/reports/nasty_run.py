"""A stored run whose images, members and classes are named to break a page, with pictures for its gallery."""

from dataclasses import replace
from pathlib import Path

from builders import CLASS_NAMES, colour_classifier, encoded, picture, write_dataset
from simulated_runs import simulated_scores, stored_run

import ensemble_eval as ee
from ensemble_eval.reports.api import Results

CLASSES = (
    "<script>alert(1)</script>",
    "quoted \"a\" & 'b'",
    r"\input{x} $x_1^2$ 50% #~",
    "кот",
    "猫と犬",
    "قطة",
    "a | pipe, `code` and *stars*",
)
FOLDERS = ("<b>bold", "am&p;", "tex_$%#{}", "кошки", "猫", "قطط", "a b")


def nasty_run(out: Path, images: int = 60, members: int = 3) -> Results:
    """Results of drawn scores, the images in one folder for each class."""
    scores = [
        replace(each, id=f"{FOLDERS[each.label]}/{position:03}<i>.png")
        for position, each in enumerate(simulated_scores(images, members))
    ]
    return stored_run(out, scores)


def surface_run(root: Path, members: int = 3) -> Results:
    """Results of a run that kept every rank, of members that classify by colour."""
    named = [ee.Member(f"m{n}", predict=colour_classifier(n), fingerprint=f"{n}") for n in range(members)]
    ensemble = ee.Ensemble(named, list(CLASS_NAMES))
    dataset, out = ee.open_dataset(write_dataset(root / "images"), ensemble.classes), root / "out"
    ee.evaluate(ensemble, dataset, crops=144, surface=True, device="cpu", batch_size=16, out=out)
    return ee.read_results(out)


def write_pictures(root: Path, results: Results) -> Path:
    """A small picture for every image of a run."""
    for seed, image in enumerate(results.images):
        path = root / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(48 + seed % 9, 40, seed)))
    return root
