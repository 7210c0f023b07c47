"""The daily rows of one account, kept in step with the lake, the calendar and the closes; the rules are `equity`'s.

Each cycle redoes the sessions from the first one of which something is new; earlier ones stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final

import anyio.to_thread

from coldharbour.live.activities import store as lake
from coldharbour.live.findings import store as findings
from coldharbour.metrics import store
from coldharbour.metrics.equity import Closes, SessionBook, SessionBooks, needed_closes, replay
from coldharbour.metrics.market import Source
from coldharbour.metrics.market import store as market
from coldharbour.metrics.market.closes import fetch_closes
from coldharbour.metrics.market.days import Days, calendar_holes, session_days
from coldharbour.metrics.market.newest import newest_prices
from coldharbour.metrics.market.store import Span
from coldharbour.metrics.model import DayEnd
from coldharbour.sessions import MarketSession

READER: Final = "equity"
LIMIT_S: Final = 120.0  # for reading a whole ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an account's equity is made with.

    performance: the activity types that change profit. rf: riskless return of one day, a fraction. settle: how long
    after a session's end its bars are trusted.
    """

    performance: frozenset[str]
    rf: float = 0.0
    settle: timedelta = timedelta(minutes=16)

    @property
    def basis(self) -> str:
        """What rows must be made anew for when it changes."""
        return f"rf={self.rf!r} {','.join(sorted(self.performance))}"


@dataclass(frozen=True, slots=True)
class News:
    """What a look brought. findings: new ones, to be logged. moment: the first of the running session with news.

    seen: the revision up to which everything is in the rows.
    """

    changed: int
    findings: tuple[str, ...]
    moment: datetime | None
    seen: int


