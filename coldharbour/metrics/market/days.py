"""On which days the market was open: the calendar that is kept for the present, the broker's own for the past."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

from coldharbour import store as kernel
from coldharbour.metrics.market import Source, store
from coldharbour.metrics.market.store import Span
from coldharbour.sessions import MarketSession

DAY: Final = timedelta(days=1)
LONGEST_PAUSE: Final = timedelta(days=7)  # between two sessions: 10 to 17 September 2001


@dataclass(frozen=True, slots=True)
class Days:
    """The session days of an account's life, ascending, the running one included.

    since: its first day, session or not. recent: the newest sessions with their bounds.
    """

    since: date
    all: tuple[date, ...]
    recent: tuple[MarketSession, ...]

    def begun(self, now: datetime) -> MarketSession | None:
        """Return the newest session whose pre-market has begun."""
        return max((session for session in self.recent if session.pre_open_utc <= now), default=None)

    def closed_through(self, now: datetime, settle: timedelta) -> date | None:
        """Return the newest session that closed at least so long ago."""
        older = [day for day in self.all if not self.recent or day < self.recent[0].session_date]
        closed = [session.session_date for session in self.recent if session.close_utc + settle <= now]
        return max([*older[-1:], *closed], default=None)

    def before(self, day: date) -> date | None:
        """Return the session before a day."""
        return max((known for known in self.all if known < day), default=None)


async def session_days(source: Source, first: date, now: datetime) -> Days:
    """Return the session days from a day on, as far as one is known; the broker is asked once for each.

    The present comes from the schedule that is kept for all workers, since it may still change.
    """
    async with source.db.transaction() as conn:
        recent = [session for session in await kernel.sessions_of(conn, source.market) if session.pre_open_utc <= now]
        asked = await store.days_span(conn, source.market)
    if not recent:
        return Days(first, (), ())
    past = Span(first, recent[0].session_date - DAY)
    for span in _unasked(past, asked):
        await _ask(source, span)
    async with source.db.transaction() as conn:
        days = await store.session_days(conn, source.market, past)
    return Days(first, (*days, *(s.session_date for s in recent if s.session_date >= first)), tuple(recent))


def calendar_holes(days: Sequence[date], first: date) -> list[Span]:
    """Return the spans in which sessions must be missing: no market pauses that long. first: the first day needed."""
    return [Span(a + DAY, b - DAY) for a, b in pairwise([first - DAY, *days]) if b - a > LONGEST_PAUSE]


async def _ask(source: Source, span: Span) -> None:
    if source.broker is None:
        return
    found = await source.broker.calendar(*span)
    source.alive()
    async with source.db.transaction() as conn:
        await store.save_days(conn, source.market, span, [(day.date, day.close) for day in found])


def _unasked(wanted: Span, known: Span | None) -> Iterator[Span]:
    """Yield what of the wanted days lies outside the known ones; what is asked stays in one piece."""
    if wanted.first > wanted.last:
        return
    if known is None:
        yield wanted
        return
    if wanted.first < known.first:
        yield Span(wanted.first, known.first - DAY)
    if wanted.last > known.last:
        yield Span(known.last + DAY, wanted.last)
