"""The whole job of `run`: this process's share of the images, or the ranks that it starts, and then the tables."""

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Generator, Iterator, Sequence

from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.cost import padding_warnings
from ensemble_eval.evaluation.events import BatchHalved, Begun, Event, Finished, Opened, Step, Warned
from ensemble_eval.evaluation.opening import Sources, check_networks, open_folder, open_inputs, open_sources
from ensemble_eval.evaluation.process import Run
from ensemble_eval.launch.cpu import usable_processors
from ensemble_eval.launch.devices import choose_device, devices_for_ranks, use_one_thread
from ensemble_eval.launch.machine_share import settle
from ensemble_eval.launch.place import Place, Role, deal
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.launch.watch import Watch
from ensemble_eval.results.folder import RunFolder
from ensemble_eval.results.partial_table import LiveTable
from ensemble_eval.settings import RunSettings

_LOOK_EVERY_SECONDS = 1.0


def evaluate(
    settings: RunSettings, place: Place, stop: StopRequests, worker_arguments: Sequence[str]
) -> Generator[Event]:
    """Evaluate an ensemble on a data set, alone or as one of several processes.

    A process that is alone and has several devices becomes the supervisor of ranks that it starts. Of several
    ranks only the one that reports yields more than `BatchHalved`, and it alone writes the tables.

    Args:
        settings: of the run.
        place: of this process among those of the run, as its launcher says.
        stop: what the user and the launcher ask for meanwhile.
        worker_arguments: the command line of each rank that a supervisor starts.

    Yields:
        What happens, as it happens. However it ends, what was finished is kept; close the generator if you
        leave it early.

    Raises:
        InputError: whatever cannot be used, in one sentence with the remedy.
        LateRanksError: ranks have stored nothing for too long.
        WorkerFailedError: a rank failed.
        StopRequestedError: a signal came.
    """
    live = LiveTable(settings.out) if settings.live else None
    with contextlib.closing(_evaluate(settings, place, stop, worker_arguments)) as events:
        for event in events:
            yield event
            if live is not None and isinstance(event, Step):
                live.write_if_due()
            elif live is not None and isinstance(event, Finished):
                live.remove()


def _evaluate(
    settings: RunSettings, place: Place, stop: StopRequests, worker_arguments: Sequence[str]
) -> Generator[Event]:
    """As `evaluate`, whatever is written meanwhile."""
    ranks = place.world if place.launched else devices_for_ranks(settings.device, settings.ranks)
    if ranks > 1 or settings.ranks is not None:
        use_one_thread()
    if ranks > 1 and not place.launched:
        place = Place(world=ranks, session=uuid.uuid4().hex, role=Role.SUPERVISOR)
        yield from _supervise(settings, place, worker_arguments)
    elif settings.fresh and place.world > 1:
        raise InputError(
            f"`fresh=True` could remove what another process has just written; remove {settings.out} instead"
        )
    else:
        yield from _take_part(settings, place, stop)


def _take_part(settings: RunSettings, place: Place, stop: StopRequests) -> Generator[Event]:
    """Do this process's share; the one that reports then waits for the others and writes the tables."""
    place = settle(place, settings.device)
    inputs = open_inputs(settings, open_sources(settings), place)
    folder = open_folder(settings.out, settings, inputs, dataclasses.asdict(settings))
    with folder.opened(fresh=settings.fresh, checked=place.role is Role.WORKER):
        run = Run(settings, inputs, folder, place, stop)
        if place.reports:
            where = f"{inputs.device}" if place.world == 1 else f"{place.world} ranks"
            yield from _opening(settings, inputs, folder, where, place.world)
        stored = _Stored(folder)
        with contextlib.closing(_share(run, speaks=place.rank == 0)) as share:
            for event in share:
                if isinstance(event, BatchHalved | Warned) or place.world == 1:
                    yield event
                # The others do not look at the shared folder while they work.
                elif place.reports and stored.is_old:
                    yield stored.look()
        if place.reports:
            if place.world > 1:
                yield from _others(stored, _watch(folder, settings.timeout, place), stop)
            yield Finished(folder.finish())


