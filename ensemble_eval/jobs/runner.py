"""The one runner of every job: shards, resumption, time limits, progress, and who writes the tables.

A job is a key with a store, a function from images to rows, and a function that finishes the tables.
"""

import contextlib
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from ensemble_eval.engine.pool import UnreadableImage
from ensemble_eval.errors import EnsembleEvalError, InputError, LateRanksError
from ensemble_eval.files import write_atomically
from ensemble_eval.jobs.binding import bind
from ensemble_eval.jobs.cpu import usable_processors
from ensemble_eval.jobs.devices import choose_device, device_name, devices_for_ranks, use_one_thread
from ensemble_eval.jobs.events import Event, Finished, Notice, Opened, Outcome_co, Progress
from ensemble_eval.jobs.process import Process, Role, shard_positions
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.settings import JobSettings
from ensemble_eval.store import record
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.in_use import in_use
from ensemble_eval.store.parts import Execution
from ensemble_eval.store.store import PartBuffer
from ensemble_eval.tables.formats import table_csv, table_markdown
from ensemble_eval.tables.table import Table

SettingsT = TypeVar("SettingsT", bound=JobSettings)

_LOOK_EVERY_SECONDS = 1.0
_NAMED_IMAGES = 3
_PARTIAL_FILES = ("partial.csv", "partial.md")
_PARTIAL_EVERY_SECONDS = 60.0
# Of the job's time, what looking at its parts for the partial table may take.
_MOST_SHARE = 0.01


@dataclass(frozen=True)
class ImageRows:
    """What a job found in one image.

    Attributes:
        image: The image's id.
        rows: Its rows, in the columns of the store's format.
        passes: Crops that went through members.
        all_passes: How many there would have been without early exit.
    """

    image: str
    rows: Sequence[dict[str, Any]]
    passes: int = 0
    all_passes: int = 0


class Worker(Protocol):
    """What one process needs for its shard, opened.

    Attributes:
        device: Where it computes.
        batch_size: Crops per batch at the moment.
    """

    device: torch.device

    @property
    def batch_size(self) -> int: ...  # noqa: D102 (see the class)

    def results(
        self, folder: Folder[Any], positions: Sequence[int]
    ) -> Generator[ImageRows | UnreadableImage, None, None]:
        """The rows of some images, as they become known.

        Args:
            folder: One of the job's.
            positions: The images, by their index in the data set.
        """

    def notices(self) -> list[str]:
        """Sentences that came up since the last call."""


class Job(ABC, Generic[SettingsT, Outcome_co]):
    """What one command computes for every image of a data set, and stores.

    Attributes:
        settings: How the job runs.
        folders: Where the rows go, with their keys: one for most jobs, one for each set of proposals.
        units: What is counted: an image in a folder.
    """

    units = "images"

    settings: SettingsT
    folders: Sequence[Folder[Any]]

    def check(self, ranks: int) -> Iterable[str]:
        """Refuse what every worker would refuse, for a process that starts `ranks` workers; notices for the user.

        Raises:
            InputError: Something cannot be used.
        """
        del ranks
        return ()

    @abstractmethod
    def start(self, process: Process, stop: StopRequests) -> Worker:
        """Open what computes the rows; its first notices are those of the start.

        Raises:
            InputError: Something cannot be used.
        """

    @abstractmethod
    def describe(self, where: str) -> Iterable[str]:
        """Lines that say what is about to be computed, and where."""

    @abstractmethod
    def finish(self) -> Outcome_co:
        """Write the tables; every image is accounted for, once, in every folder.

        Raises:
            InputError: The tables cannot be made or written.
        """

    def partial_table(self) -> Table | None:
        """The table of the images that are stored so far; None where there is none.

        Raises:
            EnsembleEvalError: The folder changes meanwhile.
        """
        return None


