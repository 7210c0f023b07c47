"""Rows of the lake: what is stored of an order, an activity, a frame; pure translation, no SQL.

A row is the set of columns as JSON will carry them to PostgreSQL; the broker's own bytes ride along
untouched as `raw_json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal
from uuid import UUID

import msgspec

from coldharbour.broker.model import Activity, Order, TradeUpdate
from coldharbour.lake.ids import synthetic_activity_id

Source = Literal["rest", "stream"]

FINISHED = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
SELLS = frozenset({"sell", "sell_short"})
USUAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
NEVER = datetime.min.replace(tzinfo=UTC)


class Unstorable(ValueError):
    """A message that was read but cannot become a row; it belongs in quarantine."""


class OrderRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A row of `raw_orders`. parent_id and legs are what it begins with: then the tables' own evidence decides."""

    id: str
    client_order_id: str
    status: str
    symbol: str
    side: str
    order_type: str
    order_class: str
    time_in_force: str
    position_intent: str
    qty: Decimal | None = None
    notional: Decimal | None = None
    filled_qty: Decimal
    filled_avg_price: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    replaces: str | None = None
    replaced_by: str | None = None
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime | None = None
    filled_at: datetime | None = None
    expired_at: datetime | None = None
    expires_at: datetime | None = None
    canceled_at: datetime | None = None
    failed_at: datetime | None = None
    replaced_at: datetime | None = None
    legs_updated_at: datetime | None = None
    source: Source
    parent_id: str | None = None
    legs: tuple[str, ...]
    raw_json: bytes = b""


class ActivityRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A row of `raw_activities`."""

    id: str
    execution_id: str | None = None
    activity_type: str
    transaction_time: datetime | None = None
    activity_date: date | None = None
    symbol: str | None = None
    side: str | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    net_amount: Decimal | None = None
    order_id: str | None = None
    status: str | None = None
    source: Source
    raw_json: bytes = b""

    @property
    def key(self) -> str:
        """What makes it unique: fills have an execution, everything else has its id alone."""
        return self.execution_id or self.id


class HeldOrder(msgspec.Struct, frozen=True):
    """What the lake holds of an order, as far as another telling of it is compared with that."""

    id: str
    status: str
    updated_at: datetime
    filled_qty: Decimal
    source: Source
    legs_updated_at: datetime | None
    replaces: str | None
    replaced_by: str | None
    parent_id: str | None
    legs: tuple[str, ...]
    raw_json: bytes


class HeldActivity(msgspec.Struct, frozen=True):
    """What the lake holds of an activity, as far as another telling of it is compared with that."""

    id: str
    status: str | None
    source: Source
    raw_json: bytes


@dataclass(frozen=True, slots=True)
class Harvest:
    """What one message or page brings: order rows, activity rows, and which leg hangs under which parent."""

    orders: tuple[OrderRow, ...] = ()
    activities: tuple[ActivityRow, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


def harvest_order(order: Order, source: Source) -> Harvest:
    """Return the rows of an order and of every leg nested in it, with the links the nesting proves."""
    orders: list[OrderRow] = []
    links: list[tuple[str, str]] = []
    _gather(order, None, source, orders, links)
    return Harvest(orders=tuple(orders), links=tuple(links))


def harvest_update(update: TradeUpdate) -> Harvest:
    """Return the rows of one stream event: its order, and the fill if it is one."""
    family = harvest_order(update.order, "stream")
    fill = fill_row(update)
    return Harvest(family.orders, (fill,) if fill else (), family.links)


def combine(harvests: Iterable[Harvest]) -> Harvest:
    """Return one harvest with the newest row of each order and one row of each activity.

    One statement cannot touch a row twice, so a batch is reduced by the same rule the table applies.
    """
    orders: dict[str, OrderRow] = {}
    activities: dict[str, ActivityRow] = {}
    links: dict[tuple[str, str], None] = {}
    for harvest in harvests:
        for row in harvest.orders:
            known = orders.setdefault(row.id, row)
            if known is not row and version(row) > version(known):
                orders[row.id] = row
        for activity in harvest.activities:
            activities.setdefault(activity.key, activity)
        links.update(dict.fromkeys(harvest.links))
    return Harvest(tuple(orders.values()), tuple(activities.values()), tuple(links))


def version(row: OrderRow | HeldOrder) -> tuple[bool, datetime, Decimal, bool, datetime, bytes]:
    """Return the key by which the newer of two rows of one order is known (domain.md 3).

    A finished state beats an unfinished one; then `updated_at`, then `filled_qty`, then REST over stream; then
    the payload that shows the newest legs, and last its text, so that any order of arrival ends in the same row.
    """
    return (
        row.status in FINISHED,
        row.updated_at,
        row.filled_qty,
        row.source == "rest",
        row.legs_updated_at or NEVER,
        row.raw_json,
    )


def order_row(order: Order, source: Source, parent_id: str | None = None) -> OrderRow:
    """Return the row of one order, its legs only by their ids. Raises Unstorable for what the table cannot hold."""
    return OrderRow(
        id=_known_uuid(order.id),
        client_order_id=order.client_order_id,
        status=order.status,
        symbol=order.symbol,
        side=order.side,
        order_type=order.type,
        order_class=order.order_class,
        time_in_force=order.time_in_force,
        position_intent=order.position_intent,
        qty=order.qty,
        notional=order.notional,
        filled_qty=order.filled_qty or Decimal(0),
        filled_avg_price=order.filled_avg_price,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        trail_price=order.trail_price,
        trail_percent=order.trail_percent,
        replaces=_uuid(order.replaces),
        replaced_by=_uuid(order.replaced_by),
        created_at=order.created_at,
        updated_at=order.updated_at,
        submitted_at=order.submitted_at,
        filled_at=order.filled_at,
        expired_at=order.expired_at,
        expires_at=order.expires_at,
        canceled_at=order.canceled_at,
        failed_at=order.failed_at,
        replaced_at=order.replaced_at,
        legs_updated_at=max(_leg_updates(order)) if order.legs else None,
        source=source,
        parent_id=parent_id,
        legs=tuple(sorted([_known_uuid(leg.id) for leg in order.legs])),
        raw_json=_storable(order.raw),
    )


def activity_row(activity: Activity) -> ActivityRow:
    """Return the row of one account activity as REST reports it."""
    return ActivityRow(
        id=activity.id,
        execution_id=activity.execution_id if activity.is_fill else None,
        activity_type=activity.activity_type,
        transaction_time=activity.transaction_time,
        activity_date=activity.date,
        symbol=activity.symbol or None,
        side=activity.side or None,
        qty=activity.qty,
        price=activity.price,
        net_amount=_fill_amount(activity.side, activity.qty, activity.price)
        if activity.is_fill
        else activity.net_amount,
        order_id=_uuid(activity.order_id),
        status=activity.status or None,
        source="rest",
        raw_json=_storable(activity.raw),
    )


def fill_row(update: TradeUpdate) -> ActivityRow | None:
    """Return the activity row that a fill on the stream stands for, None for every other event."""
    if not update.is_fill:
        return None
    if update.timestamp is None or not update.execution_id or update.qty is None or update.price is None:
        raise Unstorable(f"{update.event} of order {update.order.id} without time, execution id, qty or price")
    return ActivityRow(
        id=synthetic_activity_id(update.timestamp, update.execution_id),
        execution_id=update.execution_id,
        activity_type="FILL",
        transaction_time=update.timestamp,
        symbol=update.order.symbol,
        side=update.order.side,
        qty=update.qty,
        price=update.price,
        net_amount=_fill_amount(update.order.side, update.qty, update.price),
        order_id=_uuid(update.order.id),
        source="stream",
        raw_json=_storable(update.raw),
    )


def _gather(
    order: Order, parent_id: str | None, source: Source, orders: list[OrderRow], links: list[tuple[str, str]]
) -> None:
    row = order_row(order, source, parent_id)
    orders.append(row)
    if parent_id is not None:
        links.append((parent_id, row.id))
    for leg in order.legs:
        _gather(leg, row.id, source, orders, links)


def _leg_updates(order: Order) -> Iterator[datetime]:
    for leg in order.legs:
        yield leg.updated_at
        yield from _leg_updates(leg)


def _fill_amount(side: str | None, qty: Decimal | None, price: Decimal | None) -> Decimal | None:
    if qty is None or price is None:
        return None
    return qty * price if side in SELLS else -qty * price


def _uuid(text: str | None) -> str | None:
    return None if text is None else _known_uuid(text)


@lru_cache(maxsize=4096)  # an order's id comes again in its parent, its legs and its fills
def _known_uuid(text: str) -> str:
    if USUAL_UUID.fullmatch(text):
        return text
    try:
        return str(UUID(text))
    except ValueError:
        raise Unstorable(f"not an order id: {text!r}") from None


def _storable(raw: bytes) -> bytes:
    if b"\\u0000" in raw:
        raise Unstorable("a NUL character, which PostgreSQL cannot hold in text")
    return raw
