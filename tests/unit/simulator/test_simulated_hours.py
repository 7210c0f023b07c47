"""Outside regular hours in the simulator: what stands, what trades, and that every view shows the same price."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from coldharbour_plugins.simulator.market import CLOSING, EXTENDED, REGULAR, Market, Tick
from coldharbour_plugins.simulator.sessions import Sessions
from coldharbour_plugins.simulator.stamps import nanoseconds
from simulated_bench import Bench

MICROSECOND, MINUTE, DAY = timedelta(microseconds=1), timedelta(minutes=1), timedelta(days=1)
MIDNIGHT = datetime(2025, 11, 24, 5, 0, tzinfo=UTC)  # of Monday in New York
PRE_OPEN, OPEN = datetime(2025, 11, 24, 9, 0, tzinfo=UTC), datetime(2025, 11, 24, 14, 30, tzinfo=UTC)
CLOSE, POST_CLOSE = datetime(2025, 11, 24, 21, 0, tzinfo=UTC), datetime(2025, 11, 25, 1, 0, tzinfo=UTC)
FRIDAYS_CLOSE = datetime(2025, 11, 21, 21, 0, tzinfo=UTC)


def bench_at(moment: datetime) -> Bench:
    return Bench(moment, always_open=False)


def move(bench: Bench, moment: datetime) -> None:
    """Turn the clock to a moment and let the broker act."""
    bench.clock.advance((moment - bench.clock.now()).total_seconds())
    bench.broker.step()


def ticks(bench: Bench) -> list[Tick]:
    """Return the list that AAPL's trades will come into."""
    heard: list[Tick] = []

    def keep(batch: Sequence[Tick]) -> None:
        heard.extend(tick for tick in batch if tick.symbol == "AAPL")

    bench.broker.market.listen(keep)
    return heard


@pytest.mark.parametrize("hours_after_close", [0, 1, 3.99, 9, 12, 17.49])
def test_the_close_stands_until_the_next_opening(hours_after_close: float) -> None:
    bench = bench_at(CLOSE - MINUTE)
    move(bench, CLOSE - timedelta(seconds=1))
    bench.place(qty=1)
    move(bench, CLOSE - timedelta(seconds=0.5))
    market = bench.broker.market

    move(bench, CLOSE + timedelta(hours=hours_after_close))

    close = market.price_at("AAPL", CLOSE)
    (daily,) = market.bars.between("AAPL", MIDNIGHT, MIDNIGHT, DAY, now=market.now)
    assert market.price("AAPL") == daily.close == close
    assert (market.last("AAPL").at, market.last("AAPL").conditions) == (CLOSE - MICROSECOND, CLOSING)
    assert bench.account.position("AAPL")["current_price"] == str(close)
    assert bench.account.holdings().equity == bench.account.blotter.ledger.cash + close


def test_nothing_is_printed_while_the_market_is_closed() -> None:
    bench = bench_at(CLOSE)
    heard = ticks(bench)

    for hours in (1, 5, 12, 17):
        move(bench, CLOSE + timedelta(hours=hours))
    assert heard == []
    move(bench, OPEN + DAY)

    assert [(tick.at, tick.conditions) for tick in heard] == [(OPEN + DAY, REGULAR)]


@pytest.mark.parametrize("start", [PRE_OPEN + timedelta(hours=1), CLOSE + timedelta(hours=1)])
def test_a_price_held_out_of_hours_trades_there_and_stands_when_let_go(start: datetime) -> None:
    bench = bench_at(start)
    market, heard = bench.broker.market, ticks(bench)

    market.pin("AAPL", Decimal("123.45"))
    move(bench, start + MINUTE)
    move(bench, start + MINUTE + timedelta(seconds=30))
    market.pin("AAPL", None)
    move(bench, start + 2 * MINUTE)
    move(bench, start + 10 * MINUTE)

    minutes = market.bars.between("AAPL", start - MINUTE, start + 15 * MINUTE, MINUTE, now=market.now)
    assert {tick.conditions for tick in heard} == {EXTENDED}
    assert {tick.price for tick in heard} == {Decimal("123.45")}
    assert [(bar.at, bar.open, bar.close) for bar in minutes] == [
        (start + MINUTE, Decimal("123.45"), Decimal("123.45")),
    ]
    assert market.price("AAPL") == market.price_at("AAPL", start + 10 * MINUTE) == Decimal("123.45")


