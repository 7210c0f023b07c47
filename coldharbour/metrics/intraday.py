"""Equity within a session, minute by minute, from the previous close and what happened since; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from coldharbour.activity_types import FILL, PERFORMANCE
from coldharbour.broker.model import Bar
from coldharbour.live.cash import Activity, cash_effect, counted_day, is_external, moment_of, move_kind, share_effect
from coldharbour.live.model import ZERO, MoveKind
from coldharbour.metrics.equity import split_prices, worth
from coldharbour.metrics.model import DayEnd, IntradayPoint
from coldharbour.sessions import NEW_YORK

MINUTE: Final = timedelta(minutes=1)
AT_ONCE: Final = datetime.min.replace(tzinfo=UTC)
LAST_MINUTE: Final = time(19, 59)  # New York

# Its start in UTC, and prices per share at its end: None of a symbol that has not traded in this session.
Minute = tuple[datetime, Mapping[str, Decimal | None]]


def intraday_points(
    session_date: date,
    minutes: Iterable[Minute],
    activities: Iterable[Activity],
    opening: DayEnd | None,
    *,
    performance_types: Set[str] = PERFORMANCE,
) -> Iterator[IntradayPoint]:
    """Yield the account at each minute: E(t) = previous close's equity + sum of position deltas + flows.

    A position held over night is measured from its previous close, one opened since from its fills, and what was
    closed keeps what it made: all of that is the cash it moved and the worth of what is held now. minutes:
    ascending. activities: in any order; those of days up to the opening's or behind the session's are left out. One
    that has no moment (`moment_of`) counts from the first minute, and one of the session's evening in its last, as it
    does in the daily row. opening: the end of the session before, None at the very first.
    A symbol without a price is worth what it was last known at, its previous close or a fill or transfer since. It
    makes the minute incomplete while it is held, unless it is None because it did not trade; with neither its value is
    left out, as in the daily rows.

    equity, profit, flows: account currency, exact. cumulative_return:
    (1 + previous)*(1 + profit/previous equity) - 1, the previous one where that equity is not positive.
    Source: domain.md 7 Intraday.
    """
    waiting = _in_order(activities, session_date, opening)
    account = _Account.at(opening)
    done = 0
    for at, prices in minutes:
        while done < len(waiting) and waiting[done][0] < at + MINUTE:
            account.book(waiting[done][1], performance_types)
            done += 1
        yield account.point(session_date, at, prices, opening)


def minutes_from_bars(
    minutes: Iterable[datetime], bars: Mapping[str, Sequence[Bar]], asked: Iterable[str]
) -> Iterator[Minute]:
    """Yield the prices at the end of each minute: of every symbol its newest minute bar so far.

    minutes: starts, ascending. bars: by symbol, oldest first, from the session's beginning. asked: the symbols that
    were asked for; one without a bar has not traded. The mapping is the same one each time: read it before the next.
    """
    prices: dict[str, Decimal | None] = dict.fromkeys(asked)
    coming = sorted((bar.at, symbol, bar.close) for symbol, series in bars.items() for bar in series)
    done = 0
    for at in minutes:
        while done < len(coming) and coming[done][0] <= at:
            prices[coming[done][1]] = coming[done][2]
            done += 1
        yield at, prices


def _in_order(
    activities: Iterable[Activity], session_date: date, opening: DayEnd | None
) -> list[tuple[datetime, Activity]]:
    after = opening.point.session_date if opening else date.min
    last = datetime.combine(session_date, LAST_MINUTE, NEW_YORK)
    counted = [
        (min(moment_of(activity) or AT_ONCE, last), activity)
        for activity in activities
        if (day := counted_day(activity)) is not None and after < day <= session_date
    ]
    return sorted(counted, key=lambda timed: (timed[0], timed[1].id))


@dataclass(slots=True)
class _Account:
    """What is held and known at one moment of the session."""

    cash: Decimal
    flows: Decimal = ZERO
    held: dict[str, Decimal] = field(default_factory=dict)
    transferred: dict[str, Decimal] = field(default_factory=dict)
    known: dict[str, Decimal] = field(default_factory=dict)

    @classmethod
    def at(cls, opening: DayEnd | None) -> _Account:
        if opening is None:
            return cls(ZERO)
        return cls(opening.point.cash, held=dict(opening.quantities), known=dict(opening.prices))

    def book(self, activity: Activity, performance_types: Set[str]) -> None:
        amount, shares, symbol = cash_effect(activity), share_effect(activity), activity.symbol
        self.cash += amount
        if is_external(activity.activity_type, performance_types):
            self.flows += amount
        if not shares or not symbol:
            return
        if activity.activity_type == FILL and activity.price is not None:
            self.known[symbol] = activity.price
        elif move_kind(activity.activity_type) is MoveKind.TRANSFER:
            self.transferred[symbol] = self.transferred.get(symbol, ZERO) + shares
            if activity.price is not None:
                self.known.setdefault(symbol, activity.price)
        else:
            self.known = split_prices(self.known, self.held, {symbol: shares})
        self.held[symbol] = self.held.get(symbol, ZERO) + shares

    def point(
        self, session_date: date, at: datetime, told: Mapping[str, Decimal | None], opening: DayEnd | None
    ) -> IntradayPoint:
        prices = {**self.known, **{symbol: price for symbol, price in told.items() if price is not None}}
        equity = self.cash + worth(self.held, prices)
        flows = self.flows + worth(self.transferred, prices)
        before = opening.point.deposit if opening else ZERO
        profit = equity - before - flows
        gained = float(profit / before) if before > 0 else 0.0
        held, moved = ([symbol for symbol, qty in shares.items() if qty] for shares in (self.held, self.transferred))
        return IntradayPoint(
            session_date=session_date,
            at=at,
            equity=equity,
            profit=profit,
            flows=flows,
            cumulative_return=(opening.growth if opening else 1.0) * (1 + gained) - 1,
            complete=all(symbol in told for symbol in held) and all(symbol in prices for symbol in (*held, *moved)),
        )
