"""A whole job of another kind, the mean grey level of each image: what the store and the runner give it."""

import contextlib
import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch
from builders import PICTURE_SIZES, encoded, picture

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.items import FileItem
from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.engine.pool import UnreadableImage
from ensemble_eval.errors import InputError, LateRanksError, UnreadableImageError
from ensemble_eval.jobs import runner
from ensemble_eval.jobs.job import Finished, ImageRows, Job, Notice, Opened, Progress
from ensemble_eval.jobs.process import Process, Role, shard_positions
from ensemble_eval.jobs.runner import run_alone
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.settings import DistributedSettings
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.key import Key
from ensemble_eval.store.parts import Format, Part
from ensemble_eval.store.status import read_status
from ensemble_eval.store.store import Store
from ensemble_eval.tables.table import Table

IMAGES = len(PICTURE_SIZES)


class GreyKey(Key):
    last_file = "grey.csv"


GREY = Format("grey", GreyKey, lambda _: pa.schema([("image", pa.string()), ("grey", pa.float64())]))


class GreyJob(Job[DistributedSettings, Path]):
    def __init__(self, dataset: Path, out: Path, timeout: float = 60.0) -> None:
        images = open_dataset(dataset, ["any"], "none")
        self.settings = DistributedSettings(out=out, device="cpu", save_every=0, timeout=timeout)
        key = GreyKey(dataset=images.sha256, images=len(images.items))
        self.folders = (Folder(Store(out, GREY, key), images),)

    def check(self, ranks: int) -> Sequence[str]:  # noqa: ARG002 (the interface has it)
        return ()

    def start(self, process: Process, stop: StopRequests) -> "GreyWorker":  # noqa: ARG002 (as above)
        return GreyWorker()

    def describe(self, hardware: str) -> Sequence[str]:
        return (f"grey levels on {hardware}",)

    def finish(self) -> Path:
        table = self.settings.out / "grey.csv"
        self.folders[0].store.frame(["image", "grey"]).to_csv(table, index=False)
        return table


class GreyWorker:
    device, batch_size = torch.device("cpu"), 1

    def notices(self) -> list[str]:
        return []

    def results(
        self, folder: Folder[GreyKey], positions: Sequence[int]
    ) -> Generator[ImageRows | UnreadableImage, None, None]:
        for item in (folder.dataset.items[position] for position in positions):
            try:
                grey = float(pixels.decode(item.read()).float().mean())
                yield ImageRows(item.id, [{"image": item.id, "grey": grey}])
            except UnreadableImageError as error:
                yield UnreadableImage(item.id, str(error))


def grey_levels(job: GreyJob, process: Process | None = None) -> bytes:
    *_, last = run_alone(job, process or Process())
    assert isinstance(last, Finished)
    return last.outcome.read_bytes()


def test_stopped_and_continued_or_in_ranks_the_table_is_the_same(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_POLL_FOLDERS_SECONDS", 0.05)
    expected = grey_levels(GreyJob(dataset, tmp_path / "whole"))
    assert pd.read_csv(tmp_path / "whole" / "grey.csv")["grey"].between(1, 254).sum() == IMAGES
    with contextlib.closing(run_alone(GreyJob(dataset, tmp_path / "cut"))) as events:
        for _ in range(3):
            next(events)
    assert 0 < read_status(tmp_path / "cut", GREY).done < IMAGES
    assert grey_levels(GreyJob(dataset, tmp_path / "cut")) == expected
    ranks = [Process(rank, 3, session="s", role=Role.RANK) for rank in range(3)]
    assert [list(run_alone(GreyJob(dataset, tmp_path / "ranks"), rank)) for rank in ranks[1:]] == [[], []]
    assert grey_levels(GreyJob(dataset, tmp_path / "ranks"), ranks[0]) == expected
    with pytest.raises(LateRanksError, match="rank 1 of 2 has stored nothing for 1 s"):
        grey_levels(GreyJob(dataset, tmp_path / "late", 0.6), Process(0, 2, session="s", role=Role.RANK))


def _pods(count: int) -> list[Process]:
    return [Process(index, count, session="s", role=Role.POD) for index in range(count)]


def _ended(job: GreyJob, process: Process) -> tuple[bool, list[str]]:
    """Run a pod to its end; give whether it wrote the tables, and its notices."""
    events = list(run_alone(job, process))
    notices = [event.sentence for event in events if isinstance(event, Notice)]
    return any(isinstance(event, Finished) for event in events), notices


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_pod_that_finds_nothing_missing_writes_the_table_and_none_waits(
    dataset: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    expected = grey_levels(GreyJob(dataset, tmp_path / "whole"))
    job, pods = GreyJob(dataset, tmp_path / "pods", timeout=1), _pods(3)
    *early, last = [_ended(job, pods[index]) for index in order]
    told = ["this pod is done, but others are not; the last one to finish writes the tables"]
    assert early == [(False, told if index == 0 else []) for index in order[:-1]]
    assert last == (True, [])
    assert (tmp_path / "pods" / "grey.csv").read_bytes() == expected


def test_a_pod_that_replaces_one_that_died_on_the_last_step_writes_the_table(
    dataset: Path, tmp_path: Path
) -> None:
    job, pods = GreyJob(dataset, tmp_path), _pods(3)
    assert [_ended(job, pod)[0] for pod in pods] == [False, False, True]
    (tmp_path / "grey.csv").unlink()
    assert _ended(job, pods[2])[0]
    # Of a job that is started again when all is done, one pod is enough.
    assert [_ended(job, pod)[0] for pod in pods] == [True, False, False]
    # What a pod has stored itself is not in the table yet.
    for part in (tmp_path / "grey").glob("part-*"):
        if pd.read_parquet(part)["image"].isin(_shard(job, pods[2])).any():
            part.unlink()
    assert [_ended(job, pod)[0] for pod in (pods[1], pods[2])] == [False, True]


def _shard(job: GreyJob, process: Process) -> list[str]:
    [folder] = job.folders
    positions = shard_positions(len(folder.images), process.world_size, process.session)[process.rank]
    return [folder.images[position] for position in positions]


def test_of_several_pods_only_the_first_tries_unreadable_images_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: FileItem) -> bytes:
        raise UnreadableImageError("the drive is away")

    pods = _pods(2)
    with monkeypatch.context() as patched:
        patched.setattr(FileItem, "read", unreadable)
        assert [_ended(GreyJob(dataset, tmp_path), pod)[0] for pod in pods] == [False, True]
    assert read_status(tmp_path, GREY).unreadable == IMAGES
    assert [_ended(GreyJob(dataset, tmp_path), pod)[0] for pod in pods[::-1]] == [False, True]
    assert len(pd.read_csv(tmp_path / "grey.csv")) == IMAGES


def _pictures(folder: Path, *contents: bytes) -> Path:
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number}.png").write_bytes(content)
    return folder


