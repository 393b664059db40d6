"""Runs jobs: shards the images, resumes, detects hung ranks and reports progress.

The runner calls the job for everything that depends on what is computed, such as the tables.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from typing import Any

import torch

from ensemble_eval.engine.pool import UnreadableImage
from ensemble_eval.errors import EnsembleEvalError, InputError, LateRanksError
from ensemble_eval.files import write_atomically
from ensemble_eval.jobs.binding import bind
from ensemble_eval.jobs.cpu import usable_processors
from ensemble_eval.jobs.devices import choose_device, device_name, devices_for_ranks, use_one_thread
from ensemble_eval.jobs.job import Event, Finished, Job, Notice, Opened, Outcome_co, Progress, Worker
from ensemble_eval.jobs.process import Process, Role, shard_positions
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.locations import ObjectPath
from ensemble_eval.store import record
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.in_use import in_use
from ensemble_eval.store.parts import Execution
from ensemble_eval.store.store import PartBuffer
from ensemble_eval.tables.formats import table_csv, table_markdown

_POLL_FOLDERS_SECONDS = 1.0
_MAX_IMAGES_IN_MESSAGE = 3
_PARTIAL_FILES = ("partial.csv", "partial.md")
_PARTIAL_EVERY_SECONDS = 60.0
# The largest share of the running time that the partial table may take.
_MAX_TIME_SHARE = 0.01


def run_job(
    job: Job[Any, Outcome_co], process: Process, stop: StopRequests, worker_arguments: Sequence[str] = ()
) -> Generator[Event[Outcome_co], None, None]:
    """Run a job to its end, alone or as one rank.

    Without a launcher (torchrun, srun or Kubernetes), a job with several processes starts workers and supervises
    them. Under a launcher, rank 0 reports the progress and writes the tables. All other ranks and workers only
    yield notices. Pods may run one after the other, so the last one to finish writes the tables. Finished images
    are kept however the job ends.

    Args:
        job: The job.
        process: This process, as described by its launcher.
        stop: Stop requests of the user or the launcher.
        worker_arguments: The command line of each worker that a supervisor starts.

    Yields:
        Notices, one `Opened`, progress and notices, and one `Finished`. Close the generator to stop early.

    Raises:
        InputError: An input or a setting cannot be used. The message says what to do.
        LateRanksError: A rank has stored nothing for too long.
        WorkerFailedError: A worker failed.
        StopRequestedError: The process received a signal to stop.
    """
    settings = job.settings
    count = process.world_size if process.launched else devices_for_ranks(settings.device, settings.ranks)
    if count > 1 or settings.ranks is not None:
        use_one_thread()
    if count > 1 and not process.launched:
        return _supervise(job, count, worker_arguments)
    return run_alone(job, process, stop)


def run_alone(
    job: Job[Any, Outcome_co],
    process: Process = Process(),  # noqa: B008 (it is frozen)
    stop: StopRequests | None = None,
) -> Generator[Event[Outcome_co], None, None]:
    """Run the shard of this process without starting other processes.

    Rank 0 then waits for the other ranks and writes the tables; a pod writes them only if nothing is missing.
    Arguments and errors are those of `run_job`.
    """
    settings, stop = job.settings, stop or StopRequests()
    if settings.fresh and process.world_size > 1:
        raise InputError(
            f"`fresh=True` could remove what another process has just written; remove {settings.out} instead"
        )
    process = bind(process, settings.device)
    worker = job.start(process, stop)
    # The bytes of a bucket come over the network, and the process that reports reads all of them anyway.
    in_bucket = isinstance(settings.out, ObjectPath) and not process.is_reporting
    with _opened_folders(job, checked=process.role is Role.WORKER or in_bucket):
        partial = PartialTable(job)
        has_work = process.role is Role.POD and any(missing_positions(each, process) for each in job.folders)
        if process.is_reporting:
            hardware = str(worker.device) if process.world_size == 1 else f"{process.world_size} ranks"
            yield from _opening_events(job, hardware, worker.notices())
            with contextlib.closing(_run_and_report(job, worker, process, stop)) as events:
                for event in events:
                    yield event
                    partial.write_if_due()
        else:
            with contextlib.closing(run_shard(job, worker, process, stop)) as shard:
                yield from (event for event in shard if isinstance(event, Notice))
        if _writes_tables(job, process, has_work):
            yield _finish(job, partial)
        elif process.is_reporting:
            yield Notice("this pod is done, but others are not; the last one to finish writes the tables")


def _writes_tables(job: Job[Any, Any], process: Process, had_work: bool) -> bool:
    """Return whether this process, whose shard is done, writes the tables.

    A pod that waited for others would hold a device that they may need. So the last one writes the tables: it
    stores its images before it looks, and of the pods that look, at least the last one finds nothing missing.
    """
    if process.role is not Role.POD:
        return process.is_reporting
    for folder in job.folders:
        folder.store.peek()
    if not all(folder.progress.accounted.issuperset(folder.images) for folder in job.folders):
        return False
    # Of a finished job that is started again, one pod writes them. A pod that took over from one that died on its
    # last step has no work, but finds no tables.
    written = all(folder.last_file.exists() for folder in job.folders)
    return had_work or process.is_reporting or not written


def _run_and_report(
    job: Job[Any, Any], worker: Worker, process: Process, stop: StopRequests
) -> Generator[Notice | Progress, None, None]:
    """Run the shard of the process that reports, and report the progress of all processes."""
    stored = _StoredImages(job.folders)
    with contextlib.closing(run_shard(job, worker, process, stop)) as shard:
        for event in shard:
            if isinstance(event, Notice) or process.world_size == 1:
                yield event
            # With several processes, only the reporting one polls the shared folder during the work.
            elif stored.poll_is_due:
                yield stored.poll()
    if process.role is Role.RANK:
        yield from _wait_for_others(stored, _watch(job, process), stop)


def _wait_for_others(stored: "_StoredImages", watch: "Watch", stop: StopRequests) -> Iterator[Progress]:
    """Wait until the other ranks have stored their shards."""
    yield stored.poll()
    while not watch.update(stored.accounted()):
        stop.check()
        time.sleep(_POLL_FOLDERS_SECONDS)
        yield stored.poll()


def _supervise(
    job: Job[Any, Outcome_co], count: int, worker_arguments: Sequence[str]
) -> Generator[Event[Outcome_co], None, None]:
    """Start the workers of this machine, report their progress, and write the tables when all are done."""
    # Imported here, because a single process starts no workers.
    from ensemble_eval.jobs.workers import run_workers

    device = choose_device(job.settings.device)
    process = Process(world_size=count, session=uuid.uuid4().hex, role=Role.SUPERVISOR)
    # The check comes before anything is written. An error is then reported once, and not by every worker.
    notices = [*job.check(count)]
    processors = usable_processors()
    if device.type == "cpu" and count > processors:
        notices.append(
            f"{count} ranks share the {processors} processors that this process may use; more ranks than "
            "processors slow each other down"
        )
    with _opened_folders(job):
        yield from _opening_events(job, f"{count} ranks on {device}", notices)
        partial = PartialTable(job)
        if not all(folder.is_complete for folder in job.folders):
            stored, watch = _StoredImages(job.folders), _watch(job, process)
            with contextlib.closing(run_workers(worker_arguments, count, process.session)) as running:
                for _ in running:
                    yield stored.poll()
                    partial.write_if_due()
                    watch.update(stored.accounted(retrying=True))
            yield stored.poll()
        yield _finish(job, partial)


@contextlib.contextmanager
def _opened_folders(job: Job[Any, Any], *, checked: bool = False) -> Iterator[None]:
    """Open the folders of a job, and mark them as in use within the block.

    With `checked`, only footers are read, because another process reads every byte.
    """
    out, fresh = job.settings.out, job.settings.fresh
    record.refuse_file(out)
    if not fresh:
        # All folders are checked before anything is written.
        for folder in job.folders:
            folder.refuse_foreign()
    with in_use(out, alone=fresh):
        for folder in job.folders:
            folder.open(fresh=fresh, checked=checked)
        yield


def _finish(job: Job[Any, Outcome_co], partial: "PartialTable") -> Finished[Outcome_co]:
    for folder in job.folders:
        folder.close()
    outcome = job.finish()
    partial.remove()
    return Finished(outcome)


def _opening_events(job: Job[Any, Any], hardware: str, notices: Iterable[str]) -> Iterator[Notice | Opened]:
    """Yield the startup notices, the work that is left, and the damaged parts."""
    yield from map(Notice, notices)
    done = sum(len(folder.progress.done) for folder in job.folders)
    images = sum(len(folder.images) for folder in job.folders)
    yield Opened(tuple(job.describe(hardware)), done, images, job.units)
    for folder in job.folders:
        for name in folder.progress.damaged:
            yield Notice(f"{name} had changed since it was written; its images are computed again")


def run_shard(
    job: Job[Any, Any], worker: Worker, process: Process, stop: StopRequests
) -> Generator[Notice | Progress, None, None]:
    """Compute and store the missing images of this process's shard, without waiting for other processes."""
    done = sum(len(folder.progress.done) for folder in job.folders)
    images = sum(len(folder.images) for folder in job.folders)
    passes = unreadable = 0
    execution = _execution_of(worker, process)
    for folder in job.folders:
        buffer = PartBuffer(folder.store, execution, save_every=job.settings.save_every)
        results = worker.results(folder, missing_positions(folder, process))
        with stop.deferred(), contextlib.closing(results):
            try:
                for result in results:
                    if isinstance(result, UnreadableImage):
                        buffer.add_unreadable(result.id, result.reason)
                        unreadable += 1
                    else:
                        buffer.add(result.image, result.rows, result.passes, result.all_passes)
                        passes += result.passes
                    done += 1
                    yield from map(Notice, worker.notices())
                    yield Progress(done, images, passes, unreadable)
                    buffer.write_if_due()
            finally:
                buffer.write()


