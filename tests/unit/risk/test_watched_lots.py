"""Which lots a tick concerns: the touch of a trigger, in regular hours since the entry, neither lost nor invented."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fakes.pricing import trade_message
from risk_values import lot

from coldharbour.clock import VirtualClock
from coldharbour.feed.prices import Prices
from coldharbour.feed.watch import Watch
from coldharbour.live.marks.model import Extremes
from coldharbour.live.model import Side
from coldharbour.risk.breakeven import decide_breakeven
from coldharbour.risk.lots.watched import LoadedLot, WatchedLots
from coldharbour.risk.model import BreakevenRule, Flag, Reason
from coldharbour.sessions import Schedule, session_of

D = Decimal
SESSION = session_of(datetime(2026, 10, 8, tzinfo=UTC).date(), time(9, 30), time(16, 0))
ENTERED = SESSION.pre_open_utc + timedelta(hours=2)  # before the opening, by an order for extended hours


def loaded(side: Side = Side.LONG, high: str | None = None, low: str | None = None, **changed: Any) -> LoadedLot:
    """Return 100 shares at 50, their stop 2 away: armed at 54, or at 46 for a short lot."""
    known = Extremes(None if high is None else D(high), None if low is None else D(low))
    values = {"entry_qty": D(100), "last_fill_time": ENTERED, "extremes": known, **changed}
    return LoadedLot(lot=lot(side, entry_time=ENTERED), **values)


class Floor:
    """The tape of one symbol, and the lots that are watched for it."""

    def __init__(self, watch: Watch, prices: Prices) -> None:
        self.watch, self.prices, self.lots = watch, prices, WatchedLots()
        watch.sessions = Schedule([SESSION])
        self.at = ENTERED

    def read(self, *lots: LoadedLot) -> None:
        self.lots.take_over(lots)
        self.watch.follow(self.lots.symbols)

    def trade(self, at: datetime, *prices: float, **changes: Any) -> list[Reason]:
        """Print prices, and decide about the lots that they touched; return what for."""
        moments = [at + timedelta(milliseconds=number) for number in range(len(prices))]
        messages = [
            trade_message("KO", price, moment, **changes) for price, moment in zip(prices, moments, strict=True)
        ]
        for message in messages:
            self.prices.take_in([message])
        self.at = moments[-1]
        return [self.decide(watched) for watched in self.lots.move(self.watch.take())]

    def decide(self, watched: Any = None) -> Reason:
        [watched] = [watched] if watched else list(self.lots)
        market = watched.market(self.prices.last("KO"), 0.0, self.at)
        decision = decide_breakeven(watched.lot, market, BreakevenRule())
        watched.decided(decision)
        return decision.reason


@pytest.fixture
def floor() -> Iterator[Floor]:
    with a_floor() as floor:
        yield floor


@contextmanager
def a_floor() -> Iterator[Floor]:
    prices = Prices(VirtualClock(SESSION.open_utc))
    with prices.watch() as watch:
        yield Floor(watch, prices)


@pytest.mark.parametrize(("side", "calm", "short_of", "touch"), [
    (Side.LONG, 50.5, 53.99, 54.0), (Side.SHORT, 49.5, 46.01, 46.0),
])  # fmt: skip
def test_touching_the_trigger_moves_a_waiting_lot_at_once(
    floor: Floor, side: Side, calm: float, short_of: float, touch: float
) -> None:
    floor.read(loaded(side))
    floor.trade(SESSION.open_utc, calm, calm, calm)
    assert floor.decide() is Reason.NOT_ARMED

    assert floor.trade(SESSION.open_utc + timedelta(minutes=1), short_of) == []
    assert floor.trade(SESSION.open_utc + timedelta(minutes=2), touch) == [Reason.MOVED]
    assert floor.trade(SESSION.open_utc + timedelta(minutes=3), touch) == []  # it waits for nothing any more


def test_prints_outside_regular_hours_and_ineligible_ones_never_arm(floor: Floor) -> None:
    floor.read(loaded())
    floor.trade(SESSION.open_utc - timedelta(hours=1), 50.5, 50.5, 50.5)
    assert floor.decide() is Reason.NOT_ARMED

    assert floor.trade(SESSION.open_utc - timedelta(minutes=1), 54.5) == []
    assert floor.trade(SESSION.open_utc + timedelta(minutes=1), 54.5, conditions=["I"]) == []
    assert floor.trade(SESSION.open_utc + timedelta(minutes=2), 53.0) == []
    assert floor.trade(SESSION.close_utc + timedelta(minutes=1), 54.5) == []
    assert floor.decide() is Reason.NOT_ARMED


def test_a_restart_neither_forgets_a_touch_nor_invents_one() -> None:
    for high, expected in (("54", Reason.MOVED), ("53.99", Reason.NOT_ARMED)):
        with a_floor() as floor:
            floor.read(loaded(high=high, low="49.5"))
            floor.trade(SESSION.open_utc + timedelta(minutes=1), 52.0, 52.0, 52.0)

            assert floor.decide() is expected


def test_a_touch_that_the_table_learns_of_later_counts_when_the_lot_is_read_again(floor: Floor) -> None:
    floor.read(loaded())
    floor.trade(SESSION.open_utc, 52.0, 52.0, 52.0)
    assert floor.decide() is Reason.NOT_ARMED

    changed = floor.lots.take_over([loaded(high="54.2")])

    assert [floor.decide(watched) for watched in changed] == [Reason.MOVED]
    assert floor.lots.take_over([loaded(high="54.2")]) == []


def test_extremes_of_before_a_split_are_those_of_other_prices(floor: Floor) -> None:
    floor.read(loaded(high="53", low="49"))

    floor.lots.take_over([loaded(entry_qty=D(200))])

    [watched] = floor.lots
    assert watched.extremes == Extremes()


def test_without_any_price_the_stop_alone_is_judged(floor: Floor) -> None:
    floor.read(loaded(high="60"))
    [watched] = floor.lots

    market = watched.market(None, None, floor.at)

    assert (market.price, market.high) == (None, D(60))
    assert decide_breakeven(watched.lot, market, BreakevenRule()).flag is Flag.NOTHING
