"""What bars say of stretches of the past: from the table of minute bars where it has them, else from the broker.

Whole sessions are read as daily bars, parts of one as minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection

from coldharbour.broker import Bar, Broker, Priority
from coldharbour.broker.refusals import Refused
from coldharbour.connect import one_line
from coldharbour.db import Database
from coldharbour.errors import Transient
from coldharbour.feed import store
from coldharbour.feed.model import MinuteBar
from coldharbour.live.marks.book import Bounds, Found, Wanted
from coldharbour.live.marks.coverage import MINUTE, Stretch
from coldharbour.sessions import NEW_YORK

T = TypeVar("T")
log = structlog.get_logger(__name__)

MOMENT = timedelta(microseconds=1)  # both bounds of the broker's question are included
SPANS_AT_ONCE = 200
SYMBOLS_AT_ONCE = 50
FREE_FEED = "iex"  # what an account may read that has no subscription to all exchanges


class BarHistory:
    """Looks stretches up. market_db: where the table of minute bars stands, if it does anywhere.

    adjustment: "split" for prices in terms of today's shares, as open lots are, "raw" for those of the day itself.
    """

    def __init__(self, market_db: Database, broker: Broker, *, adjustment: str = "split") -> None:
        self._market_db, self._broker, self._adjustment = market_db, broker, adjustment
        self._feed: str | None = None  # the best that the account may read
        self._table_failed = False

    async def bounds(self, wanted: Collection[Wanted]) -> AsyncIterator[Found]:
        """Yield what is found, a part at a time, until nothing is left. Raises Transient and BrokerRefused."""
        left = set(wanted)
        async for found in self._from_table(left):
            left -= found.keys()
            yield found
        whole = {want for want in left if want[1].is_whole}
        async for found in self._from_daily_bars(whole):
            yield found
        async for found in self._from_minute_bars(left - whole):
            yield found

    async def minutes(self, symbol: str, stretches: Sequence[Stretch]) -> dict[Stretch, list[MinuteBar]]:
        """Return the minute bars of a symbol's stretches, which ascend. Raises Transient and BrokerRefused."""
        start, end = stretches[0].start, stretches[-1].end
        kept = await self._read(partial(store.minute_bars, symbol=symbol, start=start, end=end))
        found = _by_stretch(stretches, kept)
        missing = [stretch for stretch in stretches if not stretch.is_complete(len(found[stretch]))]
        if missing:
            bars = await self._bars([symbol], "1Min", missing[0].start, missing[-1].end)
            found |= _by_stretch(missing, [MinuteBar(bar.at, bar.high, bar.low, bar.open) for bar in bars])
        return found

    async def _from_table(self, wanted: Collection[Wanted]) -> AsyncIterator[Found]:
        """Yield the stretches of which the table has the bars."""
        for part in _parts(sorted(wanted, key=_by_time), SPANS_AT_ONCE):
            spans = [(symbol, s.start, s.end) for symbol, s in part]
            rows = await self._read(partial(store.bounds_of_bars, spans=spans))
            if not rows:
                return
            yield {
                part[row.place]: Bounds(row.high, row.low) for row in rows if part[row.place][1].is_complete(row.bars)
            }

    async def _read(self, question: Callable[[AsyncConnection], Awaitable[list[T]]]) -> list[T]:
        """Return what the table answers, [] where it cannot be read; that is logged once."""
        try:
            async with self._market_db.transaction() as conn:
                rows = await question(conn)
        except (Transient, psycopg.Error) as error:  # whatever is wrong with a table that need not be there
            if not self._table_failed:
                log.warning("extremes.no_table_of_bars", error=one_line(error))
            self._table_failed = True
            return []
        self._table_failed = False
        return rows

    async def _from_daily_bars(self, wanted: Collection[Wanted]) -> AsyncIterator[Found]:
        by_symbol: dict[str, list[Wanted]] = defaultdict(list)
        for want in wanted:
            by_symbol[want[0]].append(want)
        for symbols in _parts(sorted(by_symbol), SYMBOLS_AT_ONCE):
            asked = [want for symbol in symbols for want in by_symbol[symbol]]
            days = [want[1].session.session_date for want in asked]
            bars = await self._bars(symbols, "1Day", _midnight(min(days)), _midnight(max(days)) + MINUTE)
            by_day = {(bar.symbol, bar.at.astimezone(NEW_YORK).date()): [bar] for bar in bars}
            yield {want: _bounds(by_day.get((want[0], want[1].session.session_date), ())) for want in asked}

    async def _from_minute_bars(self, wanted: Collection[Wanted]) -> AsyncIterator[Found]:
        by_day: dict[date, dict[str, list[Wanted]]] = defaultdict(lambda: defaultdict(list))
        for want in wanted:
            by_day[want[1].session.session_date][want[0]].append(want)
        for _, by_symbol in sorted(by_day.items(), reverse=True):  # what is newest moves people most
            for symbols in _parts(sorted(by_symbol), SYMBOLS_AT_ONCE):
                asked = [want for symbol in symbols for want in by_symbol[symbol]]
                start, end = min(s.start for _, s in asked), max(s.end for _, s in asked)
                bars = defaultdict(list)
                for bar in await self._bars(symbols, "1Min", start, end):
                    bars[bar.symbol].append(bar)
                yield {(symbol, s): _bounds(bar for bar in bars[symbol] if s.start <= bar.at < s.end)
                       for symbol, s in asked}  # fmt: skip

    async def _bars(self, symbols: Sequence[str], timeframe: str, start: datetime, end: datetime) -> list[Bar]:
        """Return the bars that begin in [start, end); a symbol that the broker refuses on its own has none."""
        try:
            found = await self._ask(symbols, timeframe, start, end)
        except Refused as error:
            if error.status == 403 and self._feed is None:
                self._feed = FREE_FEED
                return await self._bars(symbols, timeframe, start, end)
            if len(symbols) == 1:
                return []
            return [bar for symbol in symbols for bar in await self._bars([symbol], timeframe, start, end)]
        return [bar for bars in found.values() for bar in bars]

    async def _ask(
        self, symbols: Sequence[str], timeframe: str, start: datetime, end: datetime
    ) -> dict[str, tuple[Bar, ...]]:
        return await self._broker.bars(
            symbols,
            timeframe,
            start,
            max(start, end - MOMENT),
            adjustment=self._adjustment,
            feed=self._feed,
            priority=Priority.BULK,
        )


def _bounds(bars: Iterable[Bar]) -> Bounds:
    bars = list(bars)
    if not bars:
        return Bounds()
    return Bounds(max(bar.high for bar in bars), min(bar.low for bar in bars))


def _by_stretch(stretches: Sequence[Stretch], bars: Iterable[MinuteBar]) -> dict[Stretch, list[MinuteBar]]:
    """Return the bars that begin in each stretch; both ascend."""
    found: dict[Stretch, list[MinuteBar]] = {stretch: [] for stretch in stretches}
    coming = iter(stretches)
    stretch = next(coming, None)
    for bar in bars:
        while stretch is not None and stretch.end <= bar.start:
            stretch = next(coming, None)
        if stretch is not None and stretch.start <= bar.start:
            found[stretch].append(bar)
    return found


def _by_time(want: Wanted) -> tuple[datetime, str]:
    return want[1].start, want[0]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)


def _parts(items: Iterable[T], size: int) -> Iterable[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
