"""What becomes a row, and which of two rows is the newer one."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise, permutations
from typing import Any

import pytest
from fakes.lake import NOON, Json, activity, cash_json, fill_json, name, order, order_json, text, told
from msgspec.structs import asdict

from coldharbour.broker.model import TradeUpdate
from coldharbour.lake.model import (
    OrderRow,
    Source,
    Unstorable,
    activity_row,
    combine,
    fill_row,
    harvest_order,
    harvest_update,
    order_row,
    version,
)


def row(*, source: Source = "rest", **changes: Any) -> OrderRow:
    return order_row(order(order_json("a", **changes)), source)


def update(event: str, message: Json, **more: Any) -> TradeUpdate:
    found = told(event, message, **more).update
    assert found is not None
    return found


# --- rows


def test_an_orders_row_has_every_figure_exactly_and_the_raw_text() -> None:
    message = order_json(
        "a", at=2.5, filled_qty="0.057436865", limit_price="0.0001", stop_price=None, trail_percent="1.50"
    )

    found = order_row(order(message), "rest")

    assert found.id == name("a")
    assert found.updated_at == NOON + timedelta(seconds=2.5)
    assert (found.filled_qty, found.limit_price) == (Decimal("0.057436865"), Decimal("0.0001"))
    assert (found.trail_percent, found.stop_price) == (Decimal("1.50"), None)
    assert found.raw_json == text(message)


def test_nothing_filled_is_zero_and_not_unknown() -> None:
    assert row(filled_qty=None).filled_qty == 0


def test_a_nested_order_is_a_row_each_and_a_link_each_however_deep() -> None:
    leaf = order_json("leaf", at=9)
    message = order_json("root", legs=[order_json("left", at=3), order_json("right", legs=[leaf])])

    harvest = harvest_order(order(message), "rest")

    assert [found.id for found in harvest.orders] == [name(who) for who in ("root", "left", "right", "leaf")]
    assert list(harvest.links) == [
        (name("root"), name("left")),
        (name("root"), name("right")),
        (name("right"), name("leaf")),
    ]
    assert harvest.orders[0].legs_updated_at == NOON + timedelta(seconds=9)
    assert harvest.orders[1].legs_updated_at is None
    assert harvest.orders[3].raw_json == text(leaf)


@pytest.mark.parametrize(
    ("side", "amount"), [("buy", "-621.00"), ("sell", "621.00"), ("sell_short", "621.00"), ("", "-621.00")]
)
def test_a_fill_costs_or_brings_its_quantity_times_its_price(side: str, amount: str) -> None:
    assert activity_row(activity(fill_json("e", side=side))).net_amount == Decimal(amount)


def test_the_streams_fill_is_the_row_that_rest_will_tell_but_for_its_text() -> None:
    message = order_json("entry", status="filled")
    from_stream = fill_row(update("fill", message, execution="e", at=1.25, qty="10", price="62.10"))
    from_rest = activity_row(activity(fill_json("e", at=1.25)))

    assert from_stream is not None
    stream, rest = asdict(from_stream), asdict(from_rest)
    assert {field for field in rest if rest[field] != stream[field]} == {"raw_json", "source"}


def test_other_events_bring_no_fill() -> None:
    assert fill_row(update("canceled", order_json("a", status="canceled"), execution=1)) is None
    assert harvest_update(update("new", order_json("a"), execution=1)).activities == ()


@pytest.mark.parametrize("missing", ["execution_id", "timestamp", "qty", "price"])
def test_a_fill_without_what_makes_it_one_cannot_be_stored(missing: str) -> None:
    whole = update("fill", order_json("a"), execution="e", qty="10", price="62.10")

    with pytest.raises(Unstorable):
        fill_row(type(whole)(**{**_fields(whole), missing: None}))


def _fields(value: TradeUpdate) -> dict[str, Any]:
    return {field: getattr(value, field) for field in value.__struct_fields__}


def test_money_that_moves_without_a_trade_has_a_day_and_its_own_sign() -> None:
    found = activity_row(activity(cash_json("fee", activity_type="FEE", net_amount="-0.02", symbol=None, qty=None)))

    assert (found.activity_date, found.transaction_time) == (date(2026, 10, 8), None)
    assert (found.net_amount, found.execution_id, found.symbol) == (Decimal("-0.02"), None, None)
    assert found.status == "executed"


@pytest.mark.parametrize("changes", [{"id": "seven"}, {"replaces": "x"}, {"client_order_id": "a\u0000b"}])
def test_what_postgresql_cannot_hold_is_unstorable(changes: Json) -> None:
    with pytest.raises(Unstorable):
        order_row(order({**order_json("a"), **changes}), "rest")


# --- which is newer


def test_versions_rank_finished_then_time_then_fill_then_rest_then_legs() -> None:
    legs = [order_json("leg", at=1)]
    ascending = [
        row(at=1, filled_qty="9"),
        row(at=2, filled_qty="3"),
        row(at=2, filled_qty="4", source="stream", legs=legs),
        row(at=2, filled_qty="4"),
        row(at=2, filled_qty="4", legs=legs),
        row(at=2, filled_qty="4", legs=[order_json("leg", at=7)]),
        row(at=0, status="canceled", source="stream"),
        row(at=5, status="filled"),
    ]

    assert all(version(older) < version(newer) for older, newer in pairwise(ascending))


def test_two_payloads_of_one_version_still_have_an_order() -> None:
    one, other = row(hwm="1"), row(hwm="2")

    assert version(one) != version(other)
    assert version(one) == version(row(hwm="1"))


# --- batches


def test_a_batch_is_reduced_to_the_newest_row_of_each_order_in_any_order_of_telling() -> None:
    life = [
        harvest_order(order(order_json("a", at=at, status=status)), "stream")
        for at, status in ((0, "new"), (1, "pending_cancel"), (2, "canceled"))
    ]

    for telling in permutations(life):
        assert [found.status for found in combine(telling).orders] == ["canceled"]


def test_a_batch_has_one_row_of_each_fill_and_one_of_each_link() -> None:
    fill = harvest_update(update("fill", order_json("a", legs=[order_json("b")]), execution="e", qty="1", price="2"))

    harvest = combine([fill, fill, fill])

    assert (len(harvest.orders), len(harvest.activities), len(harvest.links)) == (2, 1, 1)
