"""What the tables say of lots that a stop protects, of corporate actions and of breakouts: reads only.

Functions take a connection, and the caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from coldharbour.activity_types import CORPORATE_ACTIONS, TRANSFERS

# A stop that was moved stands in the table of open trades a moment later than in that of intents.
PROTECTED = sql.SQL("""
    select lot.parent_id, lot.symbol, lot.side, lot.qty, lot.entry_qty, lot.avg_fill as entry_price, lot.entry_time,
           lot.last_fill_time, lot.initial_stop, coalesce(moved.new_order_id, lot.stop_order_id) as stop_order_id,
           coalesce(moved.new_stop, lot.sl_px) as stop_price, stop.order_type as stop_kind,
           coalesce(moved.new_limit, stop.limit_price) as limit_price, stop.parent_id is not null as is_leg,
           count(*) over (partition by lot.stop_order_id) as sharers, lot.mkt_px, lot.high_px, lot.low_px
    from {lots} as lot
    left join {orders} as stop on stop.destination = %(slug)s
        and stop.id = case when lot.stop_order_id ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
                           then lot.stop_order_id::uuid end
    left join lateral (
        select new_order_id, new_stop, new_limit from {intents} as intent
        where intent.destination = %(slug)s and intent.order_id = lot.stop_order_id and intent.state = 'MOVED' limit 1
    ) as moved on true
    where lot.destination = %(slug)s and lot.stop_order_id is not null
    order by lot.entry_time, lot.parent_id
""")
SHARES_MOVED = sql.SQL("""
    select distinct on (symbol) symbol, activity_type as kind, activity_date as day,
           activity_date >= %(today)s or ingested_at >= %(since)s as is_news
    from {table}
    where destination = %(slug)s and activity_type = any(%(types)s) and symbol is not null
        and coalesce(status, '') <> 'canceled' and activity_date >= %(today)s::date - 7
    order by symbol, is_news desc, activity_date desc
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProtection:
    """An open lot and the stop that protects it. is_leg: whether that is a leg of anything. sharers: lots it protects.

    stop_kind: by the broker's name, None for an order that the lake does not hold. high_px, low_px: since entry.
    """

    parent_id: str
    symbol: str
    side: str
    qty: Decimal
    entry_qty: Decimal
    entry_price: Decimal
    entry_time: datetime
    last_fill_time: datetime
    initial_stop: Decimal | None
    stop_order_id: str
    stop_price: Decimal | None
    stop_kind: str | None
    limit_price: Decimal | None
    is_leg: bool
    sharers: int
    mkt_px: Decimal | None = None
    high_px: Decimal | None = None
    low_px: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ShareMoveDay:
    """The newest corporate action or transfer of a symbol: the broker's name of it, and its day.

    is_news: whether it is of today or a later day, or became known today.
    """

    symbol: str
    kind: str
    day: date
    is_news: bool


async def protected_lots(conn: AsyncConnection, slug: str) -> list[StoredProtection]:
    """Return the open trades that a live stop protects, oldest entry first."""
    query = PROTECTED.format(
        lots=sql.Identifier("accounts", f"open_trades_{slug}"),
        orders=sql.Identifier("account_activities", f"raw_orders_{slug}"),
        intents=sql.Identifier("accounts", f"stop_intents_{slug}"),
    )
    async with conn.cursor(row_factory=class_row(StoredProtection)) as cur:
        await cur.execute(query, {"slug": slug})
        return await cur.fetchall()


async def is_kept(conn: AsyncConnection, slug: str, since: datetime) -> bool:
    """Say whether somebody keeps the open trades in step with the lake, as told since a moment."""
    row = await (
        await conn.execute(
            """
            select exists (select from accounts.worker_status where destination = %s and kind = 'snapshot'
                           and state = 'ready' and updated_at >= %s)
            """,
            [slug, since],
        )
    ).fetchone()
    return row is not None and bool(row[0])


async def has_orders(conn: AsyncConnection, slug: str) -> bool:
    """Say whether the lake holds any order of the account."""
    query = sql.SQL("select exists (select from {})").format(sql.Identifier("account_activities", f"raw_orders_{slug}"))
    row = await (await conn.execute(query)).fetchone()
    return row is not None and bool(row[0])


async def earliest_order(conn: AsyncConnection, slug: str) -> datetime | None:
    """Return when the account's first order was submitted, as far as the lake ever knew."""
    query = sql.SQL("select earliest_order from {}").format(
        sql.Identifier("account_activities", f"raw_history_meta_{slug}")
    )
    row = await (await conn.execute(query)).fetchone()
    return row[0] if row else None


async def moved_stops(conn: AsyncConnection, slug: str, order_ids: Collection[str]) -> dict[str, tuple[str, Decimal]]:
    """Return the orders of these that we replaced, each with its replacement and the stop price of that."""
    query = sql.SQL("""
        select order_id, new_order_id, new_stop from {table}
        where destination = %s and order_id = any(%s) and state = 'MOVED'
    """).format(table=sql.Identifier("accounts", f"stop_intents_{slug}"))
    cursor = await conn.execute(query, [slug, list(order_ids)])
    return {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}


async def share_moves(conn: AsyncConnection, slug: str, today: date, since: datetime) -> list[ShareMoveDay]:
    """Return the symbols whose shares change without a trade: in the last week, today, or on a later day that is known.

    today: in New York. since: its beginning; what became known after it is news too.
    """
    query = SHARES_MOVED.format(table=sql.Identifier("account_activities", f"raw_activities_{slug}"))
    types = sorted(CORPORATE_ACTIONS | TRANSFERS)
    async with conn.cursor(row_factory=class_row(ShareMoveDay)) as cur:
        await cur.execute(query, {"slug": slug, "types": types, "today": today, "since": since})
        return await cur.fetchall()


async def breakout_targets(
    conn: AsyncConnection, column: str, bars: Sequence[tuple[str, datetime]]
) -> list[Decimal | None]:
    """Return a column of `public.alpaca_breakouts` at each (symbol, begin of bar), None where it has no price.

    Raises psycopg.Error for a table that is missing or has other columns.
    """
    symbols, moments = [symbol for symbol, _ in bars], [moment for _, moment in bars]
    query = sql.SQL("""
        select (select max({column})::numeric from public.alpaca_breakouts as breakout
                where breakout.symbol = wanted.symbol and breakout.timestamp = wanted.moment
                    and {column} > 0 and {column} < 'Infinity')
        from unnest(%s::text[], %s::timestamptz[]) with ordinality as wanted(symbol, moment, place) order by place
    """).format(column=sql.Identifier(column))
    return [row[0] for row in await (await conn.execute(query, [symbols, moments])).fetchall()]