def _execution_of(worker: Worker, process: Process) -> Callable[[], Execution]:
    """Return a function that describes the current execution."""
    name, known_versions = device_name(worker.device), record.versions()
    return lambda: Execution(
        device=str(worker.device),
        device_name=name,
        batch_size=worker.batch_size,
        threads=torch.get_num_threads(),
        ranks=process.world_size,
        versions=known_versions,
    )


def missing_positions(folder: Folder[Any], process: Process) -> list[int]:
    """Return the positions of the missing images in this process's shard.

    Images that were unreadable at an earlier start are tried again. Under a launcher, only rank 0 does so. Whoever
    writes the tables must know when all ranks have finished, and for an image that is listed as unreadable it
    cannot see whether another rank has tried it again.
    """
    images, progress = folder.images, folder.progress
    blocks = folder.dataset.blocks
    own_shard = set(shard_positions(len(images), process.world_size, process.session, blocks)[process.rank])
    if process.world_size == 1 or process.role is Role.WORKER:
        return [position for position in sorted(own_shard) if images[position] not in progress.done]
    to_retry = progress.unreadable.keys() if process.is_reporting else frozenset[str]()
    return [
        position
        for position, image in enumerate(images)
        if image in to_retry or (position in own_shard and image not in progress.accounted)
    ]


