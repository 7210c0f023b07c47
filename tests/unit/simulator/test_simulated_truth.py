"""What the simulator knows of an account's profit and of its every minute, by numbers worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from coldharbour_plugins.simulator.activities import Activity
from coldharbour_plugins.simulator.bookings import Booking
from coldharbour_plugins.simulator.profit import realised_by_exit
from coldharbour_plugins.simulator.stamps import nanoseconds
from hypothesis import given
from hypothesis import strategies as st
from simulated_bench import Bench, rows


def fill(at: int, qty: str, price: str, *, order: str = "", symbol: str = "AAPL") -> Activity:
    """Return a fill of order o<at> at the moment `at`; a negative quantity is a sale."""
    number = Decimal(qty)
    return Activity(
        id=f"{at:05d}", type="FILL", at=at, visible=at, net_amount=-number * Decimal(price), symbol=symbol,
        qty=abs(number), price=Decimal(price), side="buy" if number > 0 else "sell", order_id=order or f"o{at}",
    )  # fmt: skip


def move(at: int, kind: str, qty: str, price: str | None = None) -> Activity:
    return Activity(
        id=f"{at:05d}", type=kind, at=at, visible=at, net_amount=Decimal(0), symbol="AAPL", qty=Decimal(qty),
        price=None if price is None else Decimal(price),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("activities", "earned"),
    [
        ([fill(1, "100", "10"), fill(2, "100", "12"), fill(3, "-100", "13")], {"o3": 300}),
        ([fill(1, "100", "10"), fill(2, "100", "12"), fill(3, "-150", "13")], {"o3": 350}),
        ([fill(1, "-10", "50"), fill(2, "4", "45"), fill(3, "6", "55")], {"o2": 20, "o3": -30}),
        ([fill(1, "10", "50"), fill(2, "-15", "60"), fill(3, "5", "58")], {"o2": 100, "o3": 10}),
        ([fill(1, "10", "50"), fill(3, "-4", "52", order="x"), fill(2, "-6", "51", order="x")], {"x": 14}),
        ([fill(1, "10", "50"), fill(2, "-10", "60", symbol="KO")], {}),
        ([fill(1, "10", "50"), move(2, "SPLIT", "10"), fill(3, "-20", "26")], {"o3": 20}),
        ([fill(1, "-10", "50"), move(2, "SPLIT", "-20"), fill(3, "30", "16")], {"o3": 20}),
        ([move(1, "ACATS", "10", "40"), fill(2, "10", "50"), fill(3, "-10", "45")], {"o3": 50}),
        ([fill(1, "10", "50"), move(2, "JNLS", "-4", "55")], {"00002": 20}),
        ([move(1, "SPLIT", "10"), fill(2, "10", "50"), fill(3, "-10", "51")], {"o3": 10}),
    ],
    ids=["oldest first", "two lots", "short", "flip", "one order's slices in any order", "symbols apart",
         "split", "split of a short", "shares in", "shares out", "a split of nothing"],
)  # fmt: skip
def test_the_oldest_shares_earn_first(activities: list[Activity], earned: dict[str, int]) -> None:
    assert {order: round(profit, 9) for order, profit in realised_by_exit(activities).items()} == earned
    assert realised_by_exit(reversed(activities)) == realised_by_exit(activities)


@given(st.lists(st.tuples(st.integers(-20, 20).filter(bool), st.integers(1, 99)), max_size=40))
def test_what_is_realised_and_what_is_open_is_the_cash_and_the_worth(trades: list[tuple[int, int]]) -> None:
    fills = [fill(at, str(qty), str(price)) for at, (qty, price) in enumerate(trades)]
    held = sum(qty for qty, _ in trades)
    closing = [*fills, fill(len(fills), str(-held), "50")] if held else fills

    assert sum(realised_by_exit(closing).values()) == sum(activity.net_amount for activity in closing)


def test_a_minute_is_remembered_as_it_was_when_it_ended() -> None:
    bench = Bench(datetime(2025, 11, 24, 15, 0, 30, tzinfo=UTC))
    first = datetime(2025, 11, 24, 15, 0, tzinfo=UTC)
    bench.price("AAPL", "100")
    bench.place(qty=1)
    bench.settle(20)  # until 15:00:50.3

    bench.clock.advance(9.7)  # it is 15:01 now
    bench.account.book(Booking(type="CSD", amount=Decimal(7)))
    bench.broker.market.pin("AAPL", Decimal(90))
    bench.broker.step()
    bench.clock.advance(60)
    bench.broker.step()

    row, after = (bench.account.minutes[nanoseconds(first + timedelta(minutes=n))] for n in (0, 1))
    assert (row.equity, row.cash, row.quantities) == (Decimal(100_000), Decimal(99_900), {"AAPL": Decimal(1)})
    assert after.equity == Decimal(99_997)
    with pytest.raises(KeyError):
        bench.account.minutes[nanoseconds(first + timedelta(minutes=2))]


def test_the_details_hold_profit_by_exit_and_the_minutes_in_cents() -> None:
    bench = Bench()
    bench.price("AAPL", "100")
    bench.place(qty=1)
    bench.settle(60)
    bench.price("AAPL", "103.5")
    sold = bench.place(side="sell", qty=1)
    bench.settle(60)

    details = bench.account.details()

    assert details["realised_fifo"] == "3.5"
    assert details["realised_fifo_by_order"] == {sold["id"]: "3.5"}
    assert rows(details, "minutes") == [
        {"at": "2025-11-24T15:00:00Z", "equity": "100000", "cash": "99900", "positions": {"AAPL": "1"}},
        {"at": "2025-11-24T15:01:00Z", "equity": "100003.5", "cash": "100003.5", "positions": {}},
    ]
