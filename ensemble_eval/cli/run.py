"""`ensemble-eval run`."""

import dataclasses
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.options import distribution_options, evaluation_options
from ensemble_eval.cli.output import complain
from ensemble_eval.launch.cpu import usable_processors, wait_without_spinning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from ensemble_eval.cli.progress import Update
    from ensemble_eval.evaluation.opening import Sources
    from ensemble_eval.evaluation.process import Run, Step
    from ensemble_eval.launch.place import Place
    from ensemble_eval.launch.signals import StopRequests
    from ensemble_eval.launch.watch import Watch
    from ensemble_eval.results.folder import Outcome, RunFolder
    from ensemble_eval.results.store import Progress
    from ensemble_eval.settings import RunSettings

_LOOK_EVERY_SECONDS = 1.0


@click.command()
@evaluation_options
@distribution_options
def run(**options: Any) -> int:
    """Evaluate an ensemble on DATASET and write Table 3.

    DATASET is a folder of class folders, or a flat folder with --labels. Writes table3.csv, predictions/,
    run.json and unreadable.csv to --out. The same command continues an interrupted run.

    With several GPUs it starts one process for each. Under torchrun or srun it takes its share of the images.
    """
    wait_without_spinning()
    from ensemble_eval.errors import EnsembleEvalError, InterruptedRunError
    from ensemble_eval.launch.place import find_place
    from ensemble_eval.launch.signals import StopRequestedError, stop_requests

    place = find_place()
    try:
        # Before the heavy imports: they take seconds, and a signal may come meanwhile.
        with stop_requests() as stop:
            return _run(options, place, stop)
    except StopRequestedError as request:
        if not place.reports:
            return 128 + request.signal_number
        raise InterruptedRunError(
            f"stopped by {request}; what was finished is kept, {_continuation(place)}",
            request.signal_number,
        ) from request
    except EnsembleEvalError as error:
        if place.world == 1:
            raise
        complain(f"error: rank {place.rank}: {error}")
        return error.exit_code


def _run(options: dict[str, Any], place: "Place", stop: "StopRequests") -> int:
    from rich.console import Console

    from ensemble_eval.cli.settings import settings_from

    settings = settings_from(options)
    # Where several processes share a terminal, one speaks; of the others only their errors are seen.
    console = Console(stderr=True, markup=False, quiet=not place.reports)
    outcome = _supervise_or_evaluate(console, settings, place, stop)
    return _report(console, settings, outcome) if outcome else 0


def _supervise_or_evaluate(
    console: "Console", settings: "RunSettings", place: "Place", stop: "StopRequests"
) -> "Outcome | None":
    from ensemble_eval.errors import InputError
    from ensemble_eval.launch.devices import devices_for_ranks, use_one_thread

    ranks = place.world if place.launched else devices_for_ranks(settings.device, settings.ranks)
    if ranks > 1 or settings.ranks is not None:
        use_one_thread()
    if ranks > 1 and not place.launched:
        return _supervise(console, settings, ranks, place)
    if settings.fresh and place.world > 1:
        raise InputError(
            f"--fresh could remove what another process has just written; remove {settings.out} instead"
        )
    return _evaluate(console, settings, place, stop)


def _evaluate(
    console: "Console", settings: "RunSettings", place: "Place", stop: "StopRequests"
) -> "Outcome | None":
    """Do this process's share; the first one then waits for the others and writes the tables."""
    import contextlib

    from ensemble_eval.cli.progress import progress_updates
    from ensemble_eval.evaluation.opening import open_folder, open_inputs, open_sources
    from ensemble_eval.evaluation.process import Run

    if place.parent is not None:
        from ensemble_eval.launch.ranks import die_with

        die_with(place.parent)
    inputs = open_inputs(settings, open_sources(settings), place)
    folder = open_folder(settings.out, settings, inputs, dataclasses.asdict(settings))
    folder.open(fresh=settings.fresh, checked=place.parent is not None)
    evaluation = Run(settings, inputs, folder, place, stop)
    where = f"{inputs.device}" if place.world == 1 else f"{place.world} ranks"
    _announce(console, settings, inputs, folder.progress, where, place.world)
    total, start = len(folder.images), len(folder.progress.done)
    with (
        progress_updates(console, total, start) as update,
        contextlib.closing(evaluation.evaluate()) as steps,
    ):
        stored = _StoredProgress(folder, update)
        show = stored.show if place.world > 1 else update
        for step in _warning_of_smaller_batches(evaluation, place, steps):
            # The others do not look at the shared folder while they work.
            if place.reports:
                show(step.images_done, step.passes)
        if not place.reports:
            return None
        if place.world > 1:
            watch = _watch(folder, settings.timeout, place.world, place.session)
            while not watch.update(folder.progress.accounted):
                stop.check()
                time.sleep(_LOOK_EVERY_SECONDS)
                stored.look()
    return folder.finish()


def _warning_of_smaller_batches(evaluation: "Run", place: "Place", steps: "Iterable[Step]") -> "Iterator[Step]":
    """The steps, with a word when batches have become smaller: their size can change a score's last bits."""
    from rich.console import Console

    # Any process may say it.
    console = Console(stderr=True, markup=False)
    who = f"rank {place.rank}: " if place.world > 1 else ""
    told = evaluation.batch_size
    for step in steps:
        if evaluation.batch_size < told:
            told = evaluation.batch_size
            _warn(console, f"{who}a batch did not fit into memory; going on with {told} crops in each")
        yield step