def test_a_daily_bar_knows_nothing_of_extended_trading() -> None:
    bench = bench_at(PRE_OPEN)
    market = bench.broker.market
    untouched = Market(11, Sessions(date(2025, 11, 1), date(2025, 12, 1), None))
    (expected,) = untouched.bars.between("AAPL", MIDNIGHT, MIDNIGHT, DAY)

    market.pin("AAPL", Decimal("1.5"))
    move(bench, PRE_OPEN + MINUTE)
    assert market.bars.between("AAPL", MIDNIGHT, MIDNIGHT, DAY, now=market.now) == []
    market.pin("AAPL", None)
    move(bench, OPEN - MINUTE)
    assert market.price("AAPL") == Decimal("1.5")
    move(bench, CLOSE)
    market.pin("AAPL", Decimal("2.5"))
    move(bench, CLOSE + MINUTE)

    assert market.bars.between("AAPL", MIDNIGHT, MIDNIGHT, DAY, now=market.now) == [expected]


def test_a_running_bar_ends_with_the_present_and_grows_into_the_complete_one() -> None:
    bench = bench_at(OPEN)
    market = bench.broker.market
    complete = market.bars.between("AAPL", OPEN, OPEN, MINUTE)[0]

    move(bench, OPEN + MINUTE / 2)
    (running,) = market.bars.between("AAPL", OPEN, CLOSE, MINUTE, now=market.now)
    move(bench, OPEN + MINUTE)
    grown = market.bars.between("AAPL", OPEN, CLOSE, MINUTE, now=market.now)

    assert (running.open, running.close) == (complete.open, market.price_at("AAPL", OPEN + MINUTE / 2))
    assert complete.low <= running.low <= running.high <= complete.high
    assert running.volume < complete.volume
    assert grown[0] == complete
    assert (grown[1].at, grown[1].open, grown[1].volume) == (OPEN + MINUTE, grown[1].close, 0)


def test_an_extended_order_fills_before_the_open_and_any_other_waits() -> None:
    bench = bench_at(PRE_OPEN)
    heard, stands = ticks(bench), bench.broker.market.price("AAPL")
    limit = {"type": "limit", "limit_price": str(stands + 1), "time_in_force": "day", "qty": 1}

    early, late = bench.place(**limit, extended_hours=True), bench.place(**limit)
    bench.settle(60)

    assert bench.read(early)["filled_avg_price"] == str(stands).rstrip("0").rstrip(".")
    assert [(tick.price, tick.conditions) for tick in heard] == [(stands, EXTENDED)]
    assert bench.read(late)["status"] == "new"
    move(bench, OPEN)
    assert bench.read(late)["status"] == "filled"


def test_a_trade_out_of_hours_sets_the_price_until_the_open_and_a_minute_bar() -> None:
    bench = bench_at(CLOSE + timedelta(hours=1))
    market = bench.broker.market
    better = market.price("AAPL") - 3
    resting = bench.place(type="limit", limit_price=str(better), time_in_force="day", qty=1, extended_hours=True)
    bench.settle(60)

    market.pin("AAPL", better - 1)
    bench.settle(60)
    market.pin("AAPL", None)
    bench.settle(60)

    assert Decimal(str(bench.read(resting)["filled_avg_price"])) == better
    assert market.price("AAPL") == market.price_at("AAPL", bench.clock.now()) == better - 1
    start = CLOSE + timedelta(hours=1, minutes=1)
    (bar,) = market.bars.between("AAPL", start, start, MINUTE)
    assert (bar.high, bar.low) == (better, better - 1)


def test_a_market_with_steps_moves_half_a_step_after_the_opening_and_stands_in_between() -> None:
    sessions = Sessions(date(2025, 11, 1), date(2025, 12, 1), None)
    market = Market(11, sessions, step_s=20)

    prices = [market.price_ns("AAPL", nanoseconds(OPEN + timedelta(seconds=n))) for n in range(60)]
    (bar,) = market.bars.between("AAPL", OPEN, OPEN, MINUTE)

    assert set(prices[:10]) == {market.price_at("AAPL", FRIDAYS_CLOSE - timedelta(seconds=9))}
    assert prices[0] == market.price_at("AAPL", FRIDAYS_CLOSE)
    assert [len(set(prices[start : start + 20])) for start in (10, 30)] == [1, 1]
    assert prices[50] == Market(11, sessions).price_at("AAPL", OPEN + timedelta(seconds=50))
    assert (bar.open, bar.close) == (prices[10], prices[59])
    assert market.bars.between("AAPL", OPEN, CLOSE, MINUTE, now=nanoseconds(OPEN)) == []


def test_the_operators_prices_are_remembered_by_every_view_of_the_past() -> None:
    bench = Bench()
    start = bench.clock.now()
    bench.price("AAPL", "150")
    bench.settle(120)
    bench.price("AAPL", "160")
    bench.settle(120)

    minutes = bench.broker.market.bars.between("AAPL", start + MINUTE, start + 3 * MINUTE, MINUTE)
    assert [str(bar.close) for bar in minutes] == ["150.00", "160.00", "160.00"]
    assert [str(bar.open) for bar in minutes] == ["150.00", "150.00", "160.00"]
    assert bench.broker.market.price_at("AAPL", start + MINUTE) == Decimal(150)
