"""A watch: one reader's symbols and what happened to them since it last looked; judges no price.

High and low count regular hours alone, by the sessions that the reader gives (domain.md 9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import anyio

from coldharbour.feed.model import LastPrice
from coldharbour.money import to_decimal
from coldharbour.sessions import Phase, Schedule

if TYPE_CHECKING:
    from coldharbour.feed.prices import Entry

UNKNOWN = timedelta(minutes=1)  # how long a phase holds where the calendar ends


@dataclass(frozen=True, slots=True)
class Move:
    """What happened to a symbol since the last look.

    high, low: of its regular-hours trades, None without any. since: when the first of these was made.
    """

    last: LastPrice
    high: Decimal | None = None
    low: Decimal | None = None
    since: datetime | None = None


class Span:
    """One watch's part in one symbol: the bounds of its prices since the watch looked last."""

    __slots__ = ("entry", "has_moved", "high", "low", "since", "watch")

    def __init__(self, entry: Entry, watch: Watch) -> None:
        self.entry, self.watch = entry, watch
        self.has_moved = False
        self.high: float | None = None
        self.low: float | None = None
        self.since: datetime | None = None

    def fold(self) -> None:
        """Add what the current slice did to the symbol."""
        entry, watch = self.entry, self.watch
        if watch.is_regular(entry.at):
            # A slice that begins before the open has bounds of both phases; its newest price alone is regular.
            is_whole = watch.is_regular(entry.first_at)
            high, low = (entry.high, entry.low) if is_whole else (entry.price, entry.price)
            if self.high is None or self.low is None:
                self.high, self.low, self.since = high, low, entry.first_at if is_whole else entry.at
            elif high > self.high or low < self.low:
                self.high, self.low = max(self.high, high), min(self.low, low)
        self.tell()

    def tell(self) -> None:
        """Have the reader look at this symbol."""
        if not self.has_moved:
            self.has_moved = True
            self.watch.note(self)

    def take(self) -> Move | None:
        """Return what happened and begin anew, None while no price is known."""
        last, high, low, since = self.entry.last(), self.high, self.low, self.since
        self.has_moved, self.high, self.low, self.since = False, None, None, None
        return Move(last, to_decimal(high), to_decimal(low), since) if last else None


class Watch:
    """Which of its symbols moved; made by `Prices.watch`. It wakes its reader at the first move after a look."""

    def __init__(self, entry_of: Callable[[str], Entry]) -> None:
        self._entry_of = entry_of
        self._spans: dict[str, Span] = {}
        self._moved: list[Span] = []
        self._woken = anyio.Event()
        self._sessions = Schedule()
        self._phase = Phase.CLOSED
        self._phase_from: datetime | None = None
        self._phase_until: datetime | None = None

    @property
    def sessions(self) -> Schedule:
        """The sessions by which regular hours are told; none at first, and then no hour is regular."""
        return self._sessions

    @sessions.setter
    def sessions(self, sessions: Schedule) -> None:
        self._sessions = sessions
        self._phase_until = None

    def follow(self, symbols: Iterable[str]) -> None:
        """Watch exactly these symbols. What is known of a new one counts as a move."""
        wanted = set(symbols)
        for symbol in self._spans.keys() - wanted:
            span = self._spans.pop(symbol)
            span.entry.spans = tuple(other for other in span.entry.spans if other is not span)
        for symbol in sorted(wanted - self._spans.keys()):
            span = self._spans[symbol] = Span(self._entry_of(symbol), self)
            span.entry.spans += (span,)
            span.tell()
        self._moved = [span for span in self._moved if span.entry.symbol in wanted]

    def take(self) -> list[Move]:
        """Return every symbol that moved since the last look, all in one go."""
        moved, self._moved = self._moved, []
        return [move for span in moved if (move := span.take())]

    async def wait(self) -> None:
        """Return when something moved, or `wake` was called, since the last time."""
        await self._woken.wait()
        self._woken = anyio.Event()

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    def note(self, span: Span) -> None:
        """Remember that a symbol moved."""
        self._moved.append(span)
        self._woken.set()

    def is_regular(self, at: datetime) -> bool:
        """Return whether a moment lies in regular hours; quick for moments near the one before."""
        if self._phase_from is None or self._phase_until is None or not self._phase_from <= at < self._phase_until:
            self._phase = self._sessions.phase_at(at)
            self._phase_from, self._phase_until = at, self._sessions.next_change(at) or at + UNKNOWN
        return self._phase is Phase.REGULAR
