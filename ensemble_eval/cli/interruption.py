"""What a command that is told to stop says of how to go on."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ensemble_eval.errors import InterruptedRunError
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
