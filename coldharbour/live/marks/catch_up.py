"""Catching up: the extremes that no tick told, found in bars while the lots are valued on.

Owns when bars are read and by which calendar; a restart begins where the table says that extremes are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from coldharbour.broker import Broker
from coldharbour.clock import Clock
from coldharbour.live.marks.book import MarkBook
from coldharbour.live.marks.history import BarHistory
from coldharbour.live.marks.lot import Hearing
from coldharbour.sessions import NEW_YORK, MarketSession, session_between


class CatchUp:
    """Fills the holes in the extremes of one account's lots."""

    def __init__(self, book: MarkBook, history: BarHistory, broker: Broker, clock: Clock) -> None:
        self._book, self._history, self._broker, self._clock = book, history, broker, clock
        self._older: list[MarketSession] = []  # before those that the market's schedule keeps

    async def fill_holes(self, hearing: Hearing, sessions: Sequence[MarketSession]) -> None:
        """Read the bars of what no tick told. The lots change as parts come in, so that little is lost by a failure.

        sessions: those that are known, in order; without any, nothing can be said. Raises Transient and
        BrokerRefused.
        """
        oldest = self._book.oldest_unseen(hearing)
        if oldest is None or not sessions:
            return
        sessions = await self._reaching_back(oldest.astimezone(NEW_YORK).date(), sessions)
        asked_at = self._clock.now()
        holes = self._book.holes(hearing, asked_at, sessions)
        async for found in self._history.bounds({wanted for hole in holes for wanted in hole.wanted}):
            self._book.fill(holes, found)
        self._book.seen(holes, asked_at)

    async def _reaching_back(self, day: date, sessions: Sequence[MarketSession]) -> list[MarketSession]:
        """Return the sessions with those from a day on in front, which come from the broker once."""
        first = sessions[0].session_date
        if day < min([first, *(session.session_date for session in self._older)]):
            days = await self._broker.calendar(day, first - timedelta(days=1))
            self._older = [session_between(each.open, each.close) for each in days]
        return [session for session in self._older if session.session_date < first] + list(sessions)
