"""Runs the job of a command, and says how to continue when it is stopped."""

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ensemble_eval.cli.output import complain_of
from ensemble_eval.errors import (
    UNREADABLE_EXIT_CODE,
    EnsembleEvalError,
    InterruptedRunError,
    LateRanksError,
    WorkerFailedError,
)
from ensemble_eval.jobs.cpu import keep_freed_memory, wait_without_spinning
from ensemble_eval.jobs.process import Process, Role, find_process

if TYPE_CHECKING:
    from ensemble_eval.jobs.job import Job
    from ensemble_eval.jobs.signals import StopRequests

Outcome = TypeVar("Outcome")


def perform(open_job: "Callable[[], Job[Any, Outcome]]", show: Callable[[Outcome], int]) -> int:
    """Run a command's job and return the exit code.

    If several processes share a terminal, one of them reports, and the others print only errors.

    Args:
        open_job: Creates the job. Signals are handled already, because the imports take seconds.
        show: Prints the outcome, and returns the exit code.

    Raises:
        EnsembleEvalError: The job failed, and this process is the one that reports it.
    """
    wait_without_spinning()
    keep_freed_memory()
    process = find_process()
    try:
        return _perform(process, open_job, show)
    except InterruptedRunError as error:
        # Pods share no terminal, so each says how to continue.
        if process.is_reporting or process.role is Role.POD:
            raise
        return error.exit_code
    except EnsembleEvalError as error:
        if process.world_size == 1:
            raise
        complain_of(error, f"rank {process.rank}: ")
        return error.exit_code


def _perform(process: Process, open_job: "Callable[[], Job[Any, Outcome]]", show: Callable[[Outcome], int]) -> int:
    with _continuable(process) as stop:
        from ensemble_eval.cli.drawing import draw_job
        from ensemble_eval.jobs.runner import run_job

        job = open_job()
        with contextlib.closing(run_job(job, process, stop, continuing_words())) as events:
            finished = draw_job(events)
        code = 0 if finished is None else show(finished.outcome)
        return 0 if code == UNREADABLE_EXIT_CODE and job.settings.unreadable_ok else code


def continuing_words() -> list[str]:
    """Return the words of this command line without --fresh, which would discard what is done."""
    return [word for word in sys.argv[1:] if word != "--fresh"]


def continuing_command() -> str:
    """Return the command that continues this one, as a line for the shell."""
    return shlex.join(["ensemble-eval", *continuing_words()])


@contextmanager
def stoppable(how_to_go_on: str) -> "Iterator[StopRequests]":
    """Within the block, treat SIGINT and SIGTERM as stop requests, which end it with an error.

    Raises:
        InterruptedRunError: There was a request; a note of the error says how to continue.
    """
    from ensemble_eval.jobs.signals import StopRequestedError, stop_requests

    try:
        with stop_requests() as stop:
            yield stop
    except StopRequestedError as request:
        error = InterruptedRunError(f"stopped by {request}", request.signal_number)
        error.add_note(how_to_go_on)
        raise error from request


@contextmanager
def _continuable(process: Process) -> "Iterator[StopRequests]":
    """As `stoppable`, for a command that stores what is finished and may be a rank.

    Raises:
        InterruptedRunError: There was a request; a note of the error says how to continue.
    """
    go_on = f"continue with: {continuing_command()}"
    if process.launched:
        # The command line is that of a rank; alone it would start another process.
        go_on = "start the same job again to continue, unless it goes back to the queue by itself"
    go_on = f"what was finished is kept, {go_on}"
    try:
        with stoppable(go_on) as stop:
            yield stop
    except (LateRanksError, WorkerFailedError) as error:
        if not process.launched:
            error.add_note(go_on)
        raise
