"""What the lake says of one account's orders, fills and share moves: reads only, whole or since a revision.

Functions take a connection, and the caller owns the transaction. All reads of one reading belong into one snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from psycopg import AsyncConnection, sql

from coldharbour.activity_types import CORPORATE_ACTIONS, FILL, TRANSFERS

SCHEMA = "account_activities"
CHUNK = 5_000  # rows: some 50 ms of translation, after which others have their turn
TYPES = sorted({FILL} | TRANSFERS | CORPORATE_ACTIONS)

Rows = list[tuple[Any, ...]]

ORDERS = sql.SQL("""
    select revision::text, id::text, coalesce(symbol, ''), coalesce(side, ''), coalesce(order_type, ''),
           coalesce(order_class, ''), status, coalesce(time_in_force, ''), qty, filled_qty, limit_price, stop_price,
           parent_id::text, replaces::text, replaced_by::text, created_at, submitted_at, filled_at, canceled_at,
           expired_at, replaced_at, failed_at, expires_at
    from {table} where destination = %(slug)s and revision >= %(since)s::xid8
""")
ACTIVITIES = sql.SQL("""
    select revision::text, execution_id, order_id::text, id, activity_type, transaction_time, activity_date,
           coalesce(symbol, ''), coalesce(side, ''), qty, price, net_amount, coalesce(status, ''),
           case when activity_type <> 'FILL' then raw_json ->> 'created_at' end
    from {table} where destination = %(slug)s and revision >= %(since)s::xid8 and activity_type = any(%(types)s)
""")


class Size(NamedTuple):
    """About how many rows a whole reading will bring."""

    orders: int
    activities: int


@cache
def _orders(slug: str) -> bytes:
    return ORDERS.format(table=sql.Identifier(SCHEMA, f"raw_orders_{slug}")).as_bytes(None)


@cache
def _activities(slug: str) -> bytes:
    return ACTIVITIES.format(table=sql.Identifier(SCHEMA, f"raw_activities_{slug}")).as_bytes(None)


async def floor(conn: AsyncConnection) -> int:
    """Return the revision below which nothing can still appear: every older transaction has ended.

    Rows of the revisions from there on may be missing in this snapshot; a later reading that begins there finds them.
    """
    row = await (await conn.execute("select pg_snapshot_xmin(pg_current_snapshot())::text")).fetchone()
    return int(row[0]) if row else 0


async def expect_few(conn: AsyncConnection) -> None:
    """Have this transaction's reads go by index: the planner cannot know how little is new in a table it never saw."""
    await conn.execute("select set_config('enable_seqscan', 'off', true)")


async def size(conn: AsyncConnection, slug: str) -> Size:
    """Count what a whole reading will bring."""
    query = sql.SQL("select (select count(*) from {orders}), (select count(*) from {activities})").format(
        orders=sql.Identifier(SCHEMA, f"raw_orders_{slug}"), activities=sql.Identifier(SCHEMA, f"raw_activities_{slug}")
    )
    row = await (await conn.execute(query)).fetchone()
    return Size(*row) if row else Size(0, 0)


async def orders_since(conn: AsyncConnection, slug: str, since: int) -> Rows:
    """Return the orders that changed since a revision, that one included."""
    cursor = await conn.execute(_orders(slug), {"slug": slug, "since": str(since)})
    return await cursor.fetchall()


async def activities_since(conn: AsyncConnection, slug: str, since: int) -> Rows:
    """Return the fills and share moves that changed since a revision, that one included."""
    parameters = {"slug": slug, "since": str(since), "types": TYPES}
    cursor = await conn.execute(_activities(slug), parameters)
    return await cursor.fetchall()


async def all_orders(conn: AsyncConnection, slug: str) -> AsyncIterator[Rows]:
    """Yield every order, in chunks."""
    async for rows in _chunks(conn, _orders(slug), {"slug": slug, "since": "0"}):
        yield rows


async def all_activities(conn: AsyncConnection, slug: str) -> AsyncIterator[Rows]:
    """Yield every fill and share move, in chunks."""
    parameters = {"slug": slug, "since": "0", "types": TYPES}
    async for rows in _chunks(conn, _activities(slug), parameters):
        yield rows


async def _chunks(conn: AsyncConnection, query: bytes, parameters: dict[str, Any]) -> AsyncIterator[Rows]:
    async with conn.cursor("ledger") as cursor:
        await cursor.execute(query, parameters)
        while rows := await cursor.fetchmany(CHUNK):
            yield rows


async def closes(conn: AsyncConnection, market: str, wanted: Sequence[tuple[str, date]]) -> list[Decimal | None]:
    """Return the closing price per share of each (symbol, day), the last one before where that day has none.

    None while the market's closes do not reach that day.
    """
    cursor = await conn.execute(
        """
        select case when wanted.day <= (select max(session_date) from accounts.daily_closes where market = %(market)s)
               then (select close from accounts.daily_closes
                     where market = %(market)s and symbol = wanted.symbol and session_date <= wanted.day
                     order by session_date desc limit 1) end
        from unnest(%(symbols)s::text[], %(days)s::date[]) with ordinality as wanted(symbol, day, place) order by place
        """,
        {"market": market, "symbols": [symbol for symbol, _ in wanted], "days": [day for _, day in wanted]},
    )
    return [row[0] for row in await cursor.fetchall()]
