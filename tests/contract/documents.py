"""Reads documents as tests need them: headings, tables, code; knows nothing of their subject."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?$")
HEADING = re.compile(r"^#+ +(.+)$")
CELL_END = re.compile(r"(?<!\\)\|")
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code; `title` is the file name that its first line gives."""

    language: str
    title: str
    text: str


@dataclass
class Section:
    """What stands below one heading, up to the next."""

    heading: str
    lines: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The prose, code blocks left out."""
        return "\n".join(self.lines)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of all its tables, each cell under its column's name."""
        rows, columns = [], None
        for line in self.lines:
            cells = [cell.strip().replace(r"\|", "|") for cell in CELL_END.split(line.strip())[1:-1]]
            if not cells:
                columns = None
            elif columns is None:
                columns = cells
            elif not set("".join(cells)) <= set("-: "):
                assert len(cells) == len(columns), f"{len(columns)} columns, {len(cells)} cells: {line}"
                rows.append(dict(zip(columns, cells, strict=True)))
        return rows


class Document:
    """A Markdown file of the repository."""

    def __init__(self, path: str) -> None:
        self.path = ROOT / path
        self.sections = list(_sections(self.path.read_text(encoding="utf-8").splitlines()))

    def section(self, heading: str) -> Section:
        """Return the section below a heading (its backticks count). Raises AssertionError if it is not there once."""
        found = [section for section in self.sections if section.heading == heading]
        assert len(found) == 1, f"{self.path.name}: {len(found)} sections {heading!r}"
        return found[0]

    @property
    def blocks(self) -> dict[str, Block]:
        """The code blocks that name their file."""
        return {block.title: block for section in self.sections for block in section.blocks if block.title}

    @property
    def links(self) -> list[str]:
        """The targets of all links and pictures."""
        return [target for section in self.sections for target in LINK.findall(section.text)]

    @property
    def spans(self) -> list[str]:
        """All code spans of the prose and the tables."""
        return [span for section in self.sections for span in CODE.findall(section.text)]


def _sections(lines: list[str]) -> Iterator[Section]:
    section, fence = Section(""), None
    block: list[str] = []
    for line in lines:
        opening = FENCE.match(line)
        if fence is not None and line == "```":
            text = "\n".join(block) + "\n"
            section.blocks.append(Block(fence["language"], fence["title"] or "", text))
            block, fence = [], None
        elif fence is not None:
            block.append(line)
        elif opening:
            fence = opening
        elif heading := HEADING.match(line):
            yield section
            section = Section(heading[1])
        else:
            section.lines.append(line)
    assert fence is None, "a code block has no end"
    yield section