def run_job(
    job: Job[Any, Outcome_co], process: Process, stop: StopRequests, worker_arguments: Sequence[str] = ()
) -> Generator[Event[Outcome_co], None, None]:
    """Run a job to its end, alone or as one rank.

    A process that is alone and has several devices becomes the supervisor of workers that it starts. Of several
    ranks only rank 0 yields more than notices, and it alone writes the tables.

    Args:
        job: What to run.
        process: This process, as its launcher says.
        stop: What the user and the launcher ask for meanwhile.
        worker_arguments: The command line of each worker that a supervisor starts.

    Yields:
        What happens, as it happens. However it ends, what was finished is kept; close the generator if you
        leave it early.

    Raises:
        InputError: Something cannot be used; one sentence with the remedy.
        LateRanksError: Ranks have stored nothing for too long.
        WorkerFailedError: A worker failed.
        StopRequestedError: A signal came.
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
    """Do this process's shard in this process; rank 0 then waits for the others and writes the tables.

    See `run_job` for arguments and errors.
    """
    settings, stop = job.settings, stop or StopRequests()
    if settings.fresh and process.world_size > 1:
        raise InputError(
            f"`fresh=True` could remove what another process has just written; remove {settings.out} instead"
        )
    process = bind(process, settings.device)
    worker = job.start(process, stop)
    with _opened_folders(job, checked=process.role is Role.WORKER):
        if not process.reports:
            with contextlib.closing(run_shard(job, worker, process, stop)) as shard:
                yield from (event for event in shard if isinstance(event, Notice))
            return
        where = str(worker.device) if process.world_size == 1 else f"{process.world_size} ranks"
        yield from _opening(job, where, worker.notices())
        partial = PartialTable(job)
        with contextlib.closing(_reported(job, worker, process, stop)) as events:
            for event in events:
                yield event
                partial.write_if_due()
        yield _finished(job, partial)


def _reported(
    job: Job[Any, Any], worker: Worker, process: Process, stop: StopRequests
) -> Generator[Notice | Progress, None, None]:
    """The shard of the process that speaks for all, and what it sees of the others."""
    stored = _Stored(job.folders)
    with contextlib.closing(run_shard(job, worker, process, stop)) as shard:
        for event in shard:
            if isinstance(event, Notice) or process.world_size == 1:
                yield event
            # Of several, only this one looks at the shared folder while they work.
            elif stored.is_old:
                yield stored.look()
    if process.world_size > 1:
        yield from _others(stored, _watch(job, process), stop)


def _others(stored: "_Stored", watch: "Watch", stop: StopRequests) -> Iterator[Progress]:
    """Wait until the other ranks have stored their shards too."""
    while not watch.update(stored.accounted()):
        stop.check()
        time.sleep(_LOOK_EVERY_SECONDS)
        yield stored.look()


def _supervise(
    job: Job[Any, Outcome_co], count: int, worker_arguments: Sequence[str]
) -> Generator[Event[Outcome_co], None, None]:
    """Start the workers of this machine, tell what they store, and write the tables when all is done."""
    # Only here: a process that is alone starts none.
    from ensemble_eval.jobs.workers import run_workers

    device = choose_device(job.settings.device)
    process = Process(world_size=count, session=uuid.uuid4().hex, role=Role.SUPERVISOR)
    # Before anything is written: what is wrong with a member is said once, not by every worker.
    notices = [*job.check(count), *(_crowded(count) if device.type == "cpu" else ())]
    with _opened_folders(job):
        yield from _opening(job, f"{count} ranks on {device}", notices)
        partial = PartialTable(job)
        if not all(folder.is_complete for folder in job.folders):
            stored, watch = _Stored(job.folders), _watch(job, process)
            with contextlib.closing(run_workers(worker_arguments, count, process.session)) as running:
                for _ in running:
                    yield stored.look()
                    partial.write_if_due()
                    watch.update(stored.accounted(tried_again=True))
            yield stored.look()
        yield _finished(job, partial)


@contextlib.contextmanager
def _opened_folders(job: Job[Any, Any], *, checked: bool = False) -> Iterator[None]:
    """Read what is done, or forget it; see `Folder.open`. Within the block others see that this one is at work."""
    out, fresh = job.settings.out, job.settings.fresh
    record.refuse_file(out)
    if not fresh:
        # Before anything is written there.
        for folder in job.folders:
            folder.refuse_foreign()
    with in_use(out, alone=fresh):
        for folder in job.folders:
            folder.open(fresh=fresh, checked=checked)
        yield


def _finished(job: Job[Any, Outcome_co], partial: "PartialTable") -> Finished[Outcome_co]:
    for folder in job.folders:
        folder.close()
    outcome = job.finish()
    partial.remove()
    return Finished(outcome)


def _opening(job: Job[Any, Any], where: str, notices: Iterable[str]) -> Iterator[Notice | Opened]:
    """What there is to say before the work."""
    yield from map(Notice, notices)
    done = sum(len(folder.progress.done) for folder in job.folders)
    images = sum(len(folder.images) for folder in job.folders)
    yield Opened(tuple(job.describe(where)), done, images, job.units)
    for folder in job.folders:
        for name in folder.progress.damaged:
            yield Notice(f"{name} had changed since it was written; its images are done again")


def run_shard(
    job: Job[Any, Any], worker: Worker, process: Process, stop: StopRequests
) -> Generator[Notice | Progress, None, None]:
    """Compute and store this process's images that are missing, in folders that are open; it waits for nobody."""
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
    """What runs a process's images at the moment."""
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
    """Positions in the data set of the missing images of this process's shard.

    Images that could not be read before are tried again. Where nothing but what is stored tells that a process
    has ended, that is the task of rank 0: it could not know of another that is still running.
    """
    images, progress = folder.images, folder.progress
    blocks = folder.dataset.blocks
    mine = set(shard_positions(len(images), process.world_size, process.session, blocks)[process.rank])
    if process.world_size == 1 or process.role is Role.WORKER:
        return [position for position in sorted(mine) if images[position] not in progress.done]
    again = progress.unreadable.keys() if process.reports else frozenset[str]()
    return [
        position
        for position, image in enumerate(images)
        if image in again or (position in mine and image not in progress.accounted)
    ]