def _image_name(folder: Folder[Any], image: str, folders: Sequence[Folder[Any]]) -> str:
    """The id of an image, followed by the name of its folder if the job has several folders."""
    return image if len(folders) == 1 else f"{image} ({folder.store.folder.name})"


class _StoredImages:
    """The images that any process of a job has stored."""

    def __init__(self, folders: Sequence[Folder[Any]]) -> None:
        self._folders = folders
        self._passes_before = self._sum_of_passes()
        self._polled = time.monotonic()

    @property
    def poll_is_due(self) -> bool:
        """Whether it is time to read the folders again."""
        return time.monotonic() - self._polled >= _POLL_FOLDERS_SECONDS

    def accounted(self, *, retrying: bool = False) -> set[str]:
        """The names (`_image_name`) of the images that were done or unreadable at the last poll.

        Args:
            retrying: Whether this start tries unreadable images again. If so, an image that was unreadable at an
                earlier start is left out until it has been tried.
        """
        return {
            _image_name(folder, image, self._folders)
            for folder in self._folders
            for image in (
                folder.progress.done | folder.store.unreadable_since_opening()
                if retrying
                else folder.progress.accounted
            )
        }

    def poll(self) -> Progress:
        """Read the new parts, and return the progress."""
        for folder in self._folders:
            folder.store.peek()
        self._polled = time.monotonic()
        return Progress(
            len(self.accounted(retrying=True)),
            sum(len(folder.images) for folder in self._folders),
            self._sum_of_passes() - self._passes_before,
            sum(len(folder.progress.unreadable) for folder in self._folders),
        )

    def _sum_of_passes(self) -> int:
        return sum(folder.progress.passes for folder in self._folders)


