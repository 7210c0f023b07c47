"""The tables of the broker's positions and of drifts. The caller owns the transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.rows import class_row

from coldharbour.live.positions.drift import Drift


@dataclass(frozen=True, slots=True)
class BrokerPosition:
    """What the broker says of one symbol. qty: signed shares. as_of: when it was asked."""

    symbol: str
    qty: Decimal
    avg_entry_price: Decimal | None
    current_price: Decimal | None
    as_of: datetime


async def positions(conn: AsyncConnection, slug: str) -> list[BrokerPosition]:
    """Return the broker's positions as they were last known."""
    async with conn.cursor(row_factory=class_row(BrokerPosition)) as cur:
        await cur.execute(
            """
            select symbol, qty, avg_entry_price, current_price, as_of
            from accounts.broker_positions where destination = %s order by symbol
            """,
            [slug],
        )
        return await cur.fetchall()


async def replace_positions(
    conn: AsyncConnection, slug: str, answer: Sequence[BrokerPosition], as_of: datetime, keep: Collection[str]
) -> None:
    """Write a complete answer of the broker; what is not in it goes, except the symbols to keep."""
    await conn.execute(
        "delete from accounts.broker_positions where destination = %s and symbol <> all(%s)",
        [slug, [*keep, *(position.symbol for position in answer)]],
    )
    await conn.execute(
        """
        insert into accounts.broker_positions (destination, symbol, qty, avg_entry_price, current_price, as_of)
        select %s, * from unnest(%s::text[], %s::numeric[], %s::numeric[], %s::numeric[], %s::timestamptz[])
        on conflict (destination, symbol) do update set qty = excluded.qty,
            avg_entry_price = excluded.avg_entry_price, current_price = excluded.current_price, as_of = excluded.as_of
        """,
        [
            slug,
            [position.symbol for position in answer],
            [position.qty for position in answer],
            [position.avg_entry_price for position in answer],
            [position.current_price for position in answer],
            [position.as_of for position in answer],
        ],
    )
    await conn.execute(
        """
        insert into accounts.live_meta (destination, positions_at) values (%s, %s)
        on conflict (destination) do update set positions_at = excluded.positions_at
        """,
        [slug, as_of],
    )


async def open_drifts(conn: AsyncConnection, slug: str) -> set[str]:
    """Return the symbols that are known to drift."""
    cursor = await conn.execute(
        "select symbol from accounts.position_drifts where destination = %s and resolved_at is null", [slug]
    )
    return {row[0] for row in await cursor.fetchall()}


async def see_drift(conn: AsyncConnection, slug: str, drift: Drift, now: datetime) -> None:
    """Record a drift, or that it is still there."""
    await conn.execute(
        """
        insert into accounts.position_drifts as known
            (destination, symbol, our_qty, broker_qty, our_avg, broker_avg, seen_at, last_seen_at)
        values (%(slug)s, %(symbol)s, %(our_qty)s, %(broker_qty)s, %(our_avg)s, %(broker_avg)s, %(now)s, %(now)s)
        on conflict (destination, symbol) where resolved_at is null do update set our_qty = excluded.our_qty,
            broker_qty = excluded.broker_qty, our_avg = excluded.our_avg, broker_avg = excluded.broker_avg,
            last_seen_at = excluded.last_seen_at, times_seen = known.times_seen + 1
        """,
        {
            "slug": slug, "symbol": drift.symbol, "our_qty": drift.our_qty, "broker_qty": drift.broker_qty,
            "our_avg": drift.our_avg, "broker_avg": drift.broker_avg, "now": now,
        },
    )  # fmt: skip


async def resolve_drifts(
    conn: AsyncConnection, slug: str, still: Collection[str], now: datetime
) -> list[tuple[str, timedelta]]:
    """Close the drifts of all symbols but those that still differ; return (symbol, how long it lasted)."""
    cursor = await conn.execute(
        """
        update accounts.position_drifts set resolved_at = %s
        where destination = %s and resolved_at is null and symbol <> all(%s)
        returning symbol, resolved_at - seen_at
        """,
        [now, slug, list(still)],
    )
    return [(row[0], row[1]) for row in await cursor.fetchall()]
