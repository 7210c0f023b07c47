"""Time as an argument: the clock that workers read and sleep by, real or virtual.

Owns `now`, `monotonic` and `sleep`; nothing else in the project asks the operating system for the time.
"""

from __future__ import annotations

import heapq
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol

import anyio
import anyio.lowlevel


class Clock(Protocol):
    """What a worker may know of time."""

    def now(self) -> datetime:
        """Return the current moment, timezone-aware UTC."""

    def monotonic(self) -> float:
        """Return seconds that only grow, for measuring durations."""

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock (at once for zero and below)."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await anyio.sleep(max(delay_s, 0))


class VirtualClock:
    """A clock that stands still until `advance` moves it; sleepers wake in the order of their deadlines."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._tie = count()
        self._sleepers: list[tuple[float, int, anyio.Event]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        heapq.heappush(self._sleepers, (self._elapsed_s + delay_s, next(self._tie), woken))
        await woken.wait()

    def advance(self, seconds: float) -> None:
        """Move time forward and wake everyone whose deadline has come."""
        self._elapsed_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_s:
            heapq.heappop(self._sleepers)[2].set()