def _others(stored: "_Stored", watch: Watch, stop: StopRequests) -> Generator[Event]:
    """Wait until the other ranks have stored their shares too."""
    while not watch.update(stored.folder.progress.accounted):
        stop.check()
        time.sleep(_LOOK_EVERY_SECONDS)
        yield stored.look()


def _share(run: Run, *, speaks: bool) -> Generator[BatchHalved | Warned | Step]:
    """One process's share; a smaller batch is worth a word because it can change a score's last bits.

    What comes up about the members, all processes would say; one of them `speaks`.
    """
    told = run.batch_size
    with contextlib.closing(run.evaluate()) as steps:
        for step in steps:
            if run.batch_size < told:
                told = run.batch_size
                yield BatchHalved(told)
            yield from map(Warned, run.new_remarks() if speaks else ())
            yield step


def _supervise(settings: RunSettings, place: Place, worker_arguments: Sequence[str]) -> Generator[Event]:
    """Start the ranks of this machine, tell what they store, and write the tables when all is done."""
    # Only here: a process that is alone has no use for torch's launcher, and importing it takes time.
    from ensemble_eval.launch.ranks import run_workers

    device = choose_device(settings.device)
    sources = open_sources(settings)
    # Before anything is written: what is wrong with a member is said once, not by every rank.
    warnings = [*check_networks(settings, sources), *(_crowded(place.world) if device.type == "cpu" else ())]
    sources = dataclasses.replace(sources, warnings=(*sources.warnings, *warnings))
    folder = open_folder(settings.out, settings, sources, dataclasses.asdict(settings))
    with folder.opened(fresh=settings.fresh):
        yield from _opening(settings, sources, folder, f"{place.world} ranks on {device}", place.world)
        if not folder.is_complete:
            stored, watch = _Stored(folder), _watch(folder, settings.timeout, place)
            with contextlib.closing(run_workers(worker_arguments, place.world, place.session)) as running:
                for _ in running:
                    yield stored.look()
                    watch.update(stored.accounted)
            yield stored.look()
        yield Finished(folder.finish())


class _Stored:
    """What all processes of a run have stored, whatever this one did."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._passes_before = folder.progress.passes
        self._looked = time.monotonic()

    @property
    def is_old(self) -> bool:
        """Whether the last look is some time ago."""
        return time.monotonic() - self._looked >= _LOOK_EVERY_SECONDS

    @property
    def accounted(self) -> frozenset[str]:
        """What is through; of what an earlier start could not read, only what this one has tried again."""
        return self.folder.progress.done | self.folder.store.unreadable_since_opening()

    def look(self) -> Step:
        """Read what came since the last time."""
        self.folder.progress, self._looked = self.folder.store.peek(), time.monotonic()
        progress = self.folder.progress
        passes = progress.passes - self._passes_before
        return Step(len(self.accounted), len(self.folder.images), passes, len(progress.unreadable))


def _watch(folder: RunFolder, timeout: float, place: Place) -> Watch:
    shards = deal(len(folder.images), place.world, place.session, folder.blocks)
    return Watch([{folder.images[position] for position in shard} for shard in shards], timeout)


def _opening(
    settings: RunSettings, sources: Sources, folder: RunFolder, where: str, processes: int
) -> Iterator[Event]:
    """What there is to say before the work."""
    images = len(sources.dataset.items)
    padding = padding_warnings(settings.batch_size, settings.crops, images, processes)
    yield from map(Warned, (*sources.warnings, *padding))
    models = len(sources.ensemble.members)
    yield Opened(
        models, settings.crops, images, where, sources.backend, settings.precision, sources.dataset.layout
    )
    for name in folder.progress.damaged:
        yield Warned(f"{name} had changed since it was written; its images are done again")
    yield Begun(len(folder.progress.done), images)


def _crowded(ranks: int) -> Iterator[str]:
    processors = usable_processors()
    if ranks > processors:
        yield (
            f"{ranks} ranks share the {processors} processors that this process may use; more ranks than "
            "processors slow each other down"
        )
