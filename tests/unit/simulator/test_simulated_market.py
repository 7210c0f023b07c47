"""Prices, sessions and the demo's traders: one path for everybody, and something always going on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.digits import tick_of
from coldharbour_plugins.simulator.market import Market, Tick
from coldharbour_plugins.simulator.matching import HIGHEST, LOWEST, calm_range
from coldharbour_plugins.simulator.sessions import Sessions
from hypothesis import given
from hypothesis import strategies as st
from simulated_bench import MONDAY, Bench

from coldharbour.clock import VirtualClock

FIRST, LAST = date(2025, 10, 1), date(2026, 3, 1)
SATURDAY = datetime(2025, 11, 22, 8, 0, tzinfo=UTC)


def market(seed: int = 3, *, always_open_from: date | None = None) -> Market:
    return Market(seed, Sessions(FIRST, LAST, always_open_from))


@given(st.integers(0, 90 * 86400), st.sampled_from(["F", "NVDA"]))
def test_a_price_depends_on_seed_symbol_and_time_alone(second: int, symbol: str) -> None:
    at = MONDAY + timedelta(seconds=second)

    price = SHARED.price_at(symbol, at)

    assert price == TWIN.price_at(symbol, at) > 0
    assert price % tick_of(price) == 0


SHARED, TWIN = market(), market()


def test_the_tape_stands_still_outside_sessions() -> None:
    path = market()
    friday_close = path.price_at("AAPL", datetime(2025, 11, 21, 21, 0, tzinfo=UTC))

    assert path.price_at("AAPL", SATURDAY) == friday_close
    assert path.price_at("AAPL", datetime(2025, 11, 24, 14, 29, tzinfo=UTC)) == friday_close


def test_bars_agree_with_the_path_and_with_each_other() -> None:
    path = market()
    start, end = datetime(2025, 11, 24, tzinfo=UTC), datetime(2025, 11, 28, 23, 0, tzinfo=UTC)

    days = path.bars.between("AAPL", start, end, timedelta(days=1))
    minutes = path.bars.between("AAPL", start, end, timedelta(minutes=1))
    hour = path.bars.between("AAPL", start, end, timedelta(hours=1), limit=7)

    assert [bar.at.isoformat()[:16] for bar in days] == [f"2025-11-{day}T05:00" for day in (24, 25, 26, 28)]
    assert len(minutes) == 3 * 390 + 210
    assert days[0].close == path.price_at("AAPL", datetime(2025, 11, 24, 21, 0, tzinfo=UTC)) == hour[-1].close
    assert all(bar.low <= min(bar.open, bar.close, bar.vwap) for bar in minutes)
    assert all(bar.high >= max(bar.open, bar.close, bar.vwap) for bar in minutes)


def test_ticks_come_with_every_step_and_a_pin_holds_the_price() -> None:
    bench = Bench()
    heard: list[Sequence[Tick]] = []
    forget = bench.broker.market.listen(heard.append)

    bench.price("AAPL", "123.45")
    forget()
    bench.settle()

    ticks = [tick for batch in heard for tick in batch if tick.symbol == "AAPL"]
    assert {tick.price for tick in ticks} == {Decimal("123.45")}
    assert bench.broker.market.last("AAPL").price == Decimal("123.45")
    assert len({tick.symbol for batch in heard for tick in batch}) > 10


def test_the_demo_is_open_on_a_saturday_night_and_was_not_the_week_before() -> None:
    broker = Bench(SATURDAY).broker

    assert broker.clock_row() == {
        "timestamp": "2025-11-22T03:00:00-05:00",
        "is_open": True,
        "next_open": "2025-11-23T00:00:00-05:00",
        "next_close": "2025-11-22T23:59:00-05:00",
    }
    week = [row["date"] for row in broker.calendar(date(2025, 11, 15), date(2025, 11, 23))]
    assert week == [f"2025-11-{day}" for day in (17, 18, 19, 20, 21, 22, 23)]
    assert broker.calendar(date(2025, 11, 22), date(2025, 11, 22)) == [
        {
            "date": "2025-11-22",
            "open": "00:00",
            "close": "23:59",
            "session_open": "0000",
            "session_close": "2359",
            "settlement_date": "2025-11-23",
        }
    ]


def test_the_true_calendar_knows_weekends_and_early_closes() -> None:
    broker = Bench(SATURDAY, always_open=False).broker

    assert broker.clock_row()["is_open"] is False
    assert broker.clock_row()["next_open"] == "2025-11-24T09:30:00-05:00"
    (friday,) = broker.calendar(date(2025, 11, 27), date(2025, 11, 30))
    assert (friday["open"], friday["close"], friday["session_open"]) == ("09:30", "13:00", "0400")


def test_a_symbol_is_calm_exactly_between_its_triggers() -> None:
    bench = Bench()
    bench.bracket(target="110", stop="95")
    orders = bench.account.blotter.book.live["AAPL"].values()

    assert calm_range(orders) == (Decimal(95), Decimal(110))
    assert calm_range([]) == (LOWEST, HIGHEST)


@pytest.mark.parametrize("seed", [7, 8])
def test_the_traders_keep_the_demo_alive_and_their_positions_few(seed: int) -> None:
    clock = VirtualClock(MONDAY)
    broker = SimulatedBroker(seed=seed, accounts={"alpha": Decimal(100_000)}, clock=clock, history_days=20)
    account, told = broker.accounts["alpha"], Counter[str]()
    account.listen(lambda event: told.update([str(event["event"])]))

    for _ in range(6000):
        clock.advance(0.1)
        broker.step()
        assert len(account.blotter.ledger.positions) <= 20

    assert sum(told.values()) > 300
    assert {"new", "held", "fill", "partial_fill", "replaced", "canceled"} <= told.keys()
    assert len(account.positions()) >= 8


def test_a_trader_that_is_switched_off_does_nothing() -> None:
    clock = VirtualClock(MONDAY)
    broker = SimulatedBroker(seed=7, accounts={"alpha": Decimal(100_000)}, clock=clock, history_days=0, trading=False)

    for _ in range(100):
        clock.advance(1)
        broker.step()

    assert broker.accounts["alpha"].truth()["orders"] == 0


def test_keys_open_their_own_account_only() -> None:
    bench = Bench()

    assert bench.broker.account_for("SIM-alpha", "simulator") is bench.account
    assert bench.broker.account_for("SIM-alpha", "wrong") is None
    assert bench.broker.account_for("alpha", "simulator") is None
    assert bench.broker.account_for("SIM-beta", "simulator") is None
