"""Activities, cash and positions in the simulator: ids, paging, and sums that always add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from coldharbour_plugins.simulator.broker import Refused
from coldharbour_plugins.simulator.orders import TERMINAL
from coldharbour_plugins.simulator.stamps import NEW_YORK, activity_prefix, nanoseconds, rfc3339, rounded_to_micros
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_bench import DEPOSIT, Bench, child, rows, text

SYMBOLS = ("AAPL", "KO", "T")


def walk(bench: Bench, direction: str, **filters: object) -> list[str]:
    """Return the ids of all activities, page by page."""
    seen: list[str] = []
    token: str | None = None
    while page := bench.account.activities(direction=direction, page_size=7, page_token=token, **filters):  # type: ignore[arg-type]
        seen += [text(row, "id") for row in page]
        token = seen[-1]
    return seen


def test_a_fills_uuid_is_the_streams_execution_id_and_its_time_new_yorks() -> None:
    bench = Bench()
    bench.bracket()

    fills = bench.account.activities(types=["FILL"], direction="asc")
    told = [event for event in bench.events if "price" in event]

    assert [text(fill, "id").partition("::")[2] for fill in fills] == [event["execution_id"] for event in told]
    assert all(text(fill, "id").startswith("20251124100000") for fill in fills)
    assert [fill["cum_qty"] for fill in fills][-1] == "10"
    assert fills[-1]["leaves_qty"] == "0"


def test_ids_truncate_milliseconds_and_stamps_cut_zeros() -> None:
    at = nanoseconds(datetime(2020, 11, 23, 16, 1, 56, 895947, UTC))

    assert activity_prefix(at) == "20201123110156895"
    assert (rounded_to_micros(1_500), rounded_to_micros(2_500), rounded_to_micros(2_501)) == (2_000, 2_000, 3_000)
    assert (rfc3339(at + 120), rfc3339(at // 10**9 * 10**9)) == (
        "2020-11-23T16:01:56.89594712Z",
        "2020-11-23T16:01:56Z",
    )


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_hold_every_activity_once_and_in_order(direction: str) -> None:
    bench = Bench(history_days=60)

    ids = walk(bench, direction)

    assert ids == sorted(ids, reverse=direction == "desc")
    assert len(ids) == len(set(ids)) == bench.account.truth()["activities"]


def test_windows_are_strict_and_days_are_those_of_booking() -> None:
    bench = Bench(history_days=60)
    fees = bench.account.activities(types=["FEE"])
    booked = datetime.fromisoformat(text(fees[0], "created_at")[:19] + "+00:00").astimezone(NEW_YORK)
    after = datetime(2025, 11, 1, 4, 0, tzinfo=UTC)

    late = walk(bench, "asc", after=after)
    early = walk(bench, "asc", until=after)
    assert len(late) + len(early) == bench.account.truth()["activities"]
    assert booked.date() >= date.fromisoformat(text(fees[0], "date"))
    on_day = bench.account.activities(types=["FEE"], on=booked.date())
    assert text(fees[0], "id") in [text(row, "id") for row in on_day]


def test_no_fill_is_lost_in_the_hour_that_new_york_has_twice() -> None:
    first = datetime(2025, 11, 2, 5, 50, tzinfo=UTC)  # 01:50 summer time
    bench = Bench(first)
    bench.price("AAPL", "100")
    bench.place(qty=1)
    bench.settle()
    bench.settle(1200)  # 01:10 standard time: a smaller id than before
    bench.place(qty=1)
    bench.settle()

    after = bench.account.activities(types=["FILL"], after=first + timedelta(minutes=10), direction="asc")
    both = bench.account.activities(types=["FILL"], after=first - timedelta(minutes=10))

    assert (len(after), len(both)) == (1, 2)


def test_a_late_activity_shows_in_rest_only_later_and_is_true_at_once() -> None:
    bench = Bench()
    bench.broker.quirks.late_activity_s = 30

    bench.bracket()
    before = bench.account.activities(types=["FILL"])
    bench.settle(31)

    assert before == []
    assert bench.account.truth()["fills"] == len(bench.account.activities(types=["FILL"])) > 0


def test_filters_by_order_category_and_type_are_alpacas() -> None:
    bench = Bench()
    parent = bench.bracket()

    assert {row["order_id"] for row in bench.account.activities(order_id=text(parent, "id"))} == {parent["id"]}
    assert {row["activity_type"] for row in bench.account.activities(category="non_trade_activity")} == {"CSD"}
    for bad in ({"types": ["NOPE"]}, {"types": ["FILL"], "category": "trade_activity"}, {"category": "x"}):
        with pytest.raises(Refused):
            bench.account.activities(**bad)


def test_fees_are_booked_the_day_after_with_the_date_of_the_sale() -> None:
    bench = Bench()
    bench.bracket(qty=100)
    bench.price("AAPL", "111")

    bench.settle(86400)

    fees = {text(row, "activity_sub_type"): row for row in bench.account.activities(types=["FEE"])}
    assert {row["date"] for row in fees.values()} == {"2025-11-24"}
    assert (fees["REG"]["net_amount"], fees["TAF"]["net_amount"]) == ("-0.31", "-0.02")
    assert text(fees["REG"], "created_at") > "2025-11-25"


def test_dividends_are_paid_by_longs_and_owed_by_shorts() -> None:
    bench = Bench()
    bench.price("KO", "60")
    bench.place(symbol="KO", qty=100)
    bench.settle()

    for _ in range(100):
        bench.settle(86400)

    paid = bench.account.activities(types=["DIV"])
    assert paid
    assert {(row["net_amount"], row["qty"], row["per_share_amount"]) for row in paid} == {("49", "100", "0.49")}
    assert {row["activity_sub_type"] for row in paid} == {"CDIV"}


def test_the_account_is_cash_plus_long_plus_short_values() -> None:
    bench = Bench()
    bench.bracket()
    bench.price("T", "20")
    bench.place(symbol="T", side="sell", qty=50)
    bench.settle()
    bench.price("AAPL", "104")

    row = bench.account.account()

    assert (row["cash"], row["long_market_value"], row["short_market_value"]) == ("100000", "1040", "-1000")
    assert (row["equity"], row["last_equity"]) == ("100040", "0")
    short = bench.account.position("T")
    assert (short["side"], short["qty"], short["market_value"]) == ("short", "-50", "-1000")


def test_portfolio_history_is_numbers_of_equal_length() -> None:
    bench = Bench(history_days=60)

    daily = bench.account.portfolio_history(period="1M", timeframe="1D")
    minutes = bench.account.portfolio_history(period="1D", timeframe="15Min")

    for curve in (daily, minutes):
        assert isinstance(curve["timestamp"], list)
        assert len(curve["timestamp"]) == len(rows(curve, "equity")) == len(rows(curve, "profit_loss")) > 0
    with pytest.raises(Refused):
        bench.account.portfolio_history(period="1X")


def test_a_burst_leaves_positions_as_they_were() -> None:
    bench = Bench()

    emitted = bench.account.burst(1000)

    assert emitted >= 1000
    assert len(bench.events) == emitted
    assert bench.account.positions() == []
    assert {order.status for order in bench.account.blotter.book.by_id.values()} <= TERMINAL
    bench.settle()
    assert bench.account.positions() == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["bracket", "market", "oco", "move", "cancel", "price", "price", "settle"]),
        st.sampled_from(SYMBOLS),
        st.integers(1, 60),
        st.booleans(),
    ),
    max_size=40,
)


def act(bench: Bench, kind: str, symbol: str, number: int, is_buy: bool) -> None:
    """Do one thing that may be refused."""
    price = bench.broker.market.price(symbol)
    side, sign = ("buy", 1) if is_buy else ("sell", -1)
    gap = sign * (price * number / 2000 + Decimal("0.02"))
    above, below = (str((price + way * gap).quantize(Decimal("0.01"))) for way in (1, -1))
    exits = {"take_profit": {"limit_price": above}, "stop_loss": {"stop_price": below}}
    live = bench.account.blotter.book.live_orders()
    chosen = live[number % len(live)] if live else None
    if kind == "bracket":
        bench.place(symbol=symbol, side=side, qty=number, order_class="bracket", **exits)
    elif kind == "market":
        bench.place(symbol=symbol, side=side, qty=number)
    elif kind == "oco":
        exits = {"take_profit": {"limit_price": below}, "stop_loss": {"stop_price": above}}
        bench.place(symbol=symbol, side=side, qty=number, type="limit", order_class="oco", **exits)
    elif kind == "move" and chosen is not None:
        field = "stop_price" if chosen.type == "stop" else "limit_price"
        bench.account.replace(chosen.id, {field: below})
    elif kind == "cancel" and chosen is not None:
        bench.account.cancel(chosen.id)
    elif kind == "price":
        bench.broker.market.pin(symbol, price * (100 + sign * number % 7) / 100)
        bench.settle(0.02)
    elif kind == "settle":
        bench.settle()


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_cash_positions_and_orders_always_add_up(steps: Sequence[tuple[str, str, int, bool]]) -> None:
    bench = Bench()
    for step in steps:
        try:
            act(bench, *step)
        except Refused as refusal:
            assert refusal.status in {403, 422}  # noqa: PT017 - a refusal is a legal answer here
    bench.settle(2)

    activities = list(bench.account.blotter.ledger.everything())
    shares: defaultdict[str, Decimal] = defaultdict(Decimal)
    filled: defaultdict[str, Decimal] = defaultdict(Decimal)
    for activity in activities:
        shares[activity.symbol or ""] += activity.signed_qty
        if activity.order_id is not None:
            filled[activity.order_id] += activity.qty or Decimal(0)
    cash = sum((activity.net_amount for activity in activities), Decimal(0))
    assert cash == bench.account.blotter.ledger.cash
    assert {symbol: qty for symbol, qty in shares.items() if qty} == {
        symbol: held.qty for symbol, held in bench.account.blotter.ledger.positions.items()
    }
    for order in bench.account.blotter.book.by_id.values():
        assert filled[order.id] == order.filled_qty
        assert order.qty is None or order.filled_qty <= order.qty
        assert order.status != "filled" or order.filled_qty == order.qty
    for event in bench.events:
        order_row = child(event, "order")
        assert order_row["qty"] is None or Decimal(text(order_row, "filled_qty")) <= Decimal(text(order_row, "qty"))
    assert cash > -10 * DEPOSIT


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_exits_never_turn_a_position_around(steps: Sequence[tuple[str, str, int, bool]]) -> None:
    bench = Bench()
    sides: dict[str, int] = {}
    for step in steps:
        try:
            act(bench, *step)
        except Refused as refusal:
            assert refusal.status in {403, 422}  # noqa: PT017 - a refusal is a legal answer here
        for symbol in SYMBOLS:
            quantity = bench.account.blotter.ledger.quantity(symbol)
            sign = (quantity > 0) - (quantity < 0)
            assert sign * sides.get(symbol, 0) >= 0, symbol
            sides[symbol] = sign
