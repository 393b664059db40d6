"""How the keys of two runs differ, for the sentence that refuses one of them."""

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

# From a key that was stored and the key of this run to what differs, as a phrase.
Difference = Callable[[Mapping[str, Any], Mapping[str, Any]], str]


def key_difference(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], said_better: Mapping[str, str] | None = None
) -> str:
    """Where two runs' keys differ, as a phrase; `said_better` has phrases for names whose values tell little."""
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    better = said_better or {}
    return "; ".join(
        better.get(name, f"{name} {_short(theirs.get(name))}, now {_short(ours.get(name))}") for name in names
    )


def _short(value: object) -> str:
    with contextlib.suppress(TypeError):
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return repr(value)
