import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Cli
from drawn_boxes import Drawn, draw, outcome_of
from PIL import Image
from torchvision.ops import box_iou

from ensemble_eval.datasets.boxes import read_boxes
from ensemble_eval.detection.multibox import save_multibox
from ensemble_eval.detection.proposals import StoredProposals
from ensemble_eval.detection.proposing import Proposed, ProposeJob
from ensemble_eval.detection.selective_search import DOUBLED, RCNN, selective_search
from ensemble_eval.errors import InputError
from ensemble_eval.jobs.job import Finished
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.jobs.runner import run_alone
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.settings import ProposeSettings
from ensemble_eval.store.in_use import in_use

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def multibox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "multibox.safetensors"
    save_multibox(path, MultiBox([[(0.2, 0.2)], [(0.5, 0.4)]], 0.05).eval(), 0.05)
    return path


def _settings(out: Path, multibox: Path, **changed: Any) -> ProposeSettings:
    return ProposeSettings(out=out, multibox=multibox, multibox_boxes=20, workers=1, **changed)


def _all(drawn: Drawn, settings: ProposeSettings) -> Proposed:
    return outcome_of(ProposeJob(drawn.opened(), settings))


def _stored(out: Path, drawn: Drawn) -> dict[tuple[str, str], bytes]:
    return {
        (image, name): each.boxes.tobytes() + each.scores.tobytes()
        for image, sets in StoredProposals(out, drawn.opened()).items()
        for name, each in sets.items()
    }


def test_selective_search_and_multibox_are_stored(drawn: Drawn, multibox: Path, tmp_path: Path) -> None:
    finished = _all(drawn, _settings(tmp_path, multibox))
    assert finished.failed == ()
    found = StoredProposals(tmp_path, drawn.opened())
    for name in ("rcnn", "multibox"):
        counts = [len(found[image][name].boxes) for image in drawn.objects]
        assert finished.boxes[name] == pytest.approx(sum(counts) / 6)
    for item in drawn.opened().items:
        pixels = np.asarray(Image.open(drawn.root / item.id).convert("RGB"))
        for name, setting in (("rcnn", RCNN), ("doubled", DOUBLED)):
            np.testing.assert_array_equal(found[item.id][name].boxes, selective_search(pixels, setting))
        boxes, scores = found[item.id]["multibox"].boxes, found[item.id]["multibox"].scores
        height, width, _ = pixels.shape
        assert 0 < len(boxes) <= 20
        assert (np.diff(scores) <= 0).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width + 1e-3).all()
        assert (boxes[:, 3] <= height + 1e-3).all()
        fractions = torch.from_numpy(boxes / [width, height, width, height])
        overlaps = box_iou(fractions, fractions)
        assert float((overlaps - 2 * torch.eye(len(boxes))).max()) <= 0.7501


def test_stopped_and_continued_or_in_ranks_the_proposals_are_the_same(
    drawn: Drawn, multibox: Path, tmp_path: Path
) -> None:
    _all(drawn, _settings(tmp_path / "whole", multibox))
    for stop_after in (2, 9):
        cut = ProposeJob(drawn.opened(), _settings(tmp_path / "cut", multibox))
        with contextlib.closing(run_alone(cut)) as events:
            for _ in range(stop_after):
                next(events)
        assert not list((tmp_path / "cut" / "proposals").glob("*.json"))
    _all(drawn, _settings(tmp_path / "cut", multibox))
    assert _stored(tmp_path / "cut", drawn) == _stored(tmp_path / "whole", drawn)
    for rank in (2, 1, 0):
        job = ProposeJob(drawn.opened(), _settings(tmp_path / "ranks", multibox))
        told = list(run_alone(job, Process(rank, 3, session="s", role=Role.RANK)))
        assert isinstance(told[-1], Finished) if rank == 0 else told == []
    assert _stored(tmp_path / "ranks", drawn) == _stored(tmp_path / "whole", drawn)
    with pytest.raises(InputError, match="`fresh=True` could remove what another process has just written"):
        outcome_of(
            ProposeJob(drawn.opened(), _settings(tmp_path / "ranks", multibox, fresh=True)),
            Process(0, 3, session="s", role=Role.RANK),
        )
    with pytest.raises(InputError, match=r"belongs to another run \(multibox_boxes 20, now 21\)"):
        _all(drawn, replace(_settings(tmp_path / "whole", multibox), multibox_boxes=21))
    fresh = replace(_settings(tmp_path / "whole", multibox), multibox_boxes=21, fresh=True)
    with in_use(tmp_path / "whole", alone=False), pytest.raises(InputError, match=f"process {os.getpid()} on"):
        _all(drawn, fresh)
    _all(drawn, fresh)


