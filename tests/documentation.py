"""What the tests of README and docs share: the pages, and the code blocks in them."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
_FENCE = re.compile(r"^( *)(```+)(\w*)\n(.*?)^\1\2$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: what stands behind the fence; "" for commands.
        text: its lines.
    """

    language: str
    text: str


def read(page):
    return page.read_text(encoding="utf-8")


def name(page):
    """Path of a page below the root of the project."""
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """The fenced blocks of a page."""
    found = _FENCE.finditer(read(page))
    return [Block(fence[3], textwrap.dedent(fence[4])) for fence in found]


def prose(page):
    """A page without its fenced blocks."""
    return _FENCE.sub("", read(page))


def commands(page):
    """Commands in the blocks of a page that say no language, one a line, without comments."""
    text = "\n".join(block.text for block in blocks(page) if not block.language)
    lines = text.replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip()]
