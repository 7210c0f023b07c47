"""The tables of protection: episodes without a live stop, warnings of expiry, and what they are found in.

Functions take a connection, and the caller owns the transaction. Reads lots, orders and drifts; writes none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row, kwargs_row

from coldharbour.live.legs import OCO, STOPS
from coldharbour.live.model import Side
from coldharbour.risk.protection.model import Episode, Exposure, GuardedLot, OrderState, Reason, Stray

IN_STEP_FOR = timedelta(seconds=10)  # workers report every 2 s
LOTS = sql.SQL("""
    select parent_id, symbol, side, abs(qty) as qty, entry_time, last_fill_time, unprotected_since as bare_since,
           stop_order_id, take_order_id, expires_at
    from {} where destination = %s and qty <> 0 order by entry_time, parent_id
""")
# The lots' orders by id; every live stop that may be nobody's leg; and, of lots that are bare, the legs and the stops
# that ended when they became so. One index each: what they are partial by must stand here word by word.
ORDERS = sql.SQL("""
    with wanted as (
        select id from {orders} where destination = %(slug)s and id = any(%(ids)s)
        union
        select id from {orders} where destination = %(slug)s
            and status not in ('filled', 'canceled', 'expired', 'replaced', 'rejected')
            and order_type = any(%(stops)s) and (parent_id is null or order_class = %(oco)s)
        union
        select id from {orders} where destination = %(slug)s and parent_id = any(%(bare_ids)s)
        union
        select id from {orders} where destination = %(slug)s and symbol = any(%(bare_symbols)s)
            and order_type in ('stop', 'stop_limit', 'trailing_stop') and status in ('canceled', 'expired', 'rejected')
            and coalesce(canceled_at, expired_at, failed_at) = any(%(bare_since)s)
    )
    select id::text, coalesce(symbol, '') as symbol, coalesce(side, '') = 'buy' as is_buy,
           coalesce(order_type, '') as order_type, coalesce(order_class, '') as order_class, status,
           qty - filled_qty as remaining, parent_id::text, submitted_at, updated_at,
           coalesce(canceled_at, expired_at, failed_at) as ended_at
    from {orders} join wanted using (id) where destination = %(slug)s order by updated_at, id
""")


async def open_episodes(conn: AsyncConnection, slug: str) -> list[Exposure]:
    """Return the alarms: what is without a live stop now, the oldest first."""
    return [each.exposure for each in await episodes(conn, slug) if each.raised_at is not None]


async def episodes(conn: AsyncConnection, slug: str) -> list[Episode]:
    """Return all open episodes, alarms or not yet, the oldest first."""
    async with conn.cursor(row_factory=kwargs_row(_episode)) as cur:
        await cur.execute(
            """
            select key, symbol, parent_id, side, qty, reason, since, found_at, raised_at from accounts.unprotected
            where destination = %s and healed_at is null order by since, key
            """,
            [slug],
        )
        return await cur.fetchall()


async def save_episodes(conn: AsyncConnection, slug: str, saved: Iterable[Episode]) -> None:
    """Write episodes as they are now; one that ended with the same begin is open again."""
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.unprotected (destination, key, symbol, parent_id, side, qty, reason, since, found_at,
                raised_at)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (destination, key, since) do update
                set side = excluded.side, qty = excluded.qty, reason = excluded.reason, found_at = excluded.found_at,
                    raised_at = excluded.raised_at, healed_at = null
            """,
            [
                [slug, it.key, it.symbol, it.parent_id, it.side, it.qty, it.reason, it.since, each.found_at,
                 each.raised_at]
                for each in saved
                for it in [each.exposure]
            ],
        )  # fmt: skip


async def end_episodes(conn: AsyncConnection, slug: str, keys: Sequence[str], now: datetime) -> None:
    """End the open episodes of these keys; one that was no alarm leaves no trace."""
    await conn.execute(
        """
        delete from accounts.unprotected
        where destination = %s and healed_at is null and raised_at is null and key = any(%s)
        """,
        [slug, list(keys)],
    )
    await conn.execute(
        "update accounts.unprotected set healed_at = %s where destination = %s and healed_at is null and key = any(%s)",
        [now, slug, list(keys)],
    )


