"""Stored runs whose scores are drawn, not computed by networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from builders import CLASS_NAMES, member_key, run_key

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.reports.api import Results, read_results
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

SCHEMES = (1, 10)


def simulated_scores(
    images: int, members: int, seed: int = 0, classes: int = len(CLASS_NAMES)
) -> list[ImageScores]:
    """Images of which about half are right, with ties between classes and members that resemble each other."""
    rng = np.random.default_rng(seed)
    classes = len(CLASS_NAMES)
    labels = rng.integers(classes, size=images)
    logits = np.round(rng.normal(size=(images, 1, classes)) + rng.normal(size=(images, members, classes)), 1)
    logits[np.arange(images), :, labels] += 1
    found = []
    for image in range(images):
        means = {}
        for scheme in SCHEMES:
            noise = np.round(rng.normal(size=(members, classes)) / scheme, 1)
            powers = np.exp(logits[image] + noise)
            means[scheme] = powers / powers.sum(axis=1, keepdims=True)
        found.append(ImageScores(f"{image:03}.png", int(labels[image]), means, passes=members * SCHEMES[-1]))
    return found


def stored_run(
    out: Path,
    scores: Sequence[ImageScores],
    *,
    keeps_scores: bool = True,
    of_images: int | None = None,
    part_images: int = 7,
    scope: Scope = Scope(),  # noqa: B008 (it is frozen)
    labels: Mapping[str, Sequence[int]] | None = None,
    names: Sequence[str] = "abcdefghijklm",
) -> Results:
    """The results of a run with these scores, its images in parts and in no order.

    `labels` are several by image, for a scope that has them.
    """
    members = [member_key(name) for name in names[: len(scores[0].mean_softmax[1])]]
    key = run_key(
        images=of_images or len(scores),
        crops=SCHEMES[-1],
        scores=keeps_scores,
        members=tuple(members),
        scope=scope,
    )
    known = labels or {}
    shuffled = [scores[each] for each in np.random.default_rng(9).permutation(len(scores))]
    for start in range(0, len(shuffled), part_images):
        some = shuffled[start : start + part_images]
        rows = [row for each in some for row in rows_of(each, key, known.get(each.id, (each.label,)))]
        Store(out, RUN, key).write(Part(rows, [each.id for each in some]))
    return read_results(out)


def decided_run(out: Path, results: Results, *, knows_top1: bool) -> Results:
    """The decisions of a run, stored as if it had stopped when decided: top-1 with one crop in any case."""
    key = run_key(
        images=results.key.images, crops=SCHEMES[-1], members=results.key.members, until_decided=("top-5",)
    )
    frame = results.predictions(["image", "member", "crops", "label", "rank"])
    frame["top5_correct"] = frame["rank"] < 5
    frame["top1_correct"] = (frame["rank"] < 1).where(knows_top1 | (frame["crops"] == 1), None)
    rows = [
        {str(name): value for name, value in row.items()} for row in frame.drop(columns="rank").to_dict("records")
    ]
    Store(out, RUN, key).write(Part(rows, list(results.images)))
    return read_results(out)
