"""The exception tree. Every message is one sentence that says what is wrong and what to do.

EnsembleEvalError            any other error                                exit code 1
├── InputError               bad input or usage                             exit code 2
│   ├── NonFiniteScoresError a member yields NaN or infinity                exit code 2
│   ├── MissingExtraError    a package of an extra is not installed         exit code 2
│   └── UnavailableError     the run did not store what an analysis needs   exit code 2
├── UnreachableError         a store does not answer                        exit code 1
├── LateRanksError           ranks of a job are treated as hung             exit code 1
├── WorkerFailedError        a worker of a job failed                       its exit code
├── UnreadableImageError     an image cannot be read; it is listed, never replaced
└── InterruptedRunError      stopped by a signal                            exit code 128 + signal
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape

# The exit codes of commands that raise no error: they are done, but some images were unreadable; or were stopped.
UNREADABLE_EXIT_CODE = 3
STOPPED_EXIT_CODES = (128 + signal.SIGINT, 128 + signal.SIGTERM)


class EnsembleEvalError(Exception):
    """The base class of all errors that this package raises on purpose."""

    exit_code = 1

    def _repr_html_(self) -> str:
        """The message in a notebook that shows the error as a value."""
        return f"<p>{type(self).__name__}: {escape(str(self))}</p>"


class InputError(EnsembleEvalError):
    """The command, a manifest, weights or data cannot be used as given."""

    exit_code = 2


class NonFiniteScoresError(InputError):
    """The scores of a member hold NaN or infinity, so the rank of the label is undefined."""


class MissingExtraError(InputError):
    """A package of an extra is not installed; the message says how to install it.

    Args:
        problem: What is missing, as a main clause.
        extra: The extra that installs the package.
        otherwise: An alternative, to follow the command.
    """

    def __init__(self, problem: str, extra: str, otherwise: str = "") -> None:
        super().__init__(f"{problem}; run: pip install 'ensemble-eval[{extra}]'{otherwise}")


class UnavailableError(InputError):
    """An analysis is not available for a run; the message says why, and which argument of the run it needs."""


class LateRanksError(EnsembleEvalError):
    """Some ranks of a job have stored nothing for longer than the time limit."""


class WorkerFailedError(EnsembleEvalError):
    """A worker that the job started failed; it has printed the reason itself, if it could."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UnreadableImageError(EnsembleEvalError):
    """An image cannot be decoded or is unreasonably large; the job lists it and continues."""


class InterruptedRunError(EnsembleEvalError):
    """A signal stopped the job, which has written its finished images."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def first_names(names: Sequence[str], at_most: int = 3) -> str:
    """Join the first of some names for a sentence, which must not grow with their number.

    Example:
        >>> first_names(["ant", "bee", "cat", "dog"])
        'ant, bee, cat, …'
    """
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")


def first_line(error: Exception) -> str:
    """Return the first line of a foreign error's message, or the name of its type if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def located(place: str) -> Iterator[None]:
    """Prefix the message of any `InputError` in the block with `place`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def reason_of(error: Exception) -> str:
    """Return the message of a foreign error in one line, without error number and path."""
    return getattr(error, "strerror", None) or first_line(error)


@contextmanager
def refusing(problem: str, remedy: str = "", *errors: type[Exception]) -> Iterator[None]:
    """Convert errors of other packages about bad input to an `InputError` with one sentence.

    Args:
        problem: The problem as a main clause; the message of the error follows in parentheses.
        remedy: What to do; empty if the error says it.
        errors: The errors to convert; none for all, where it is not documented what bad input may raise.

    Raises:
        InputError: There was such an error. Errors of this package from the block are raised unchanged.

    Example:
        >>> with refusing("it is no number", "fix it", ValueError):
        ...     float("x")
        Traceback (most recent call last):
        ensemble_eval.errors.InputError: it is no number (could not convert string to float: 'x'); fix it
    """
    kinds = errors or (Exception,)
    try:
        yield
    except EnsembleEvalError:
        raise
    except kinds as error:
        raise InputError(f"{problem} ({reason_of(error)}){remedy and f'; {remedy}'}") from error


@contextmanager
def needing_extra(extra: str, purpose: str = "") -> Iterator[None]:
    """Convert an import error in the block to an error that says how to install the package.

    Args:
        extra: The extra that installs the package.
        purpose: What needs the package, as the subject of a sentence.

    Raises:
        MissingExtraError: The package is missing or broken.

    Example:
        >>> with needing_extra("report"):
        ...     import absent
        Traceback (most recent call last):
        ensemble_eval.errors.MissingExtraError: absent is not installed; run: pip install 'ensemble-eval[report]'
    """
    try:
        yield
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError)
        state = "is not installed" if absent else f"cannot be imported ({first_line(error)})"
        package = (error.name or "a package").partition(".")[0]
        subject = f"{purpose} needs {package}, which" if purpose else package
        raise MissingExtraError(f"{subject} {state}", extra) from error