async def note_warnings(conn: AsyncConnection, slug: str, parent_ids: Iterable[str], day: date) -> set[str]:
    """Note that these lots are warned of on a day; return those that were not yet, and forget other days' lots."""
    cursor = await conn.execute(
        """
        insert into accounts.expiry_warnings as known (destination, parent_id, warned_on)
        select %s, parent_id, %s from unnest(%s::text[]) as expiring(parent_id)
        on conflict (destination, parent_id) do update set warned_on = excluded.warned_on
        where known.warned_on < excluded.warned_on
        returning parent_id
        """,
        [slug, day, list(parent_ids)],
    )
    fresh = {row[0] for row in await cursor.fetchall()}
    await conn.execute("delete from accounts.expiry_warnings where destination = %s and warned_on < %s", [slug, day])
    return fresh


async def are_lots_in_step(conn: AsyncConnection, slug: str, now: datetime) -> bool:
    """Return whether the worker that keeps the open lots says that they follow the lake, and said so just now."""
    cursor = await conn.execute(
        """
        select 1 from accounts.worker_status
        where destination = %s and kind = 'snapshot' and state = 'ready' and updated_at > %s
        """,
        [slug, now - IN_STEP_FOR],
    )
    return await cursor.fetchone() is not None


async def guarded_lots(conn: AsyncConnection, slug: str) -> list[GuardedLot]:
    """Return the account's open lots, the oldest first."""
    query = LOTS.format(sql.Identifier("accounts", f"open_trades_{slug}"))
    async with conn.cursor(row_factory=kwargs_row(_lot)) as cur:
        await cur.execute(query, [slug])
        return await cur.fetchall()


async def orders_of(conn: AsyncConnection, slug: str, lots: Sequence[GuardedLot]) -> list[OrderState]:
    """Return the lots' entries and exits, and all live stops that may be nobody's leg; the newest change last."""
    bare = [lot for lot in lots if lot.bare_since is not None]
    named = {order for lot in lots for order in (lot.parent_id, lot.stop_order_id, lot.take_order_id) if order}
    query = ORDERS.format(orders=sql.Identifier("account_activities", f"raw_orders_{slug}"))
    async with conn.cursor(row_factory=class_row(OrderState)) as cur:
        await cur.execute(
            query,
            {
                "slug": slug, "ids": _uuids(named), "stops": [*STOPS], "oco": OCO,
                "bare_ids": _uuids(lot.parent_id for lot in bare), "bare_symbols": [lot.symbol for lot in bare],
                "bare_since": [lot.bare_since for lot in bare],
            },
        )  # fmt: skip
        return await cur.fetchall()


async def strays(conn: AsyncConnection, slug: str) -> list[Stray]:
    """Return the symbols of which two answers of the broker in a row held another quantity than our lots."""
    async with conn.cursor(row_factory=class_row(Stray)) as cur:
        await cur.execute(
            """
            select symbol, our_qty, broker_qty, seen_at from accounts.position_drifts
            where destination = %s and resolved_at is null order by symbol
            """,
            [slug],
        )
        return await cur.fetchall()


def _uuids(ids: Iterable[str]) -> list[UUID]:
    """Return the ids that an order can have; a lot that shares came in with is named after an activity."""
    found = []
    for text in ids:
        with suppress(ValueError):
            found.append(UUID(text))
    return found


def _episode(*, side: str, reason: str, found_at: datetime, raised_at: datetime | None, **row: Any) -> Episode:
    return Episode(Exposure(side=Side(side), reason=Reason(reason), **row), found_at, raised_at)


def _lot(*, side: str, **row: Any) -> GuardedLot:
    return GuardedLot(side=Side(side), **row)