def _unit(folder: Folder[Any], image: str, folders: Sequence[Folder[Any]]) -> str:
    """The name of an image in one of a job's folders, as the user reads it."""
    return image if len(folders) == 1 else f"{image} ({folder.store.folder.name})"


class _Stored:
    """What all processes of a job have stored, whatever this one did."""

    def __init__(self, folders: Sequence[Folder[Any]]) -> None:
        self._folders = folders
        self._passes_before = self._sum_of_passes()
        self._looked = time.monotonic()

    @property
    def is_old(self) -> bool:
        """Whether the last look is some time ago."""
        return time.monotonic() - self._looked >= _LOOK_EVERY_SECONDS

    def accounted(self, *, tried_again: bool = False) -> set[str]:
        """What needs no more work, as of the last look.

        Args:
            tried_again: Of what an earlier start could not read, only what this start has tried again.
        """
        return {
            _unit(folder, image, self._folders)
            for folder in self._folders
            for image in (
                folder.progress.done | folder.store.unreadable_since_opening()
                if tried_again
                else folder.progress.accounted
            )
        }

    def look(self) -> Progress:
        """Read what came since the last time."""
        for folder in self._folders:
            folder.store.peek()
        self._looked = time.monotonic()
        return Progress(
            len(self.accounted(tried_again=True)),
            sum(len(folder.images) for folder in self._folders),
            self._sum_of_passes() - self._passes_before,
            sum(len(folder.progress.unreadable) for folder in self._folders),
        )

    def _sum_of_passes(self) -> int:
        return sum(folder.progress.passes for folder in self._folders)


class Watch:
    """Remembers when each rank last stored something, and names those that are treated as hung.

    Args:
        shards: The images of each rank.
        timeout: Seconds without anything new after which a rank is treated as hung.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, shards: Sequence[Collection[str]], timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._missing = [set(shard) for shard in shards]
        self._timeout = timeout
        self._clock = clock
        self._moved = [clock()] * len(shards)

    def update(self, accounted: Collection[str]) -> bool:
        """Take note of all images that are accounted for; tells whether these are all there are.

        Raises:
            LateRanksError: Ranks have stored nothing for too long; they and their images are named.
        """
        now = self._clock()
        for rank, missing in enumerate(self._missing):
            before = len(missing)
            missing.difference_update(accounted)
            if len(missing) < before:
                self._moved[rank] = now
        late = [
            rank
            for rank, missing in enumerate(self._missing)
            if missing and now - self._moved[rank] > self._timeout
        ]
        if late:
            raise LateRanksError("; ".join(self._sentence(rank) for rank in late))
        return not any(self._missing)

    def _sentence(self, rank: int) -> str:
        missing = sorted(self._missing[rank])
        more = ", …" if len(missing) > _NAMED_IMAGES else ""
        return (
            f"rank {rank} of {len(self._missing)} has stored nothing for {self._timeout:.0f} s and still has "
            f"{len(missing)} images to do ({', '.join(missing[:_NAMED_IMAGES])}{more})"
        )


def _watch(job: Job[Any, Any], process: Process) -> Watch:
    shards: list[list[str]] = [[] for _ in range(process.world_size)]
    for folder in job.folders:
        images = folder.images
        of_folder = shard_positions(len(images), process.world_size, process.session, folder.dataset.blocks)
        for shard, positions in zip(shards, of_folder, strict=True):
            shard += [_unit(folder, images[position], job.folders) for position in positions]
    return Watch(shards, job.settings.timeout)


class PartialTable:
    """Writes a job's partial table beside the results, every minute or less often, at no more than 1% of the time.

    Args:
        job: The job whose settings ask for it, or not.
        every_seconds: How often at most.
        clock: Seconds, monotonic.
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
        """Write `partial.csv` and `partial.md` if it is time, each wholly or not at all.

        Raises:
            InputError: The folder cannot be written.
        """
        began = self._clock()
        if not self._job.settings.live or began < self._due:
            return
        table = None
        # The folder may be changing; the job itself will say what is wrong, if anything is.
        with contextlib.suppress(EnsembleEvalError):
            table = self._job.partial_table()
        if table is not None:
            for name, text in zip(_PARTIAL_FILES, (table_csv(table), table_markdown(table)), strict=True):
                write_atomically(self._job.settings.out / name, text.encode())
        self._due = began + max(self._every, (self._clock() - began) / _MOST_SHARE)

    def remove(self) -> None:
        """Remove what was written, once the table of all images is there."""
        if self._job.settings.live:
            for name in _PARTIAL_FILES:
                (self._job.settings.out / name).unlink(missing_ok=True)


def _crowded(ranks: int) -> Iterator[str]:
    processors = usable_processors()
    if ranks > processors:
        yield (
            f"{ranks} ranks share the {processors} processors that this process may use; more ranks than "
            "processors slow each other down"
        )