class Watch:
    """Remembers when each rank last stored an image, and raises an error if a rank stores nothing for too long.

    Args:
        shards: The names of the images of each rank.
        timeout: Seconds without a new image after which a rank is treated as hung.
        clock: Returns monotonic time in seconds.
    """

    def __init__(
        self, shards: Sequence[Collection[str]], timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._missing = [set(shard) for shard in shards]
        self._timeout = timeout
        self._clock = clock
        self._last_stored = [clock()] * len(shards)

    def update(self, accounted: Collection[str]) -> bool:
        """Record which images are accounted for, and return whether all are.

        Raises:
            LateRanksError: Ranks have stored nothing for too long; the message names them and their images.
        """
        now = self._clock()
        for rank, missing in enumerate(self._missing):
            before = len(missing)
            missing.difference_update(accounted)
            if len(missing) < before:
                self._last_stored[rank] = now
        late = [
            rank
            for rank, missing in enumerate(self._missing)
            if missing and now - self._last_stored[rank] > self._timeout
        ]
        if late:
            raise LateRanksError("; ".join(self._sentence(rank) for rank in late))
        return not any(self._missing)

    def _sentence(self, rank: int) -> str:
        missing = sorted(self._missing[rank])
        more = ", …" if len(missing) > _MAX_IMAGES_IN_MESSAGE else ""
        return (
            f"rank {rank} of {len(self._missing)} has stored nothing for {self._timeout:.0f} s and still has "
            f"{len(missing)} images to do ({', '.join(missing[:_MAX_IMAGES_IN_MESSAGE])}{more})"
        )


def _watch(job: Job[Any, Any], process: Process) -> Watch:
    shards: list[list[str]] = [[] for _ in range(process.world_size)]
    for folder in job.folders:
        images = folder.images
        of_folder = shard_positions(len(images), process.world_size, process.session, folder.dataset.blocks)
        for shard, positions in zip(shards, of_folder, strict=True):
            shard += [_image_name(folder, images[position], job.folders) for position in positions]
    return Watch(shards, job.settings.timeout)


class PartialTable:
    """Writes the partial table of a job every minute, or less often if it would take more than 1% of the time.

    Args:
        job: The job; its setting `live` switches the partial table on.
        every_seconds: The shortest interval between two partial tables; None for a minute.
        clock: Returns monotonic time in seconds.
    """

    def __init__(
        self,
        job: Job[Any, Any],
        every_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = job
        self._every = _PARTIAL_EVERY_SECONDS if every_seconds is None else every_seconds
        self._clock = clock
        self._due = clock() + self._every

    def write_if_due(self) -> None:
        """Write `partial.csv` and `partial.md` if they are due, each as a whole or not at all.

        Raises:
            InputError: The folder cannot be written.
        """
        began = self._clock()
        if not self._job.settings.live or began < self._due:
            return
        table = None
        # The folder may be changing. If something is wrong with it, the job itself reports it.
        with contextlib.suppress(EnsembleEvalError):
            table = self._job.partial_table()
        if table is not None:
            for name, text in zip(_PARTIAL_FILES, (table_csv(table), table_markdown(table)), strict=True):
                write_atomically(self._job.settings.out / name, text.encode())
        self._due = began + max(self._every, (self._clock() - began) / _MAX_TIME_SHARE)

    def remove(self) -> None:
        """Remove the partial table, once the complete one is written."""
        if self._job.settings.live:
            for name in _PARTIAL_FILES:
                (self._job.settings.out / name).unlink(missing_ok=True)