def test_sets_are_added_to_those_that_are_there(drawn: Drawn, multibox: Path, tmp_path: Path) -> None:
    _all(drawn, _settings(tmp_path, multibox, sets=("rcnn",)))
    before = _stored(tmp_path, drawn)
    _all(drawn, _settings(tmp_path, multibox, sets=("multibox",)))
    assert _stored(tmp_path, drawn).items() > before.items()
    assert {name for _, name in _stored(tmp_path, drawn)} == {"rcnn", "multibox"}
    job = ProposeJob(drawn.opened(), _settings(tmp_path, multibox, sets=("multibox",), fresh=True))
    with contextlib.closing(run_alone(job)) as events:
        next(events)
    # What was not asked for again is still there, and the set that was is not finished.
    assert _stored(tmp_path, drawn) == before


def test_the_command_names_what_failed_and_says_the_coverage(cli: Cli, tmp_path: Path) -> None:
    drawn = draw(tmp_path)
    arguments = ("propose", drawn.root, "--sets", "rcnn,doubled", "--workers", 1)
    done = cli(*arguments, "--out", tmp_path / "out", "--boxes", drawn.boxes)
    assert done.code == 0
    assert "rcnn: " in done.out
    table = pd.read_csv(tmp_path / "out" / "coverage.csv")
    budgets = [1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 10_000]
    assert table.query("proposals == 'rcnn'")["boxes"].tolist() == budgets
    # Pure squares on grey are what selective search finds best.
    assert table.query("proposals == 'rcnn'")["coverage"].iloc[-1] == 1
    svg = (tmp_path / "out" / "coverage.svg").read_text()
    assert "rcnn (" in svg
    assert "doubled (" in svg
    assert (tmp_path / "out" / "coverage.png").read_bytes().startswith(b"\x89PNG")
    objects = read_boxes(drawn.boxes, ("red", "green", "blue"), list(drawn.objects))
    assert table["objects"].iloc[0] == sum(len(each.boxes) for each in objects.values())
    (drawn.root / "pictures" / "bad.png").write_bytes(b"no image")
    failed = cli(*arguments, "--out", tmp_path / "other")
    assert failed.code == 3
    assert "pictures/bad.png has no proposals of rcnn: not an image" in failed.err
    assert (tmp_path / "other" / "unreadable.csv").read_text().count("bad.png") == 2
    accepted = cli(*arguments, "--out", tmp_path / "other", "--unreadable-ok")
    assert accepted.code == 0
    assert "pictures/bad.png has no proposals of rcnn: not an image" in accepted.err


def test_boxes_of_a_file_are_a_set(cli: Cli, drawn: Drawn, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"image": ["pictures/0.png"] * 2 + ["pictures/1.png"], "left": [1, 2, 3], "top": [1, 2, 3]}
    )
    rows = rows.assign(right=[9, 10, 11.5], bottom=[9, 10, 11], score=[0.1, 0.9, 0.5])
    rows.to_csv(tmp_path / "boxes.csv", index=False)
    rows.to_parquet(tmp_path / "boxes.parquet")
    for name in ("boxes.csv", "boxes.parquet"):
        out = tmp_path / name.replace(".", "-")
        assert cli("propose", drawn.root, "--sets", "", "--from-file", tmp_path / name, "--out", out).code == 0
        found = StoredProposals(out, drawn.opened())
        np.testing.assert_array_equal(found["pictures/0.png"]["file"].boxes, [[2, 2, 10, 10], [1, 1, 9, 9]])
        assert len(found["pictures/5.png"]["file"].boxes) == 0


def test_settings_that_cannot_be_are_refused(tmp_path: Path, drawn: Drawn) -> None:
    for settings, sentence in (
        ({"sets": ("rcn",)}, "`sets` is one of 'rcnn', 'doubled', 'multibox', not 'rcn'"),
        ({"sets": ("multibox",)}, "the set multibox needs `multibox`"),
        ({"sets": ()}, "`sets` is empty"),
        ({"sets": ("rcnn",), "workers": 0}, "`workers` is a whole number of at least 1, not 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            ProposeSettings(out=tmp_path, **settings)
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no.safetensors cannot be read"):
        _all(drawn, ProposeSettings(out=tmp_path / "o", sets=("multibox",), multibox=tmp_path / "no.safetensors"))
