"""How the keys of two runs differ, for the sentence that refuses one of them."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any


def key_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Where two runs' keys differ, as a phrase."""
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    return "; ".join(f"{name} {_short(theirs.get(name))}, now {_short(ours.get(name))}" for name in names)


def _short(value: object) -> str:
    with contextlib.suppress(TypeError):
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return repr(value)
