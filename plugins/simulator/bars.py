"""Bars: owns how the price path is cut into intervals, complete or still running; knows no tape and no page.

A bar holds the trades from its start to just before the next one's. In regular hours every interval has one.
Outside them only those in which a price was held by hand have, and they are never part of a daily bar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from .path import PricePath
from .sessions import Session, Sessions
from .stamps import MINUTE, SECOND, moment_of, nanoseconds, new_york_day, new_york_ns

DAY = timedelta(days=1)
SAMPLES = {timedelta(minutes=1): 6, DAY: 40}
FEW = 12  # samples of every other interval


@dataclass(frozen=True, slots=True)
class Bar:
    """Prices of one interval that starts at `at` (aware UTC); a daily bar starts at New York's midnight."""

    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    trades: int
    vwap: Decimal


@dataclass(frozen=True, slots=True)
class Span:
    """The interval of a bar: its label, and the trading in it, from `opening` to just before `closing` (ns)."""

    label: int
    opening: int
    closing: int


class Bars:
    """The bars of all symbols; the same answer whenever a complete one is asked."""

    def __init__(self, path: PricePath, sessions: Sessions) -> None:
        self._path = path
        self._sessions = sessions

    def between(
        self,
        symbol: str,
        start: datetime,
        end: datetime,
        step: timedelta,
        *,
        now: int | None = None,
        limit: int | None = None,
    ) -> list[Bar]:
        """Return the bars whose start lies within both bounds (inclusive).

        step: one day for daily bars, else any shorter interval. now: the bar that this moment (ns) falls into
        ends with it and knows no future, later ones are left out; None shows all as they are once complete.
        limit: stop after so many bars. Raises KeyError for an unknown symbol.
        """
        bars: list[Bar] = []
        for span in self._spans(symbol, nanoseconds(start), nanoseconds(end), step):
            if now is not None and span.opening > now:
                break
            bars += self._bar(symbol, span, step, span.closing - 1 if now is None else min(now, span.closing - 1))
            if len(bars) == limit:
                break
        return bars

    def _spans(self, symbol: str, first: int, last: int, step: timedelta) -> Iterator[Span]:
        for session in self._sessions.between(new_york_day(first), new_york_day(last)):
            for span in self._cut(symbol, session, step):
                if first <= span.label <= last:
                    yield span

    def _cut(self, symbol: str, session: Session, step: timedelta) -> Iterator[Span]:
        if step >= DAY:
            yield Span(new_york_ns(session.day, datetime.min.time()), session.open, session.close)
            return
        width = int(step.total_seconds() * SECOND)
        for start, end in ((session.pre, session.open), (session.open, session.close), (session.close, session.post)):
            is_regular = start == session.open
            for at in range(start, end, width) if is_regular or self._path.held(symbol, start, end) else ():
                span = Span(at, at, min(at + width, end))
                if is_regular or self._path.held(symbol, span.opening, span.closing):
                    yield span

    def _bar(self, symbol: str, span: Span, step: timedelta, until: int) -> Iterator[Bar]:
        """Yield the bar of what was traded up to a moment, nothing if nothing was."""
        prices = self._prices(symbol, span, until, SAMPLES.get(step, FEW))
        if not prices:
            return
        busy = 1 + self._path.noise(symbol, span.label // SECOND) / 2
        volume = int(busy * (until + 1 - span.opening) / MINUTE * 2600)
        mean = sum(prices, Decimal(0)) / len(prices)
        yield Bar(
            moment_of(span.label), prices[0], max(prices), min(prices), prices[-1], volume, volume // 90,
            mean.quantize(Decimal("0.000001")),
        )  # fmt: skip

    def _prices(self, symbol: str, span: Span, until: int, samples: int) -> list[Decimal]:
        """Return the prices traded from a span's opening to a moment, the first and the last included."""
        if self._sessions.open_at(span.opening) is None:
            return self._path.held(symbol, span.opening, until + 1)
        stride = max((span.closing - span.opening) // samples, 1)
        moments = (*range(span.opening, until, stride), until)
        return [self._path.price(symbol, at) for at in moments if self._path.traded_at(symbol, at) >= span.opening]
