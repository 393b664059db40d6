"""Libraries that only some formats need: imported when one is read, and named where they are missing."""

import importlib
from types import ModuleType

from ensemble_eval.errors import InputError


def required(module: str, extra: str, what: str) -> ModuleType:
    """A module of an optional dependency.

    Args:
        module: its name.
        extra: of this package, which brings it.
        what: needs it, as a phrase for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise InputError(f"{what} needs {name}, which is missing; pip install 'ensemble-eval[{extra}]'") from error
