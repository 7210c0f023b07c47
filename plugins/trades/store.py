"""What the panels of trades read: open, closed, drifting, unsettled; nothing but reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.rows import class_row

OLD = timedelta(minutes=15)  # after which a price is no longer news: the [workers.prices] max_price_age_s


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTrade:
    """One open lot; market figures are None until it was valued. is_old: its price is no longer news."""

    parent_id: str
    version: int
    symbol: str
    side: str
    qty: Decimal
    avg_fill: Decimal
    buy_value: Decimal
    entry_time: datetime
    initial_stop: Decimal | None
    sl_px: Decimal | None
    tp_px: Decimal | None
    expires_at: datetime | None
    moved_flag: str
    is_orphan: bool
    mkt_px: Decimal | None
    mkt_at: datetime | None
    mkt_value: Decimal | None
    profit_loss: Decimal | None
    profit_loss_lot: Decimal | None
    tp_sl_reach_pct: Decimal | None
    r_multiple: Decimal | None
    high_px: Decimal | None
    low_px: Decimal | None
    is_old: bool
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedTrade:
    """What one exit order closed of one lot."""

    entry_lot_id: str
    exit_order_id: str
    symbol: str
    side: str
    qty: Decimal
    entry_time: datetime
    entry_price: Decimal
    exit_price: Decimal
    exit_time: datetime
    exit_type: str
    pnl_cash: Decimal
    pnl_cash_fifo: Decimal
    diff_pnl: Decimal
    return_pct: Decimal
    r_multiple: Decimal | None
    duration_sec: int
    initial_stop: Decimal | None
    high_px: Decimal | None
    low_px: Decimal | None


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


async def open_trades(conn: AsyncConnection, slug: str) -> list[OpenTrade]:
    """Return the open lots, by symbol and age."""
    async with conn.cursor(row_factory=class_row(OpenTrade)) as cur:
        await cur.execute(
            """
            select parent_id, version, symbol, side, qty, avg_fill, buy_value, entry_time, initial_stop, sl_px, tp_px,
                   expires_at, moved_flag, stop_order_id is null as is_orphan, mkt_px, mkt_at, mkt_value, profit_loss,
                   profit_loss_lot, tp_sl_reach_pct, r_multiple, high_px, low_px,
                   coalesce(mkt_at < now() - %(old)s, false) as is_old, now() as read_at
            from accounts.open_trades where destination = %(slug)s order by symbol, entry_time, parent_id
            """,
            {"slug": slug, "old": OLD},
        )
        return await cur.fetchall()


async def positions_at(conn: AsyncConnection, slug: str) -> datetime | None:
    """Return when the broker's own positions were last known whole."""
    cursor = await conn.execute("select positions_at from accounts.live_meta where destination = %s", [slug])
    row = await cursor.fetchone()
    return row[0] if row else None


async def closed_trades(
    conn: AsyncConnection, slug: str, limit: int, skip: int = 0, day: date | None = None
) -> list[ClosedTrade]:
    """Return the newest closed trades after so many newer ones, newest first. day: in New York; None for any."""
    async with conn.cursor(row_factory=class_row(ClosedTrade)) as cur:
        await cur.execute(
            """
            select entry_lot_id, exit_order_id, symbol, side, qty, entry_time, entry_price, exit_price, exit_time,
                   exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, r_multiple, duration_sec, initial_stop,
                   high_px, low_px
            from accounts.closed_trades where destination = %(slug)s
              and (%(day)s::date is null or (exit_time at time zone 'America/New_York')::date = %(day)s)
            order by exit_time desc, entry_lot_id, exit_order_id limit %(limit)s offset %(skip)s
            """,
            {"slug": slug, "limit": limit, "skip": skip, "day": day},
        )
        return await cur.fetchall()


async def closed_totals(conn: AsyncConnection, slug: str, day: date | None = None) -> ClosedTotals:
    """Return the sums over all closed trades, or those of one New York day."""
    async with conn.cursor(row_factory=class_row(ClosedTotals)) as cur:
        await cur.execute(
            """
            select count(*) as trades, sum(pnl_cash) as pnl_cash, sum(pnl_cash_fifo) as pnl_cash_fifo
            from accounts.closed_trades where destination = %(slug)s
              and (%(day)s::date is null or (exit_time at time zone 'America/New_York')::date = %(day)s)
            """,
            {"slug": slug, "day": day},
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