def _supervise(console: "Console", settings: "RunSettings", ranks: int, place: "Place") -> "Outcome":
    """Start the ranks of this machine, show what they store, and write the tables when all is done."""
    import uuid

    from ensemble_eval.cli.progress import progress_updates
    from ensemble_eval.errors import EnsembleEvalError
    from ensemble_eval.evaluation.opening import check_networks, open_folder, open_sources
    from ensemble_eval.launch.devices import choose_device
    from ensemble_eval.launch.ranks import run_workers

    device = choose_device(settings.device)
    sources = open_sources(settings)
    # Before anything is written: what is wrong with a member is said once, not by every rank.
    warnings = (
        *sources.warnings,
        *check_networks(settings, sources),
        *(_crowded(ranks) if device.type == "cpu" else ()),
    )
    sources = dataclasses.replace(sources, warnings=warnings)
    results = open_folder(settings.out, settings, sources, dataclasses.asdict(settings))
    results.open(fresh=settings.fresh)
    _announce(console, settings, sources, results.progress, f"{ranks} ranks on {device}", ranks)
    if not results.is_complete:
        run_id = uuid.uuid4().hex
        watch = _watch(results, settings.timeout, ranks, run_id)
        total, before = len(results.images), len(results.progress.done)
        with progress_updates(console, total, before) as update:
            stored = _StoredProgress(results, update)

            def look() -> None:
                stored.look()
                watch.update(stored.accounted)

            try:
                run_workers([word for word in sys.argv[1:] if word != "--fresh"], ranks, run_id, look)
            except EnsembleEvalError as error:
                raise _with_continuation(error, place) from error
            look()
    return results.finish()


def _watch(results: "RunFolder", timeout: float, ranks: int, session: str) -> "Watch":
    from ensemble_eval.launch.place import deal
    from ensemble_eval.launch.watch import Watch

    images = results.images
    shards = [{images[position] for position in share} for share in deal(len(images), ranks, session)]
    return Watch(shards, timeout)


class _StoredProgress:
    """Shows what all processes have stored, whatever this one did."""

    def __init__(self, results: "RunFolder", update: "Update") -> None:
        self._results = results
        self._update = update
        self._passes_before = results.progress.passes
        self._looked = time.monotonic()

    @property
    def accounted(self) -> frozenset[str]:
        """What is through; of what an earlier start could not read, only what this one has tried again."""
        return self._results.progress.done | self._results.store.unreadable_since_opening()

    def look(self) -> None:
        """Read what came since the last time, and show it."""
        self._results.progress, self._looked = self._results.store.peek(), time.monotonic()
        self._update(len(self.accounted), self._results.progress.passes - self._passes_before)

    def show(self, _done: int, _passes: int) -> None:
        """As `look`, at most once a second."""
        if time.monotonic() - self._looked >= _LOOK_EVERY_SECONDS:
            self.look()


def _continuation(place: "Place") -> str:
    """How to go on. Under a launcher the command is not this process's own: it would be one process more."""
    if place.launched:
        return "start the same job again to continue, unless it goes back to the queue by itself"
    return f"continue with: {shlex.join(['ensemble-eval', *(word for word in sys.argv[1:] if word != '--fresh')])}"


def _with_continuation(error: Exception, place: "Place") -> Exception:
    error.args = (f"{error}; what was finished is kept, {_continuation(place)}",)
    return error


def _crowded(ranks: int) -> "Iterator[str]":
    processors = usable_processors()
    if ranks > processors:
        yield (
            f"{ranks} ranks share the {processors} processors that this process may use; more ranks than "
            "processors slow each other down"
        )


def _announce(
    console: "Console",
    settings: "RunSettings",
    sources: "Sources",
    progress: "Progress",
    where: str,
    processes: int,
) -> None:
    from ensemble_eval.evaluation.cost import padding_warnings

    for warning in (*sources.warnings, *padding_warnings(settings, len(sources.dataset.items), processes)):
        _warn(console, warning)
    console.print(
        f"{len(sources.ensemble.members)} models × {settings.crops} crops × {len(sources.dataset.items)} images "
        f"on {where}, {sources.backend}, {settings.precision}",
        highlight=False,
    )
    for name in progress.damaged:
        _warn(console, f"{name} had changed since it was written; its images are done again")
    if progress.done:
        console.print(f"continuing: {len(progress.done)} images were done before", highlight=False)


def _report(console: "Console", settings: "RunSettings", outcome: "Outcome") -> int:
    from ensemble_eval.cli.tables import print_table3

    print_table3(outcome)
    if not outcome.unreadable:
        return 0
    _warn(
        console,
        f"{len(outcome.unreadable)} unreadable images are not counted; see {settings.out / 'unreadable.csv'}",
    )
    return 3


def _warn(console: "Console", sentence: str) -> None:
    console.print(f"warning: {sentence}", style="yellow", highlight=False, soft_wrap=True)
