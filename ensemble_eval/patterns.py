"""Patterns of paths: `{000..127}` names every file of a range, and `*`, `?` and `[…]` match those that exist."""

import fnmatch
import glob
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.locations import ObjectPath

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WILD = re.compile(r"[*?\[]")
_MAX_FILES = 100_000


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern of several files: it has braces or wildcards, and does not exist itself."""
    text = str(path)
    return bool(_BRACES.search(text) or _WILD.search(text)) and not path.exists()


def expanded(path: Path) -> list[Path]:
    """The files of a path or a pattern, sorted; `{000..127}` names every file, `*` those that exist.

    Raises:
        InputError: a named file does not exist, or no file matches.

    Example:
        >>> expanded(Path("/nowhere/shard-{08..11}.tar"))
        Traceback (most recent call last):
        ensemble_eval.errors.InputError: 4 of the 4 files of /nowhere/shard-{08..11}.tar do not exist \
(/nowhere/shard-08.tar, …); check the path
    """
    if not is_pattern(path):
        return [path]
    names = without_braces(path)
    if missing := [name for name in names if not _WILD.search(str(name)) and not name.exists()]:
        raise InputError(
            f"{len(missing)} of the {len(names)} files of {path} do not exist ({missing[0]}, …); check the path"
        )
    found = {each for name in names for each in (_matching(name) if _WILD.search(str(name)) else [name])}
    if not found:
        raise InputError(f"no file matches {path}; check the path")
    return sorted(found, key=str)


def _matching(pattern: Path) -> Iterator[Path]:
    if not isinstance(pattern, ObjectPath):
        # Path.glob knows no absolute patterns.
        yield from map(Path, glob.glob(str(pattern)))  # noqa: PTH207 (the pattern may be absolute)
        return
    wanted = pattern.key.split("/")
    for key, _ in wild_folder(pattern).below():
        parts = key.split("/")
        if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            yield pattern.at(key)


def wild_folder(path: ObjectPath) -> ObjectPath:
    """The deepest folder that holds all files of a pattern; without one, the path itself."""
    parts = path.key.split("/")
    fixed = next((place for place, part in enumerate(parts) if _WILD.search(part) or _BRACES.search(part)), None)
    return path if fixed is None else path.at("/".join(parts[:fixed]))


def without_braces(path: Path) -> list[Path]:
    """The names that a pattern with ranges in braces stands for.

    Raises:
        InputError: a range is empty, or there are too many names.
    """
    text = path.key if isinstance(path, ObjectPath) else str(path)
    # Text, first, last, text, first, last, …, text.
    parts = _BRACES.split(text)
    ranges = list(zip(parts[1::3], parts[2::3], parts[3::3], strict=True))
    if not 0 < math.prod(max(int(last) - int(first) + 1, 0) for first, last, _ in ranges) <= _MAX_FILES:
        raise InputError(f"{text} stands for no files, or for more than {_MAX_FILES}; check its braces")
    choices = [
        [f"{number:0{len(first)}}{rest}" for number in range(int(first), int(last) + 1)]
        for first, last, rest in ranges
    ]
    names = [parts[0] + "".join(chosen) for chosen in itertools.product(*choices)]
    return [path.at(name) if isinstance(path, ObjectPath) else Path(name) for name in names]
