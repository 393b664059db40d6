"""The pages that users read, and what stands in them as code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGES = (PROJECT / "README.md", PROJECT / "checkpoints" / "README.md", *sorted((PROJECT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language (empty for commands), its text, and the line that it begins on."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    """Its path in the project."""
    return page.relative_to(PROJECT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(match[1], match[2], text[: match.start()].count("\n") + 2) for match in _BLOCK.finditer(text)]


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in a page's sentences and tables."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(match[1].split()) for match in _INLINE.finditer(text)]


def command_lines(page: Path) -> Iterator[str]:
    """The lines of a page's blocks of commands, continuations joined."""
    for block in blocks(page):
        if not block.language:
            yield from filter(None, map(str.strip, block.text.replace("\\\n", " ").splitlines()))
