"""What the panels of trades read: open, closed, drifting, unsettled; nothing but reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class OpenTrade:
    """One open lot; market figures are None until it was valued."""

    parent_id: str
    symbol: str
    side: str
    qty: Decimal
    avg_fill: Decimal
    mkt_px: Decimal | None
    mkt_value: Decimal | None
    profit_loss: Decimal | None
    sl_px: Decimal | None
    tp_px: Decimal | None
    entry_time: datetime
    is_orphan: bool


@dataclass(frozen=True, slots=True)
class OpenTotals:
    """All open lots of an account. positions_at: when the broker's own positions were last known whole."""

    trades: int
    orphans: int
    buy_value: Decimal | None
    mkt_value: Decimal | None
    profit_loss: Decimal | None
    positions_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """What one exit order closed of one lot."""

    entry_lot_id: str
    exit_order_id: str
    symbol: str
    side: str
    qty: Decimal
    entry_price: Decimal
    exit_price: Decimal
    exit_time: datetime
    exit_type: str
    pnl_cash: Decimal
    pnl_cash_fifo: Decimal
    return_pct: Decimal
    r_multiple: Decimal | None
    duration_sec: int


@dataclass(frozen=True, slots=True)
class ClosedTotals:
    """All closed trades of an account."""

    trades: int
    pnl_cash: Decimal | None
    pnl_cash_fifo: Decimal | None


@dataclass(frozen=True, slots=True)
class DriftRow:
    """A symbol of which the broker holds another quantity than our lots; signed shares."""

    symbol: str
    our_qty: Decimal
    broker_qty: Decimal
    seen_at: datetime
    last_seen_at: datetime
    times_seen: int


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Something in the lake that could not be used as it should, or that is missing to value what there is."""

    key: str
    finding: str
    found_at: datetime


async def open_trades(conn: AsyncConnection, slug: str, limit: int) -> list[OpenTrade]:
    """Return open lots, by symbol and age."""
    async with conn.cursor(row_factory=class_row(OpenTrade)) as cur:
        await cur.execute(
            """
            select parent_id, symbol, side, qty, avg_fill, mkt_px, mkt_value, profit_loss, sl_px, tp_px, entry_time,
                   stop_order_id is null as is_orphan
            from accounts.open_trades where destination = %s order by symbol, entry_time, parent_id limit %s
            """,
            [slug, limit],
        )
        return await cur.fetchall()


async def open_totals(conn: AsyncConnection, slug: str) -> OpenTotals:
    """Return the sums over all open lots; a sum is None as long as one of its values is."""
    async with conn.cursor(row_factory=class_row(OpenTotals)) as cur:
        await cur.execute(
            """
            select count(*) as trades, count(*) filter (where stop_order_id is null) as orphans,
                   sum(buy_value) as buy_value,
                   case when count(*) = count(mkt_value) then sum(mkt_value) end as mkt_value,
                   case when count(*) = count(profit_loss) then sum(profit_loss) end as profit_loss,
                   (select positions_at from accounts.live_meta where destination = %(slug)s) as positions_at
            from accounts.open_trades where destination = %(slug)s
            """,
            {"slug": slug},
        )
        return await cur.fetchone() or OpenTotals(0, 0, None, None, None, None)


async def closed_trades(conn: AsyncConnection, slug: str, limit: int) -> list[ClosedTrade]:
    """Return the newest closed trades, newest first."""
    async with conn.cursor(row_factory=class_row(ClosedTrade)) as cur:
        await cur.execute(
            """
            select entry_lot_id, exit_order_id, symbol, side, qty, entry_price, exit_price, exit_time, exit_type,
                   pnl_cash, pnl_cash_fifo, return_pct, r_multiple, duration_sec
            from accounts.closed_trades where destination = %s
            order by exit_time desc, entry_lot_id, exit_order_id limit %s
            """,
            [slug, limit],
        )
        return await cur.fetchall()


async def closed_totals(conn: AsyncConnection, slug: str) -> ClosedTotals:
    """Return the sums over all closed trades."""
    async with conn.cursor(row_factory=class_row(ClosedTotals)) as cur:
        await cur.execute(
            """
            select count(*) as trades, sum(pnl_cash) as pnl_cash, sum(pnl_cash_fifo) as pnl_cash_fifo
            from accounts.closed_trades where destination = %s
            """,
            [slug],
        )
        return await cur.fetchone() or ClosedTotals(0, None, None)


async def drifts(conn: AsyncConnection, slug: str) -> list[DriftRow]:
    """Return the drifts that are not resolved, by symbol."""
    async with conn.cursor(row_factory=class_row(DriftRow)) as cur:
        await cur.execute(
            """
            select symbol, our_qty, broker_qty, seen_at, last_seen_at, times_seen
            from accounts.position_drifts where destination = %s and resolved_at is null order by symbol
            """,
            [slug],
        )
        return await cur.fetchall()


async def unsettled(conn: AsyncConnection, slug: str, limit: int) -> list[Unsettled]:
    """Return what could not be settled so far, newest first."""
    async with conn.cursor(row_factory=class_row(Unsettled)) as cur:
        await cur.execute(
            """
            select key, finding, found_at from accounts.findings where destination = %s and resolved_at is null
            order by found_at desc, area, key limit %s
            """,
            [slug, limit],
        )
        return await cur.fetchall()
