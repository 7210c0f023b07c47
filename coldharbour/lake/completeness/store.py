"""What the lake knows of its own completeness: cursors, gaps, the stream's last sign of life, and rows to ask for.

Reads the lake's rows and never writes one. Functions take a connection, and the caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

SCHEMA = "account_activities"

STREAM_ALIVE = """
    insert into account_activities.raw_history_meta (destination, stream_alive_at) values (%s, %s)
    on conflict (destination) do update set stream_alive_at = excluded.stream_alive_at
"""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An order that may still change; `root` is the order to ask for, since it brings this one with it."""

    id: UUID
    root: UUID
    status: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far completed pages reach without a hole.

    position: through here everything is in the lake. token: where an unfinished walk stands.
    complete_through: the moment up to which the last finished walk looked.
    """

    position: datetime
    token: str | None = None
    complete_through: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """One blind time of the order stream."""

    id: int
    blind_from: datetime
    blind_to: datetime | None
    reason: str
    healed_at: datetime | None
    orders_recovered: int
    fills_recovered: int


def _table(parent: str, slug: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"{parent}_{slug}")


async def cursor(conn: AsyncConnection, slug: str, name: str) -> Cursor | None:
    """Return the named cursor of a destination, None before its first completed page."""
    async with conn.cursor(row_factory=class_row(Cursor)) as cur:
        await cur.execute(
            "select position, token, complete_through from account_activities.cursors"
            " where destination = %s and name = %s",
            [slug, name],
        )
        return await cur.fetchone()


async def move_cursor(conn: AsyncConnection, slug: str, name: str, to: Cursor) -> None:
    """Move a cursor; only ever in the transaction that wrote the page it passes."""
    await conn.execute(
        """
        insert into account_activities.cursors (destination, name, position, token, complete_through)
        values (%s, %s, %s, %s, %s)
        on conflict (destination, name) do update set
            position = greatest(cursors.position, excluded.position),
            token = excluded.token,
            complete_through = greatest(cursors.complete_through, excluded.complete_through),
            updated_at = now()
        """,
        [slug, name, to.position, to.token, to.complete_through],
    )


async def unfinished_orders(conn: AsyncConnection, slug: str) -> list[Unfinished]:
    """Return every order that may still change."""
    query = sql.SQL("""
        select id, coalesce(parent_id, id) as root, status from {table}
        where destination = %s and status not in ('filled', 'canceled', 'expired', 'replaced', 'rejected')
    """).format(table=_table("raw_orders", slug))
    async with conn.cursor(row_factory=class_row(Unfinished)) as cur:
        await cur.execute(query, [slug])
        return await cur.fetchall()


async def orders_behind_their_fills(
    conn: AsyncConnection, slug: str, activity_ids: Sequence[str] | None = None
) -> list[UUID]:
    """Return the orders of these fills (of all, for None) that we miss or know with less filled than they say."""
    query = sql.SQL("""
        select fills.order_id from {activities} fills
        left join {orders} orders on orders.destination = %(slug)s and orders.id = fills.order_id
        where fills.destination = %(slug)s and fills.execution_id is not null and fills.order_id is not null
          and (%(ids)s::text[] is null or fills.order_id in (
              select order_id from {activities} where destination = %(slug)s and id = any(%(ids)s)))
        group by fills.order_id
        having sum(fills.qty) > coalesce(max(orders.filled_qty), -1)
    """).format(activities=_table("raw_activities", slug), orders=_table("raw_orders", slug))
    ids = None if activity_ids is None else list(activity_ids)
    result = await conn.execute(query, {"slug": slug, "ids": ids})
    return [row[0] for row in await result.fetchall()]


async def unsettled_links(conn: AsyncConnection, slug: str, order_ids: Sequence[str]) -> list[UUID]:
    """Return what these orders' links prove to be missing or stale: the members of their chains to ask for.

    An order that the lake does not hold, or one that has a successor and does not show it yet.
    """
    query = sql.SQL("""
        select distinct pointed.id from {table} touched cross join lateral (
            values (touched.replaces, true), (touched.replaced_by, false)
        ) as pointed(id, is_succeeded)
        where touched.destination = %(slug)s and touched.id = any(%(ids)s::uuid[]) and pointed.id is not null
          and not exists (
            select from {table} known where known.destination = %(slug)s and known.id = pointed.id
              and (not pointed.is_succeeded
                   or known.status in ('filled', 'canceled', 'expired', 'replaced', 'rejected')))
    """).format(table=_table("raw_orders", slug))
    result = await conn.execute(query, {"slug": slug, "ids": list(order_ids)})
    return [row[0] for row in await result.fetchall()]


async def stream_alive_at(conn: AsyncConnection, slug: str) -> datetime | None:
    """Return when the order stream was last known to deliver, None if it never was."""
    query = sql.SQL("select stream_alive_at from {table}").format(table=_table("raw_history_meta", slug))
    row = await (await conn.execute(query)).fetchone()
    return row[0] if row else None


async def mark_stream_alive(conn: AsyncConnection, slug: str, at: datetime) -> None:
    """Remember that the stream delivered everything up to `at`."""
    await conn.execute(STREAM_ALIVE, [slug, at])


async def refresh_history_meta(conn: AsyncConnection, slug: str) -> None:
    """Note the oldest order and activity in the lake."""
    query = sql.SQL("""
        insert into {meta} as meta (destination, earliest_order, earliest_activity)
        select %(slug)s, (select min(submitted_at) from {orders} where destination = %(slug)s),
            (select min(coalesce(transaction_time, activity_date::timestamptz)) from {activities})
        on conflict (destination) do update set
            earliest_order = excluded.earliest_order, earliest_activity = excluded.earliest_activity
    """).format(
        meta=_table("raw_history_meta", slug),
        orders=_table("raw_orders", slug),
        activities=_table("raw_activities", slug),
    )
    await conn.execute(query, {"slug": slug})


async def open_gap(conn: AsyncConnection, slug: str, blind_from: datetime, reason: str) -> int:
    """Open a gap, or return the one that is open already: one blindness is one row."""
    open_one = await open_gaps(conn, slug)
    if open_one:
        return open_one[0].id
    result = await conn.execute(
        "insert into account_activities.gaps (destination, blind_from, reason) values (%s, %s, %s) returning id",
        [slug, blind_from, reason],
    )
    return int((await result.fetchone() or [0])[0])


async def open_gaps(conn: AsyncConnection, slug: str) -> list[Gap]:
    """Return the gaps that are not healed, oldest first."""
    query = sql.SQL("""
        select id, blind_from, blind_to, reason, healed_at, orders_recovered, fills_recovered
        from {table} where healed_at is null order by id
    """).format(table=_table("gaps", slug))
    async with conn.cursor(row_factory=class_row(Gap)) as cur:
        await cur.execute(query)
        return await cur.fetchall()


async def credit_gap(conn: AsyncConnection, slug: str, gap_id: int, orders: int, fills: int) -> None:
    """Add what was recovered to a gap."""
    await conn.execute(
        """
        update account_activities.gaps set orders_recovered = orders_recovered + %s,
            fills_recovered = fills_recovered + %s where destination = %s and id = %s
        """,
        [orders, fills, slug, gap_id],
    )


async def heal_gap(
    conn: AsyncConnection, slug: str, gap_id: int, *, blind_to: datetime, healed_at: datetime
) -> Gap | None:
    """Close a gap and return it: the stream listens again since `blind_to`, all before has been fetched."""
    async with conn.cursor(row_factory=class_row(Gap)) as cur:
        await cur.execute(
            """
            update account_activities.gaps set blind_to = %s, healed_at = %s
            where destination = %s and id = %s
            returning id, blind_from, blind_to, reason, healed_at, orders_recovered, fills_recovered
            """,
            [blind_to, healed_at, slug, gap_id],
        )
        return await cur.fetchone()


async def order_facts(
    conn: AsyncConnection, slug: str, after: datetime | None, until: datetime | None
) -> dict[str, tuple[str, Decimal, Decimal | None]]:
    """Return what verification compares of the orders submitted between two moments, exclusive; None is open.

    id -> (status, filled_qty, filled_avg_price).
    """
    query = sql.SQL("""
        select id::text, status, filled_qty, filled_avg_price from {table}
        where destination = %(slug)s and (%(after)s::timestamptz is null or submitted_at > %(after)s)
          and (%(until)s::timestamptz is null or submitted_at < %(until)s)
    """).format(table=_table("raw_orders", slug))
    result = await conn.execute(query, {"slug": slug, "after": after, "until": until})
    return {row[0]: row[1:] for row in await result.fetchall()}


async def activity_facts(
    conn: AsyncConnection, slug: str, after: datetime | None, until: datetime | None
) -> dict[str, tuple[str, Decimal | None, Decimal | None, Decimal | None]]:
    """Return what verification compares of the activities between two moments, exclusive; None is open.

    id -> (type, qty, price, net_amount). Activities without a time count at midnight of their New York day.
    """
    query = sql.SQL("""
        select id, activity_type, qty, price, net_amount
        from {table} cross join lateral (
            select coalesce(transaction_time, activity_date::timestamp at time zone 'America/New_York') as moment
        ) as happened
        where destination = %(slug)s and (%(after)s::timestamptz is null or moment > %(after)s)
          and (%(until)s::timestamptz is null or moment < %(until)s)
    """).format(table=_table("raw_activities", slug))
    result = await conn.execute(query, {"slug": slug, "after": after, "until": until})
    return {row[0]: row[1:] for row in await result.fetchall()}


async def cash(conn: AsyncConnection, slug: str) -> Decimal:
    """Return the sum of all cash effects in the lake; canceled activities do not count (domain.md 6)."""
    query = sql.SQL("""
        select coalesce(sum(net_amount), 0) from {table}
        where destination = %s and status is distinct from 'canceled'
    """).format(table=_table("raw_activities", slug))
    row = await (await conn.execute(query, [slug])).fetchone()
    return row[0] if row else Decimal(0)
