"""What a command says when it is stopped or fails, alone or as one of several processes."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ensemble_eval.cli.output import complain_of
from ensemble_eval.errors import EnsembleEvalError, InterruptedRunError, LateRanksError, WorkerFailedError
from ensemble_eval.launch.place import Place
from ensemble_eval.launch.signals import StopRequestedError, StopRequests, stop_requests


def continuing_words() -> list[str]:
    """The words of this command line that continue it: all but --fresh, which would discard what is done."""
    return [word for word in sys.argv[1:] if word != "--fresh"]


def continuing_command() -> str:
    """The command that continues this one, as a line for the shell."""
    return shlex.join(["ensemble-eval", *continuing_words()])


@contextmanager
def stoppable(how_to_go_on: str) -> Iterator[StopRequests]:
    """Within the block SIGINT and SIGTERM are stop requests, and such a request ends it with an error.

    Raises:
        InterruptedRunError: there was a request; a note of the error's says how to go on.
    """
    try:
        with stop_requests() as stop:
            yield stop
    except StopRequestedError as request:
        error = InterruptedRunError(f"stopped by {request}", request.signal_number)
        error.add_note(how_to_go_on)
        raise error from request


@contextmanager
def continuable(place: Place) -> Iterator[StopRequests]:
    """As `stoppable`, for a command that keeps what was finished and may be one of several processes.

    Raises:
        InterruptedRunError: there was a request; a note of the error's says how to go on.
    """
    go_on = f"continue with: {continuing_command()}"
    if place.launched:
        # The command is not this process's own: it would be one process more.
        go_on = "start the same job again to continue, unless it goes back to the queue by itself"
    go_on = f"what was finished is kept, {go_on}"
    try:
        with stoppable(go_on) as stop:
            yield stop
    except (LateRanksError, WorkerFailedError) as error:
        if not place.launched:
            error.add_note(go_on)
        raise


def as_one_of(place: Place, work: Callable[[], int]) -> int:
    """Do a command's work and return its exit code.

    Where several processes share a terminal, one speaks; of the others only their errors are seen.

    Args:
        place: of this process among those of the command.
        work: returns the exit code.

    Raises:
        EnsembleEvalError: whatever the work raises, where this process is the one to say it.
    """
    try:
        return work()
    except InterruptedRunError as error:
        if place.reports:
            raise
        return error.exit_code
    except EnsembleEvalError as error:
        if place.world == 1:
            raise
        complain_of(error, f"rank {place.rank}: ")
        return error.exit_code