class DailyRows:
    """The daily rows of one account."""

    def __init__(self, source: Source, slug: str, rules: Rules) -> None:
        self.source, self.slug, self.rules = source, slug, rules
        self._db = source.db

    async def days(self, now: datetime) -> Days | None:
        """Return the sessions from the account's first activity on; None if there is none that has begun."""
        async with self._db.transaction() as conn:
            first = await lake.first_day(conn, self.slug)
        if first is None:
            return None
        days = await session_days(self.source, first, now)
        return days if days.all else None

    async def bring_up(self, days: Days, now: datetime) -> News:
        """Redo what is new, and go on to the session that runs now. Raises Transient if the broker does not answer."""
        mark, change = await self._look(days, now)
        closed_through = days.closed_through(now, self.rules.settle)
        redo_from = await self._redo_from(days, mark, change)
        late = await self._late_closes(now)
        if late is not None and redo_from is not None:
            redo_from = min(redo_from, late)
        async with self._db.transaction() as conn:
            start = await store.day_end(conn, self.slug, redo_from) if redo_from else None
        books = await self._books(days, start)
        closed = [book for book in books if closed_through and book.session_date <= closed_through]
        needs = {symbol: Span(*span) for symbol, span in needed_closes(closed, start).items()}
        await fetch_closes(self.source, needs, now)
        ends = await self._replay(days, books, start, closed_through)
        changed, news = await self._save(days, ends, start, mark, now)
        return News(changed, tuple(news), change.moment, mark.floor)

    async def is_behind(self, news: News) -> bool:
        """Say whether the lake may hold what that look did not see."""
        async with self._db.transaction() as conn:
            return await lake.has_news(conn, self.slug, news.seen)

    async def _look(self, days: Days, now: datetime) -> tuple[lake.Mark, lake.Change]:
        running = days.begun(now)
        async with self._db.transaction() as conn:
            mark = await lake.mark(conn, self.slug, READER, self.rules.basis)
            if not mark.since or running is None:  # everything is news
                return mark, lake.Change(None, True, running.pre_open_utc if running else None)
            await lake.expect_few(conn)
            before = days.before(running.session_date) or date.min
            change = await lake.change(
                conn, self.slug, mark.since, after=before, through=running.session_date, begin=running.pre_open_utc
            )
        return mark, change

    async def _redo_from(self, days: Days, mark: lake.Mark, change: lake.Change) -> date | None:
        """Return the day from which everything is redone, None for the very first.

        A correction may have counted on any day before, and a session that became known late has no row yet.
        """
        async with self._db.transaction() as conn:
            kept = await store.closed_days(conn, self.slug)
        expected = [day for day in days.all if kept and kept[0] <= day <= kept[-1]]
        if not kept or not mark.since or change.corrected or kept != expected:
            return None
        following = kept[-1] + timedelta(days=1)
        return min(following, change.first_day) if change.first_day else following

    async def _late_closes(self, now: datetime) -> date | None:
        """Ask again for what had no price; return the first day that has one now."""
        async with self._db.transaction() as conn:
            unpriced = await store.unpriced(conn, self.slug)
        return await fetch_closes(self.source, unpriced, now) if unpriced else None

    async def _books(self, days: Days, start: DayEnd | None) -> list[SessionBook]:
        after = start.point.session_date if start else None
        books = SessionBooks(days.all, performance_types=self.rules.performance, after=after)
        async with self._db.transaction(timeout_s=LIMIT_S) as conn:
            if start:
                await lake.expect_few(conn)
            async for some in lake.activities(conn, self.slug, after, days.all[-1]):
                books.add(some)  # piece by piece: a whole ledger of objects would stop the loop when it is collected
                self.source.alive()
        return books.begun()

    async def _replay(
        self, days: Days, books: Sequence[SessionBook], start: DayEnd | None, closed_through: date | None
    ) -> list[DayEnd]:
        if not books:
            return []
        symbols = {*needed_closes(books, start)}
        async with self._db.transaction() as conn:
            span = Span(books[0].session_date, books[-1].session_date)
            closes = await market.closes(conn, self.source.market, symbols, span)
            now_paid = await newest_prices(conn, self.source, self.slug, symbols)
        for session in days.recent:
            if closed_through is None or session.session_date > closed_through:
                _add_prices(closes, session, now_paid)
        made = partial(_all_ends, books, closes, start, closed_through, self.rules.rf)
        return await anyio.to_thread.run_sync(made)

    async def _save(
        self, days: Days, ends: Sequence[DayEnd], start: DayEnd | None, mark: lake.Mark, now: datetime
    ) -> tuple[int, list[str]]:
        first = start.point.session_date + timedelta(days=1) if start else None
        async with self._db.transaction(timeout_s=LIMIT_S) as conn:
            changed = await store.save_days(conn, self.slug, ends, first)
            await lake.keep_mark(conn, self.slug, READER, self.rules.basis, mark.floor)
            missing = await store.missing_prices(conn, self.slug)
            unpriced = await findings.settle(conn, self.slug, "prices", _about_prices(missing), now)
            holes = calendar_holes(days.all, days.since)
            unknown = await findings.settle(conn, self.slug, "calendar", _about_holes(holes), now)
        return changed, unpriced.new + unknown.new


def _all_ends(
    books: Sequence[SessionBook], closes: Closes, start: DayEnd | None, closed_through: date | None, rf: float
) -> list[DayEnd]:
    return list(replay(books, closes, start=start, closed_through=closed_through or date.min, rf=rf))


def _add_prices(
    closes: dict[str, dict[date, Decimal]], session: MarketSession, now_paid: Mapping[str, store.Price]
) -> None:
    """Let the newest prices of a session that has not closed stand for its closes."""
    for symbol, newest in now_paid.items():
        if newest.at >= session.pre_open_utc:
            closes.setdefault(symbol, {})[session.session_date] = newest.price


def _about_prices(missing: Mapping[str, Span]) -> dict[str, str]:
    return {
        symbol: f"{symbol} has no price from {span.first} to {span.last}: its value is left out of these days' equity"
        for symbol, span in missing.items()
    }


def _about_holes(holes: Sequence[Span]) -> dict[str, str]:
    return {
        f"{hole.first}": f"the broker's calendar has no session from {hole.first} to {hole.last}: "
        "what happened then counts in the session after"
        for hole in holes
    }