GOOD = encoded(picture(8, 6))


def test_every_image_is_told_as_it_is_done_and_what_is_not_due_is_not_done_again(tmp_path: Path) -> None:
    pictures, out = _pictures(tmp_path / "pictures", GOOD, b"no image", GOOD), tmp_path / "out"
    opened, *progress, finished = run_alone(GreyJob(pictures, out))
    assert opened == Opened(("grey levels on cpu",), 0, 3, GreyJob.units)
    assert progress == [Progress(1, 3, 0, 0), Progress(2, 3, 0, 1), Progress(3, 3, 0, 1)]
    assert isinstance(finished, Finished)
    # The image that was unreadable is tried again.
    opened, *progress, finished = run_alone(GreyJob(pictures, out))
    assert opened == Opened(("grey levels on cpu",), 2, 3, GreyJob.units)
    assert progress == [Progress(3, 3, 0, 1)]
    assert GreyJob(pictures, out).folders[0].store.open().all_passes == 0


def test_the_rank_that_reports_counts_what_all_have_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_POLL_FOLDERS_SECONDS", 0.0)
    pictures, out = _pictures(tmp_path / "pictures", *[GOOD] * 4, b"no image", b"no image"), tmp_path / "out"
    ranks = [Process(rank, 2, session="s", role=Role.RANK) for rank in range(2)]
    assert list(run_alone(GreyJob(pictures, out), ranks[1])) == []
    before = read_status(out, GREY)
    assert before.done + before.unreadable == 3
    opened, *progress, _ = run_alone(GreyJob(pictures, out), ranks[0])
    assert opened == Opened(("grey levels on 2 ranks",), before.done, 6, GreyJob.units)
    images_done = [each.images_done for each in progress if isinstance(each, Progress)]
    assert images_done == sorted(images_done)
    assert before.done <= images_done[0] < 6
    assert progress[-1] == Progress(images_done[-1], 6, 0, 2)


def test_results_of_another_job_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, other = _pictures(tmp_path / "first", GOOD), _pictures(tmp_path / "other", GOOD, GOOD)
    grey_levels(GreyJob(first, out))
    (out / "job.json").write_text(json.dumps({"key": GreyJob(first, out).folders[0].store.key.to_json()}))
    recorded = replace(GREY, record="job.json")
    job = GreyJob(other, out)
    job.folders = (
        Folder(Store(out, replace(GREY, folder="new"), job.folders[0].store.key), job.folders[0].dataset),
        Folder(Store(out, recorded, job.folders[0].store.key), job.folders[0].dataset),
    )
    with pytest.raises(InputError, match=r"belongs to another run"):
        list(run_alone(job))
    assert not (out / "new").exists()


def test_an_image_that_was_unreadable_before_counts_once_it_is_tried_again(tmp_path: Path) -> None:
    job = GreyJob(_pictures(tmp_path / "pictures", GOOD, b"no image", GOOD), tmp_path / "out")
    [folder] = job.folders
    another = Store(tmp_path / "out", GREY, folder.store.key)
    another.write(Part(images=["0.png"], unreadable={"1.png": "damaged"}, passes=5))
    folder.open(fresh=False)
    stored = runner._StoredImages(job.folders)
    assert stored.poll() == Progress(1, 3, 0, 1)
    another.write(Part(images=["2.png"], unreadable={"1.png": "damaged still"}, passes=7))
    assert stored.poll() == Progress(3, 3, 7, 1)


def test_a_partial_table_takes_at_most_a_hundredth_of_the_time(tmp_path: Path) -> None:
    now, written = 0.0, list[float]()

    class Slow(GreyJob):
        def partial_table(self) -> Table:
            nonlocal now
            written.append(now)
            now += 2
            return Table("partial", "", (), ())

    job = Slow(_pictures(tmp_path / "pictures", GOOD), tmp_path)
    partial = runner.PartialTable(job, every_seconds=10, clock=lambda: now)
    for second in range(500):
        now = max(now, second)
        partial.write_if_due()
    # Each takes two seconds, so that it comes every 200.
    assert written == []
    job.settings = replace(job.settings, live=True)
    for second in range(500, 950):
        now = max(now, second)
        partial.write_if_due()
    assert written == [500, 700, 900]
    assert (tmp_path / "partial.csv").exists()
    partial.remove()
    assert not list(tmp_path.glob("partial*"))
