"""Names of several files in one, as WebDataset and the shell write them."""

import glob
import itertools
import re
from pathlib import Path

from ensemble_eval.errors import InputError

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WILD = re.compile(r"[*?\[]")
_MAX_FILES = 100_000


def is_pattern(path: Path) -> bool:
    """Whether a path stands for several files: it is none itself, and has braces or wildcards."""
    text = str(path)
    return bool(_BRACES.search(text) or _WILD.search(text)) and not path.exists()


def expanded(path: Path) -> list[Path]:
    """The files that a pattern stands for, sorted; `{000..127}` names every one, `*` those that are there.

    Raises:
        InputError: one of them does not exist, or there is none.

    Example:
        >>> expanded(Path("/nowhere/shard-{08..11}.tar"))
        Traceback (most recent call last):
        ensemble_eval.errors.InputError: 4 of the 4 files of /nowhere/shard-{08..11}.tar do not exist \
(/nowhere/shard-08.tar, …); check the path
    """
    names = _without_braces(str(path))
    if missing := [name for name in names if not _WILD.search(name) and not Path(name).exists()]:
        raise InputError(
            f"{len(missing)} of the {len(names)} files of {path} do not exist ({missing[0]}, …); check the path"
        )
    found = {each for name in names for each in (_matching(name) if _WILD.search(name) else [name])}
    if not found:
        raise InputError(f"no file matches {path}; check the path")
    return [Path(name) for name in sorted(found)]


def _matching(pattern: str) -> list[str]:
    # Path.glob knows no absolute patterns.
    return glob.glob(pattern)  # noqa: PTH207


def _without_braces(text: str) -> list[str]:
    parts = _BRACES.split(text)
    # Text, first, last, text, first, last, …, text.
    counts = [int(last) - int(first) + 1 for first, last in zip(parts[1::3], parts[2::3], strict=True)]
    total = 1
    for count in counts:
        total *= count
        if count < 1 or total > _MAX_FILES:
            raise InputError(f"{text} stands for no files, or for more than {_MAX_FILES}; check its braces")
    choices = [[parts[0]]]
    for first, last, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        numbers = range(int(first), int(last) + 1)
        choices.append([f"{number:0{len(first)}}{rest}" for number in numbers])
    return ["".join(chosen) for chosen in itertools.product(*choices)]
