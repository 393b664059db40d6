"""What a member is told to be, refused where one statement excludes another."""

import re
from collections.abc import Mapping
from typing import Any

from ensemble_eval.errors import InputError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_OF_WEIGHTS = frozenset({"arch", "options", "sha256", "input", "averaged"})
_GOES_WITH = {"weights": _OF_WEIGHTS, "network": {"input"}, "predict": {"fingerprint"}}
# Whatever gives the outputs, they may stand in another order than the classes.
_GOES_WITH_ALL = frozenset({"outputs", "renormalise"})


def the_source(sources: Mapping[str, object]) -> str:
    """The name of the one source that is given.

    Raises:
        InputError: there is none, or more than one.
    """
    given = [name for name, value in sources.items() if value is not None]
    if not given:
        raise InputError("there is nothing to predict with; give `weights` and `arch`, `network`, or `predict`")
    if len(given) > 1:
        raise InputError(f"`{given[0]}` and `{given[1]}` exclude each other; give one of them")
    return given[0]


def refuse_contradictions(source: str, stated: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse statements that do not go with a member's source, and values of the wrong kind.

    Raises:
        InputError: there is one.
    """
    for name, value in stated.items():
        if value is not None and name not in _GOES_WITH[source] | _GOES_WITH_ALL and value != known.get(name):
            raise InputError(f"`{name}` does not go with `{source}`; leave it out")
    if source == "network" and stated["input"] is None:
        raise InputError("`network` needs `input`, such as `input=InputFormat.imagenet()`; add it")
    sha256, fingerprint = stated["sha256"], stated["fingerprint"]
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise InputError(f"`sha256` is 64 lower-case hexadecimal digits, not {sha256!r}")
    if fingerprint is not None and not (isinstance(fingerprint, str) and fingerprint):
        raise InputError(f"`fingerprint` is a text, not {fingerprint!r}")
    for name in ("averaged", "renormalise"):
        if not isinstance(stated[name], bool | None):
            raise InputError(f"`{name}` is true or false, not {stated[name]!r}")
