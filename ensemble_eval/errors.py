"""The exception tree. Every message is one sentence that says what is wrong and what to do.

EnsembleEvalError            a fault of ours                              exit code 1
├── InputError               bad input or usage                           exit code 2
│   ├── NonFiniteScoresError a member yields NaN or infinity              exit code 2
│   ├── MissingExtraError    a package of an extra is not installed       exit code 2
│   └── UnavailableError     a run did not store what an analysis needs   exit code 2
├── LateRanksError           processes of a run came to a halt            exit code 1
├── WorkerFailedError        a process of a run ended badly               its exit code
├── UnreadableImageError     one image cannot be evaluated; listed, never replaced
└── InterruptedRunError      stopped by a signal; carries the signal      exit code 128 + signal
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class EnsembleEvalError(Exception):
    """Root of all errors that this package raises on purpose."""

    exit_code = 1


class InputError(EnsembleEvalError):
    """The command, a manifest, weights or data cannot be used as given."""

    exit_code = 2


class NonFiniteScoresError(InputError):
    """A member's scores hold NaN or infinity, so no rank of the label is defined."""


class MissingExtraError(InputError):
    """What was asked for needs a package of an extra that is not installed; it says how to install it.

    Args:
        problem: what is missing, as a main clause.
        extra: the extra of this package that installs it.
        otherwise: what to do instead.
    """

    def __init__(self, problem: str, extra: str, otherwise: str = "") -> None:
        super().__init__(f"{problem}; run: pip install 'ensemble-eval[{extra}]'{otherwise}")


class UnavailableError(InputError):
    """An analysis cannot be had of a run; it says why, and which argument would have kept what it needs."""


class LateRanksError(EnsembleEvalError):
    """Some processes of a run have stored nothing for longer than the run allows."""


class WorkerFailedError(EnsembleEvalError):
    """A process that the run started ended badly; it has said why, if it could."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UnreadableImageError(EnsembleEvalError):
    """One image cannot be decoded or is unreasonably large; the run lists it and goes on."""


class InterruptedRunError(EnsembleEvalError):
    """The run was told to stop by a signal and has written what was finished."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def first_names(names: Sequence[str], at_most: int = 3) -> str:
    """The first of some names, for a sentence that must not grow with their number.

    Example:
        >>> first_names(["ant", "bee", "cat", "dog"])
        'ant, bee, cat, …'
    """
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")


def first_line(error: Exception) -> str:
    """What an error of somebody else's says, in one line; its type's name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def located(place: str) -> Iterator[None]:
    """Say where: an `InputError` from inside begins with `place`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def reason_of(error: Exception) -> str:
    """What an error of somebody else's says, in one line, without the system's number and path."""
    return getattr(error, "strerror", None) or first_line(error)


@contextmanager
def refusing(problem: str, remedy: str = "", *errors: type[Exception]) -> Iterator[None]:
    """Turn what somebody else's code makes of bad input into one sentence.

    Args:
        problem: as a main clause; what the error says follows in parentheses.
        remedy: what to do; empty where the error says it.
        errors: to turn; none for any, where it is not documented what damage may raise.

    Raises:
        InputError: there was such an error, or an `InputError`, which stays as it is.

    Example:
        >>> with refusing("it is no number", "mend it", ValueError):
        ...     float("x")
        Traceback (most recent call last):
        ensemble_eval.errors.InputError: it is no number (could not convert string to float: 'x'); mend it
    """
    kinds = errors or (Exception,)
    try:
        yield
    except InputError:
        raise
    except kinds as error:
        raise InputError(f"{problem} ({reason_of(error)}){remedy and f'; {remedy}'}") from error


@contextmanager
def needing_extra(extra: str, purpose: str = "") -> Iterator[None]:
    """Say how to install what an import inside does not find.

    Args:
        extra: the extra of this package that installs it.
        purpose: what needs it, as the subject of a sentence.

    Raises:
        MissingExtraError: a package is missing or broken.

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
