from pathlib import Path

import numpy as np
import pytest
from drawn_boxes import draw, some_proposals, store_proposals

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection import proposing
from ensemble_eval.detection.proposals import Proposals, StoredProposals, sets_of, united
from ensemble_eval.errors import InputError
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.settings import ProposeSettings


def test_proposals_come_back_as_they_were_stored(tmp_path: Path) -> None:
    drawn = draw(tmp_path)
    sets = {"rcnn": some_proposals(drawn, 1), "doubled": some_proposals(drawn, 2)}
    found = StoredProposals(store_proposals(tmp_path / "p", drawn.opened(), sets), drawn.opened())
    assert len(found) == 6
    assert set(found) == set(drawn.objects)
    for image, of_image in found.items():
        assert set(of_image) == {"rcnn", "doubled"}
        np.testing.assert_array_equal(of_image["doubled"].boxes, sets["doubled"][image].boxes)


def test_a_union_has_each_box_once_and_keeps_the_order() -> None:
    one = np.array([[1.0, 2, 9, 9], [3, 3, 5, 8]])
    other = np.array([[3.2, 2.9, 5.1, 8.0], [0, 0, 4, 4]])
    sets = {"rcnn": Proposals(one, np.zeros(2)), "doubled": Proposals(other, np.ones(2))}
    joined = united(sets, ["rcnn", "doubled"])
    np.testing.assert_array_equal(joined.boxes, [one[0], one[1], other[1]])
    np.testing.assert_array_equal(joined.scores, [0, 0, 1])


def test_the_configurations_are_those_of_section_8() -> None:
    assert sets_of(["rcnn", "doubled", "multibox"]) == [("rcnn",), ("doubled",), ("doubled", "multibox")]
    assert sets_of(["multibox", "file"]) == [("file",), ("multibox",)]


def test_what_is_unfinished_or_damaged_is_refused(tmp_path: Path) -> None:
    drawn = draw(tmp_path)
    with pytest.raises(InputError, match="holds no finished proposals; run `ensemble-eval propose` to its end"):
        StoredProposals(tmp_path, drawn.opened())
    sets = {name: some_proposals(drawn, 1) for name in ("rcnn", "doubled")}
    folder = store_proposals(tmp_path / "p", drawn.opened(), sets)
    [part] = (folder / "proposals" / "rcnn").iterdir()
    data = part.read_bytes()
    part.write_bytes(data[:-9])
    with pytest.raises(InputError, match="has lost some of its proposals"):
        StoredProposals(folder, drawn.opened())
    part.write_bytes(data)
    assert len(StoredProposals(folder, drawn.opened())) == 6
    for text in ("{", "[]", '{"key": 1}', '{"key": {"images": 6}}'):
        (folder / "proposals" / "rcnn.json").write_text(text)
        with pytest.raises(
            InputError, match="is not readable, or an earlier version of ensemble-eval wrote it; remove it,"
        ):
            StoredProposals(folder, drawn.opened())


def test_the_best_boxes_of_an_image_count_first() -> None:
    """With one box of each image the object is found if the surest box is taken, and not the first."""
    far, near = [500.0, 500, 600, 600], [0.0, 0, 100, 90]
    boxes = {"a.png": {"file": Proposals(np.array([far, near, far]), np.array([0.1, 0.9, 0.5]))}}
    none = np.zeros(1, bool)
    objects = {"a.png": Objects(np.array([[0.0, 0, 100, 100]]), np.zeros(1, np.int64), none, none)}
    [(name, found)] = proposing.coverage_of_sets(boxes, objects, ["file"]).items()
    assert (name, found.budgets[0], found.at_half[0], found.objects) == ("file", 1, 1.0, 1)


def test_an_image_without_proposals_has_a_reason_and_nothing_else() -> None:
    nothing = proposing._nothing("damaged")
    assert (nothing.boxes.shape, nothing.scores.shape, nothing.reason) == ((0, 4), (0,), "damaged")


@pytest.mark.parametrize(("asked", "sharing", "workers"), [(3, 2, 3), (None, 2, 4), (None, 1, 8), (None, 9, 1)])
def test_a_rank_searches_with_its_share_of_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None, sharing: int, workers: int
) -> None:
    monkeypatch.setattr(proposing, "usable_processors", lambda: 8)
    monkeypatch.setattr(proposing, "require_opencv", lambda: None)
    settings = ProposeSettings(out=tmp_path, sets=("rcnn",), workers=asked)
    job = proposing.ProposeJob(Dataset.of([("a.png", 0, b"")]), settings)
    worker = job.start(Process(sharing=sharing), StopRequests())
    assert isinstance(worker, proposing._ProposeWorker)
    assert worker._workers == workers
