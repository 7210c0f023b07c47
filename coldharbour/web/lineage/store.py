"""What is on record of one trade: its orders, their fills, and what was closed of it; nothing but reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """One order of the trade, as the broker last told of it. placed_at: when it was submitted, else created."""

    id: UUID
    symbol: str | None
    side: str | None
    order_type: str | None
    order_class: str | None
    status: str
    qty: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    replaces: UUID | None
    parent_id: UUID | None
    placed_at: datetime | None
    canceled_at: datetime | None
    expired_at: datetime | None
    failed_at: datetime | None


@dataclass(frozen=True, slots=True)
class FillRow:
    """One execution of an order."""

    order_id: UUID
    at: datetime
    qty: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class ClosingRow:
    """What one exit order closed of the lot."""

    exit_order_id: str
    symbol: str
    exit_time: datetime
    exit_type: str
    qty: Decimal
    exit_price: Decimal
    pnl_cash: Decimal
    r_multiple: Decimal | None


@dataclass(frozen=True, slots=True)
class LotRow:
    """What is still open of the lot."""

    symbol: str
    side: str
    qty: Decimal
    avg_fill: Decimal
    sl_px: Decimal | None
    tp_px: Decimal | None
    profit_loss_lot: Decimal | None


async def orders(conn: AsyncConnection, slug: str, parent_id: UUID, others: Iterable[UUID]) -> list[OrderRow]:
    """Return a parent, every leg of it with all replacements, and other orders by id; oldest first."""
    async with conn.cursor(row_factory=class_row(OrderRow)) as cur:
        await cur.execute(
            """
            select id, symbol, side, order_type, order_class, status, qty, limit_price, stop_price, replaces, parent_id,
                   coalesce(submitted_at, created_at) as placed_at, canceled_at, expired_at, failed_at
            from account_activities.raw_orders
            where destination = %(slug)s and (id = any(%(ids)s) or parent_id = %(parent)s)
            order by placed_at, id <> %(parent)s, id
            """,
            {"slug": slug, "parent": parent_id, "ids": [parent_id, *others]},
        )
        return await cur.fetchall()


async def fills(conn: AsyncConnection, slug: str, order_ids: Iterable[UUID]) -> list[FillRow]:
    """Return the executions of orders, oldest first."""
    async with conn.cursor(row_factory=class_row(FillRow)) as cur:
        await cur.execute(
            """
            select order_id, transaction_time as at, qty, price from account_activities.raw_activities
            where destination = %s and order_id = any(%s) and execution_id is not null
              and transaction_time is not null and qty is not null and price is not null
            order by transaction_time, id
            """,
            [slug, list(order_ids)],
        )
        return await cur.fetchall()


async def closings(conn: AsyncConnection, slug: str, lot_id: str) -> list[ClosingRow]:
    """Return what was closed of a lot, oldest first."""
    async with conn.cursor(row_factory=class_row(ClosingRow)) as cur:
        await cur.execute(
            """
            select exit_order_id, symbol, exit_time, exit_type, qty, exit_price, pnl_cash, r_multiple
            from accounts.closed_trades where destination = %s and entry_lot_id = %s order by exit_time, exit_order_id
            """,
            [slug, lot_id],
        )
        return await cur.fetchall()


async def lot(conn: AsyncConnection, slug: str, lot_id: str) -> LotRow | None:
    """Return what is still open of a lot, None if nothing is."""
    async with conn.cursor(row_factory=class_row(LotRow)) as cur:
        await cur.execute(
            """
            select symbol, side, qty, avg_fill, sl_px, tp_px, profit_loss_lot
            from accounts.open_trades where destination = %s and parent_id = %s
            """,
            [slug, lot_id],
        )
        return await cur.fetchone()
