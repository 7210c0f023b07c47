"""Orders in the simulator: what is refused, when they are accepted and expire, how they are listed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from coldharbour_plugins.simulator.broker import Refused
from simulated_bench import Bench, child, text

LIMIT = {"type": "limit", "limit_price": 90}
EXITS = {"take_profit": {"limit_price": 110}, "stop_loss": {"stop_price": 95}}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.price("AAPL", "100")
    return bench


@pytest.mark.parametrize(
    ("request_", "status", "code", "message"),
    [
        ({"symbol": "NOSUCH", "qty": 1}, 422, 40010001, 'could not find asset "NOSUCH"'),
        ({}, 422, 40010001, "qty or notional is required"),
        ({"qty": 1, "notional": 5}, 422, 40010001, "only one of qty or notional is accepted"),
        ({"qty": 0}, 422, 40010001, "qty must be > 0"),
        ({"qty": "many"}, 400, 40010000, "request body format is invalid"),
        ({"qty": 1, "side": "up"}, 422, 40010001, "invalid side"),
        ({"qty": 1, "time_in_force": "ever"}, 422, 40010001, "invalid time_in_force"),
        ({"qty": 1, "type": "limit"}, 422, 40010001, "limit orders require a limit price"),
        ({"qty": 1, "type": "stop"}, 422, 40010001, "stop orders require a stop price"),
        ({"qty": 1, **LIMIT, "stop_price": 5}, 422, 42210000, "limit orders must not have stop_price"),
        ({"qty": 1, **LIMIT, "limit_price": "90.123"}, 422, 42210000, "invalid limit_price 90.123. sub-penny"),
        ({"qty": 1, **LIMIT, "limit_price": "0.12345"}, 422, 42210000, "invalid limit_price 0.12345. sub-penny"),
        ({"qty": 1, "client_order_id": "x" * 129}, 422, 40010001, "no more than 128 characters"),
        ({"qty": 1, "extended_hours": True}, 422, 42210000, "extended hours order must be DAY or GTC limit"),
        ({"qty": "0.5"}, 422, 42210000, "fractional orders must be simple DAY orders"),
        ({"qty": 1, "type": "trailing_stop"}, 422, 40010001, "exactly one of trail_price and trail_percent"),
        ({"qty": 1, "order_class": "bracket"}, 422, 42210000, "bracket orders require take_profit.limit_price"),
        ({"qty": 1, "order_class": "oto", **EXITS}, 422, 42210000, "exactly one of take_profit and stop_loss"),
        (
            {"qty": 1, "order_class": "bracket", "take_profit": {"limit_price": 90}, "stop_loss": {"stop_price": 95}},
            422,
            42210000,
            "take_profit.limit_price must be > stop_loss.stop_price",
        ),
        (
            {"qty": 1, "order_class": "bracket", "take_profit": {"limit_price": 110}, "stop_loss": {"stop_price": 101}},
            422,
            42210000,
            "stop_loss.stop_price must be <= base_price - 0.01",
        ),
        (
            {"qty": 1, "side": "sell", "order_class": "oco", **LIMIT, **EXITS},
            422,
            42210000,
            "oco orders must be exit orders",
        ),
        ({"qty": 100_000}, 403, 40310000, "insufficient buying power"),
    ],
)
def test_a_bad_order_is_refused_as_alpaca_does(
    bench: Bench, request_: dict[str, object], status: int, code: int, message: str
) -> None:
    refusal = bench.refused(**request_)

    assert (refusal.status, refusal.code) == (status, code)
    assert message in refusal.message
    assert len(bench.account.blotter.book) == 0


def test_a_client_order_id_is_used_up_for_ever(bench: Bench) -> None:
    order = bench.place(qty=1, **LIMIT, client_order_id="mine")
    bench.account.cancel(text(order, "id"))
    bench.settle()

    assert bench.refused(qty=1, client_order_id="mine").message == "client_order_id must be unique"
    assert bench.account.order_by_client_id("mine")["id"] == order["id"]


def test_shares_under_an_exit_are_reserved_once_per_group(bench: Bench) -> None:
    bench.bracket(qty=10)

    refusal = bench.refused(side="sell", qty=1)

    assert (refusal.status, refusal.extra["available"], refusal.extra["held_for_orders"]) == (403, "0", "10")
    assert bench.account.position("AAPL")["qty_available"] == "0"


def test_an_opposite_order_at_rest_is_a_wash_trade_for_a_simple_order(bench: Bench) -> None:
    resting = bench.place(qty=1, **LIMIT)
    bench.settle()

    assert "cannot open a short sell" in bench.refused(side="sell", qty=1).message
    bench.account.cancel(text(resting, "id"))
    bench.bracket(qty=10)
    assert "potential wash trade" in bench.refused(qty=1).message
    bench.place(symbol="KO", side="sell", qty=1, **{**LIMIT, "limit_price": 900})
    assert "cannot open a long buy" in bench.refused(symbol="KO", qty=1).message


def test_a_stop_loss_without_a_class_is_ignored(bench: Bench) -> None:
    placed = bench.place(qty=1, stop_loss={"stop_price": 95})

    assert (placed["order_class"], placed["legs"]) == ("", None)


def test_an_amount_buys_a_fraction(bench: Bench) -> None:
    order = bench.place(notional="33.33", time_in_force="day")
    bench.settle()

    filled = bench.read(order)
    assert (filled["qty"], filled["notional"], filled["filled_qty"]) == (None, "33.33", "0.3333")


@pytest.mark.parametrize(("time_in_force", "price", "status"), [("ioc", 90, "canceled"), ("fok", 100, "filled")])
def test_immediate_orders_fill_at_once_or_go(bench: Bench, time_in_force: str, price: int, status: str) -> None:
    order = bench.place(qty=7, type="limit", limit_price=price, time_in_force=time_in_force)
    bench.settle()

    assert bench.read(order)["status"] == status


def test_a_limit_fills_at_the_better_market_price_and_at_its_own_after_a_rest(bench: Bench) -> None:
    better = bench.place(qty=1, type="limit", limit_price=105)
    rested = bench.place(symbol="KO", qty=1, type="limit", limit_price=50)
    bench.settle()
    bench.price("KO", "49")

    assert bench.read(better)["filled_avg_price"] == "100"
    assert bench.read(rested)["filled_avg_price"] == "50"


def test_row_shapes_are_alpacas(bench: Bench) -> None:
    order = bench.read(bench.place(qty="3.0", **{**LIMIT, "limit_price": "90.50"}))

    assert (order["qty"], order["limit_price"], order["filled_qty"]) == ("3", "90.5", "0")
    assert (order["order_class"], order["type"], order["order_type"]) == ("", "limit", "limit")
    unset = {"filled_at", "canceled_at", "replaced_by", "hwm", "trail_price", "legs", "notional", "filled_avg_price"}
    assert all(order[key] is None for key in unset)
    assert text(order, "submitted_at").endswith("Z")


def test_after_the_close_orders_wait_as_accepted_and_are_submitted_anew_at_four() -> None:
    bench = Bench(datetime(2025, 11, 24, 22, 0, tzinfo=UTC), always_open=False)
    order = bench.place(qty=1)
    bench.settle(60)
    waiting = bench.read(order)

    bench.settle(timedelta(hours=11, minutes=1).total_seconds())
    released = bench.read(order)
    bench.settle(timedelta(hours=5, minutes=30).total_seconds())

    assert (waiting["status"], bench.told(order)[0]) == ("accepted", "accepted")
    assert (released["status"], text(released, "submitted_at")[:16]) == ("new", "2025-11-25T09:00")
    assert bench.read(order)["status"] == "filled"
    with pytest.raises(Refused):
        bench.account.replace(text(bench.place(symbol="KO", qty=1, **LIMIT), "id"), {"limit_price": 1})


def test_a_day_order_expires_at_an_early_close() -> None:
    bench = Bench(datetime(2025, 11, 28, 17, 0, tzinfo=UTC), always_open=False)
    bench.price("AAPL", "100")
    order = bench.place(qty=1, **LIMIT, time_in_force="day")

    bench.settle(3700)

    row = bench.read(order)
    assert (row["status"], row["expires_at"]) == ("expired", "2025-11-28T18:00:00Z")
    assert bench.told(order)[-1] == "expired"


def test_a_gtc_bracket_expires_ninety_days_after_its_creation_with_its_replaced_leg(bench: Bench) -> None:
    parent = bench.bracket()
    bench.account.replace(text(bench.legs(parent)[1], "id"), {"stop_price": "96"})
    bench.settle()

    bench.settle(timedelta(days=90, hours=5).total_seconds())
    before = [leg["status"] for leg in bench.legs(parent)]
    bench.settle(timedelta(hours=2).total_seconds())

    assert parent["expires_at"] == "2026-02-22T21:00:00Z"
    assert before == ["new", "held"]
    assert [leg["status"] for leg in bench.legs(parent)] == ["expired", "expired"]


def test_held_legs_are_not_open_and_a_filled_parent_hides_its_legs(bench: Bench) -> None:
    parent = bench.bracket()
    target, stop = bench.legs(parent)

    assert [row["id"] for row in bench.account.orders(status="open")] == [target["id"]]
    assert bench.account.orders(status="open", nested=True) == []
    assert {row["id"] for row in bench.account.orders(status="closed")} == {parent["id"], stop["id"]}
    assert [row["id"] for row in bench.account.orders(status="all", nested=True)] == [parent["id"]]


def test_a_listing_ends_at_five_hundred_rows_and_its_bounds_are_exclusive(bench: Bench) -> None:
    for _ in range(550):
        bench.place(qty=1, **LIMIT)
    page = bench.account.orders(status="all", limit=9999, direction="asc")
    last = datetime.fromisoformat(text(page[-1], "submitted_at")[:26].rstrip("Z")).replace(tzinfo=UTC)

    rest = bench.account.orders(status="all", limit=500, after=last - timedelta(microseconds=1), direction="asc")
    by_id = bench.account.orders(status="all", limit=500, after_order_id=text(page[-1], "id"), direction="asc")

    assert len(page) == 500
    assert page == sorted(page, key=lambda row: text(row, "submitted_at").rstrip("Z").ljust(29, "0"))
    assert {text(row, "id") for row in page + rest} == set(bench.account.blotter.book.by_id)
    assert len(by_id) == 50
    assert bench.account.orders(status="open", limit=1)[0]["id"] == by_id[-1]["id"]


def test_listings_filter_by_symbol_and_side(bench: Bench) -> None:
    bench.bracket()
    ko = bench.place(symbol="KO", qty=1, **{**LIMIT, "limit_price": 1})
    pep = bench.place(symbol="T", qty=1, **{**LIMIT, "limit_price": 1})

    listed = bench.account.orders(status="all", symbols=["KO", "T"], direction="asc")

    assert [row["id"] for row in listed] == [ko["id"], pep["id"]]
    assert {row["side"] for row in bench.account.orders(status="all", side="sell")} == {"sell"}


@pytest.mark.parametrize(
    "arguments",
    [{"status": "odd"}, {"direction": "up"}, {"limit": 0}, {"before_order_id": "a", "after_order_id": "b"}],
)
def test_a_bad_listing_is_refused(bench: Bench, arguments: dict[str, object]) -> None:
    with pytest.raises(Refused) as refusal:
        bench.account.orders(**arguments)  # type: ignore[arg-type]

    assert refusal.value.status == 422


def test_updates_of_an_order_are_strictly_later_and_every_event_has_a_timestamp(bench: Bench) -> None:
    parent = bench.bracket(qty=50)
    bench.account.replace(text(bench.legs(parent)[1], "id"), {"stop_price": "97"})
    bench.settle()
    bench.price("AAPL", "96")

    seen: dict[str, str] = {}
    for event in bench.events:
        order = child(event, "order")
        updated = text(order, "updated_at").rstrip("Z").ljust(29, "0")
        assert updated > seen.get(text(order, "id"), "")
        seen[text(order, "id")] = updated
        assert text(event, "timestamp")


def test_a_position_is_closed_in_part_by_percentage_and_then_whole(bench: Bench) -> None:
    bench.place(qty=10)
    bench.settle()

    bench.account.close_position("AAPL", percentage=Decimal(40))
    bench.settle()
    rest = bench.held()
    bench.account.close_position(text(bench.account.position("AAPL"), "asset_id"))
    bench.settle()

    assert (rest, bench.held()) == ("6", "0")
    with pytest.raises(Refused) as refusal:
        bench.account.close_position("AAPL")
    assert (refusal.value.status, refusal.value.message) == (404, "position does not exist")


def test_closing_everything_cancels_first_and_names_orders_by_id(bench: Bench) -> None:
    parent = bench.bracket()
    target = bench.legs(parent)[0]

    answers = bench.account.close_all_positions(cancel_orders=True)
    bench.settle()

    assert [answer["symbol"] for answer in answers] == [target["id"], "AAPL"]
    assert bench.account.positions() == []
