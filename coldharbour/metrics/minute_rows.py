"""The intraday rows of one account: the minute that runs from the tables, those that were missed from bars.

The rules are `intraday`'s. A minute is never invented: without bars it stays missing, without a price it says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final

import anyio.to_thread

from coldharbour.broker import Bar, BrokerRefused, KeysRefused
from coldharbour.live.activities import store as lake
from coldharbour.live.cash import AccountActivity
from coldharbour.live.findings import store as findings
from coldharbour.metrics import store
from coldharbour.metrics.daily_rows import LIMIT_S, Rules
from coldharbour.metrics.intraday import MINUTE, Minute, intraday_points, minutes_from_bars
from coldharbour.metrics.market import Source
from coldharbour.metrics.market.days import Days
from coldharbour.metrics.market.newest import newest_prices
from coldharbour.metrics.model import DayEnd, IntradayPoint
from coldharbour.sessions import MarketSession

GRACE: Final = timedelta(seconds=5)  # a look this soon after a minute's end still tells of that minute
WORTHWHILE: Final = 15  # missing minutes; fewer wait for those that follow, since bars are asked for from the beginning
SYMBOLS_A_REQUEST: Final = 10  # a session of theirs fits into one page of bars


@dataclass(frozen=True, slots=True)
class SessionBegin:
    """What a session's minutes are made from: the end of the session before, and the activities since."""

    session: MarketSession
    opening: DayEnd | None
    activities: Sequence[AccountActivity]

    @property
    def symbols(self) -> set[str]:
        """Every symbol that was held, or moved."""
        held = set(self.opening.quantities) if self.opening else set()
        return held | {activity.symbol for activity in self.activities if activity.symbol}

    def points(self, minutes: Iterable[Minute], rules: Rules) -> list[IntradayPoint]:
        """Return the account at these minutes."""
        day = self.session.session_date
        return list(intraday_points(day, minutes, self.activities, self.opening, performance_types=rules.performance))


class MinuteRows:
    """The intraday rows of one account."""

    def __init__(self, source: Source, slug: str, rules: Rules) -> None:
        self.source, self.slug, self.rules = source, slug, rules
        self._db = source.db

    async def write_running(self, days: Days, now: datetime, hearing_since: datetime | None) -> bool:
        """Write the minute that runs, or has just ended; return whether there is one.

        hearing_since: from when on no price can have been missed, None while they may be. A minute that was over by
        then is made again from bars: its prices are those of before.
        """
        at = _minute(now - GRACE)
        session = days.begun(at)
        begin = await self._begin(days, session) if session and at < session.post_close_utc else None
        if begin is None:
            return False
        async with self._db.transaction() as conn:
            prices = await newest_prices(conn, self.source, self.slug, begin.symbols)
        traded = {
            symbol: newest.price if newest.at >= begin.session.pre_open_utc else None
            for symbol, newest in prices.items()
        }
        points = begin.points([(at, traded)], self.rules)
        is_heard = hearing_since is not None and hearing_since < at + MINUTE
        async with self._db.transaction() as conn:
            return await store.save_minutes(conn, self.slug, points, looked_at=now if is_heard else at) > 0

    async def mark_stale(self, days: Days, now: datetime, since: datetime | None) -> None:
        """Mark what the newest session's minutes did not know; since: the first moment with news."""
        session = days.begun(now)
        begin = await self._begin(days, session) if session else None
        if begin is None:
            return
        opening = begin.opening.point.deposit if begin.opening else Decimal(0)
        async with self._db.transaction() as conn:
            await store.mark_stale(conn, self.slug, begin.session.session_date, since=since, opening=opening)

    async def fill(self, days: Days, now: datetime) -> int:
        """Make the missing and the stale minutes from bars, as soon as these can be trusted; return how many.

        Looked at are the sessions from the first one with a minute on, and at least the one that runs.
        """
        trusted = _minute(now - self.rules.settle)
        async with self._db.transaction() as conn:
            known = await store.minute_counts(conn, self.slug, trusted)
        running = days.begun(now)
        first = min([*known, *([running.session_date] if running else [])], default=date.max)
        filled = 0
        for session in days.recent:
            due = _minutes(session.pre_open_utc, min(session.post_close_utc, trusted))
            if session.session_date >= first and len(due) > known.get(session.session_date, 0):
                made = await self._fill(days, session, due, now)
                if made is None:
                    break
                filled += made
        return filled

    async def prune(self, days: Days, keep: int) -> None:
        """Remove the minutes of all but the newest sessions."""
        async with self._db.transaction() as conn:
            await store.prune_minutes(conn, self.slug, days.all[-keep:][0])

    async def _begin(self, days: Days, session: MarketSession) -> SessionBegin | None:
        """Return what a session begins with, None while the session before has no row yet."""
        day = session.session_date
        before = days.before(day)
        async with self._db.transaction(timeout_s=LIMIT_S) as conn:
            opening = await store.day_end(conn, self.slug, day)
            if (opening.point.session_date if opening else None) != before:
                return None
            await lake.expect_few(conn)
            activities = [activity async for some in lake.activities(conn, self.slug, before, day) for activity in some]
        return SessionBegin(session, opening, activities)

    async def _fill(self, days: Days, session: MarketSession, due: Sequence[datetime], now: datetime) -> int | None:
        """Make what is missing of the minutes that are due; return how many, None where the broker gives no bars."""
        begin = await self._begin(days, session)
        async with self._db.transaction() as conn:
            fresh = await store.fresh_minutes(conn, self.slug, session.session_date)
        missing = [at for at in due if at not in fresh]
        following = due[-1] + MINUTE
        grows = missing[-1:] == due[-1:] and following not in fresh and following < session.post_close_utc
        if begin is None or not missing or (grows and len(missing) < WORTHWHILE):
            return 0
        bars = await self._bars(begin, due[-1], now)
        if bars is None:
            return None
        minutes = minutes_from_bars(missing, bars, begin.symbols)
        points = await anyio.to_thread.run_sync(partial(begin.points, minutes, self.rules))
        async with self._db.transaction() as conn:
            return await store.save_minutes(conn, self.slug, points)

    async def _bars(self, begin: SessionBegin, last: datetime, now: datetime) -> Mapping[str, Sequence[Bar]] | None:
        """Return the session's minute bars, None where the broker does not give them."""
        if self.source.broker is None:
            return None
        symbols, bars, refused = sorted(begin.symbols), dict[str, Sequence[Bar]](), dict[str, str]()
        for start in range(0, len(symbols), SYMBOLS_A_REQUEST):
            some = symbols[start : start + SYMBOLS_A_REQUEST]
            try:
                bars |= await self.source.broker.bars(some, "1Min", begin.session.pre_open_utc, last)
            except KeysRefused:
                raise
            except BrokerRefused as error:
                refused["minutes"] = f"the broker refuses minute bars, so missed minutes stay missing: {error.message}"
                break
            self.source.alive()
        async with self._db.transaction() as conn:
            await findings.settle(conn, self.slug, "bars", refused, now)
        return None if refused else bars


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _minutes(first: datetime, until: datetime) -> list[datetime]:
    return [first + number * MINUTE for number in range(max((until - first) // MINUTE, 0))]
