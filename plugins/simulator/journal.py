"""The simulator's memory between runs: owns one append-only file of states; never reads another's.

The file survives a kill of the process, not of the machine: lines are handed to the operating system at once
and never forced to the disk. A last line that was cut is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

import msgspec

from .activities import Activity
from .orders import Order

VERSION = 1


class Header(msgspec.Struct, frozen=True, tag="header"):
    """What the history is regenerated from; `anchor` is the New York day of the first start."""

    version: int
    seed: int
    anchor: date
    history_days: int
    always_open: bool
    accounts: dict[str, Decimal]


class Start(msgspec.Struct, frozen=True, tag="start"):
    """A start of the simulator; their count names the source of new ids."""

    at: int


class OrderLine(msgspec.Struct, frozen=True, tag="order"):
    """The newest state of one order."""

    slug: str
    order: Order


class ActivityLine(msgspec.Struct, frozen=True, tag="activity"):
    """One more activity."""

    slug: str
    activity: Activity


class SettledLine(msgspec.Struct, frozen=True, tag="settled"):
    """An account's fees, dividends and interest are booked up to this day."""

    slug: str
    day: date


class SplitLine(msgspec.Struct, frozen=True, tag="split"):
    """From a moment on, `ratio` new shares stand for one old share."""

    symbol: str
    at: int
    ratio: Decimal


Line = Header | Start | OrderLine | ActivityLine | SettledLine | SplitLine


class Journal:
    """One configuration's file; another seed, account set or history length has another file beside it.

    path: `folder/journal.jsonl` becomes `folder/journal-<seed>-<digest of the configuration>.jsonl`.
    """

    def __init__(
        self,
        path: Path,
        *,
        seed: int,
        accounts: Mapping[str, Decimal],
        history_days: int,
        always_open: bool,
    ) -> None:
        what = repr((VERSION, seed, sorted(accounts.items()), history_days, always_open))
        digest = hashlib.sha256(what.encode()).hexdigest()[:10]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path.with_name(f"{path.stem}-{seed}-{digest}.jsonl")
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        self._file: BinaryIO | None = None

    def read(self) -> Iterator[Line]:
        """Yield every whole line, oldest first. Raises msgspec.DecodeError for a line that is no journal's."""
        if not self.path.exists():
            return
        decoder = msgspec.json.Decoder(Line)
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield decoder.decode(line)

    def open(self) -> None:
        """Make ready to append, after the last whole line."""
        self._file = self.path.open("ab")
        self._file.truncate(_whole_length(self.path))

    def add(self, line: Line) -> None:
        """Put a line into the buffer."""
        self._buffer += self._encoder.encode(line)
        self._buffer += b"\n"

    def flush(self) -> None:
        """Hand the buffered lines to the operating system."""
        if self._file is not None and self._buffer:
            self._file.write(self._buffer)
            self._file.flush()
            self._buffer.clear()

    def close(self) -> None:
        """Flush and close the file; further lines stay in the buffer."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def _whole_length(path: Path) -> int:
    """Return how many bytes of a file are whole lines."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while size > 0:
            start = max(size - 65536, 0)
            file.seek(start)
            end = file.read(size - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            size = start
    return 0
