"""What the files of ILSVRC-2012's validation data are called, and which of them its development kit sets aside."""

import posixpath
import re
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import read_text

VALIDATION_IMAGES = 50_000
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")
_MAX_TEXT_BYTES = 1 << 22


def validation_number(image: str) -> str | None:
    """The number of a validation image, which is its place in the order of file names, from 1 on.

    Args:
        image: an id; the number is found in any layout that kept the file's name.

    Returns:
        Digits without leading zeros; None where the name is no validation image's.

    Example:
        >>> validation_number("n01440764/ILSVRC2012_val_00000293.JPEG")
        '293'
    """
    found = _NUMBERED.search(posixpath.basename(image))
    return str(int(found[1])) if found else None


def integers(path: Path, what: str) -> list[int]:
    """The integers of a text file with one on each line.

    Raises:
        InputError: it cannot be read, or a line holds something else.
    """
    lines = read_text(path, _MAX_TEXT_BYTES).splitlines()
    if not any(map(str.strip, lines)):
        raise InputError(f"{what} {path} is empty; is it the right file?")
    return [_integer(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def read_blacklist(path: Path) -> frozenset[str]:
    """The numbers of the images on a blacklist: a text file of places in the order of names, from 1 on.

    Raises:
        InputError: it cannot be read, is empty, or holds what is no such place, or one of them twice.
    """
    numbers = integers(path, "the blacklist")
    for number in numbers:
        if not 1 <= number <= VALIDATION_IMAGES:
            raise InputError(f"the blacklist {path} holds {number}; places run from 1 to {VALIDATION_IMAGES}")
    if len(set(numbers)) < len(numbers):
        raise InputError(f"the blacklist {path} holds a place twice; is it the right file?")
    return frozenset(map(str, numbers))


def _integer(path: Path, number: int, line: str) -> int:
    text = line.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"{path}, line {number}: {text[:40]!r} is no whole number; is it the right file?")
    return int(text)
