"""What the pages read: all SQL of the web stage, and nothing but reads. The caller owns the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from coldharbour.lake.completeness.store import Gap
from coldharbour.live.model import Side
from coldharbour.risk.open_risk import RiskedLot

SCHEMA = "account_activities"


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows in the lake of one account; working orders are those that can still change."""

    orders: int
    working_orders: int
    activities: int
    fills: int
    frames: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class GapTotals:
    """All blind times of one account; `blind` and what was recovered count the healed ones."""

    open: int
    healed: int
    blind: timedelta
    orders_recovered: int
    fills_recovered: int


@dataclass(frozen=True, slots=True)
class TapeRow:
    """One thing the broker told of an order: a stream event, or a fill that only REST told of.

    id: stable, unique within the account. status: the order's state now. source: "stream" or "rest".
    """

    id: str
    at: datetime
    event: str
    source: str
    symbol: str | None
    side: str | None
    order_type: str | None
    qty: Decimal | None
    price: Decimal | None
    status: str | None


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One domain event other than a fill."""

    id: int
    at: datetime
    kind: str
    payload: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """How far the lake reaches: the first order and activity, and when the order stream last delivered."""

    earliest_order: datetime | None
    earliest_activity: datetime | None
    stream_alive_at: datetime | None


@dataclass(frozen=True, slots=True)
class CursorRow:
    """How far completed pages reach without a hole, per walk; a token means that a walk is under way."""

    name: str
    position: datetime
    complete_through: datetime | None
    walking: bool


COUNTS = sql.SQL("""
    select (select count(*) from {orders}) as orders,
           (select count(*) from {orders} where destination = %(slug)s
              and status not in ('filled', 'canceled', 'expired', 'replaced', 'rejected')) as working_orders,
           activities.all as activities, activities.fills,
           (select count(*) from {events}) as frames,
           (select count(*) from {quarantine} where destination = %(slug)s) as quarantined
    from (select count(*) as all, count(execution_id) as fills from {activities}) as activities
""")

GAP_TOTALS = sql.SQL("""
    select count(*) filter (where healed_at is null) as open,
           count(healed_at) as healed,
           coalesce(sum(blind_to - blind_from) filter (where healed_at is not null), interval '0') as blind,
           coalesce(sum(orders_recovered), 0)::bigint as orders_recovered,
           coalesce(sum(fills_recovered), 0)::bigint as fills_recovered
    from {gaps}
""")

NEWEST_GAPS = sql.SQL("""
    select id, blind_from, blind_to, reason, healed_at, orders_recovered, fills_recovered
    from {gaps} where destination = %(slug)s order by healed_at is not null, id desc limit %(limit)s
""")

# A fill heard on the stream has its frame here; one that was missed comes from REST alone, and is put in its place.
TAPE = sql.SQL("""
    with frames as materialized (
        select id, received_at, event, order_id, execution_id from {events}
        where destination = %(slug)s and event is not null order by id desc limit %(limit)s
    ), fetched as (
        select id, transaction_time, order_id, symbol, side, qty, price from {activities} activity
        where destination = %(slug)s and source = 'rest' and execution_id is not null
          and transaction_time > coalesce(
              (select min(received_at) from frames having count(*) = %(limit)s), '-infinity')
          and not exists (select from frames where frames.execution_id = activity.execution_id)
        order by transaction_time desc limit %(limit)s
    )
    select 'f' || frames.id as id, received_at as at, event, 'stream' as source, orders.symbol, orders.side,
           orders.order_type, coalesce(fill.qty, orders.qty) as qty,
           coalesce(fill.price, orders.filled_avg_price, orders.limit_price, orders.stop_price) as price, orders.status
    from frames
    left join {orders} orders on orders.destination = %(slug)s and orders.id = frames.order_id
    left join {activities} fill on fill.destination = %(slug)s and fill.execution_id = frames.execution_id
    union all
    select 'a' || fetched.id, transaction_time, 'fill', 'rest', fetched.symbol, fetched.side,
           orders.order_type, fetched.qty, fetched.price, orders.status
    from fetched
    left join {orders} orders on orders.destination = %(slug)s and orders.id = fetched.order_id
    order by at desc, id desc limit %(limit)s
""")


def _table(parent: str, slug: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"{parent}_{slug}")


async def counts(conn: AsyncConnection, slug: str) -> Counts:
    """Count the rows of an account's lake; costs a scan of each table's smallest index."""
    query = COUNTS.format(
        orders=_table("raw_orders", slug),
        activities=_table("raw_activities", slug),
        events=_table("raw_events", slug),
        quarantine=sql.Identifier(SCHEMA, "quarantine"),
    )
    async with conn.cursor(row_factory=class_row(Counts)) as cur:
        await cur.execute(query, {"slug": slug})
        return await cur.fetchone() or Counts(0, 0, 0, 0, 0, 0)


async def gap_totals(conn: AsyncConnection, slug: str) -> GapTotals:
    """Sum up every blind time of an account."""
    async with conn.cursor(row_factory=class_row(GapTotals)) as cur:
        await cur.execute(GAP_TOTALS.format(gaps=_table("gaps", slug)))
        return await cur.fetchone() or GapTotals(0, 0, timedelta(0), 0, 0)


async def newest_gaps(conn: AsyncConnection, slug: str, limit: int) -> list[Gap]:
    """Return the open blind times, then the newest healed ones."""
    async with conn.cursor(row_factory=class_row(Gap)) as cur:
        await cur.execute(NEWEST_GAPS.format(gaps=_table("gaps", slug)), {"slug": slug, "limit": limit})
        return await cur.fetchall()


async def tape(conn: AsyncConnection, slug: str, limit: int) -> list[TapeRow]:
    """Return the newest order events, newest first."""
    query = TAPE.format(
        orders=_table("raw_orders", slug),
        activities=_table("raw_activities", slug),
        events=_table("raw_events", slug),
    )
    async with conn.cursor(row_factory=class_row(TapeRow)) as cur:
        await cur.execute(query, {"slug": slug, "limit": limit})
        return await cur.fetchall()


async def journal(conn: AsyncConnection, slug: str, limit: int) -> list[JournalRow]:
    """Return the newest domain events of an account other than fills (the tape shows those), newest first.

    Looks through the newest 1,000 events at most, so that a burst of fills costs little.
    """
    async with conn.cursor(row_factory=class_row(JournalRow)) as cur:
        await cur.execute(
            """
            select id, at, kind, payload::text as payload from (
                select id, at, kind, payload from accounts.events
                where destination = %(slug)s order by id desc limit 1000
            ) as newest where kind <> 'FillRecorded' order by id desc limit %(limit)s
            """,
            {"slug": slug, "limit": limit},
        )
        return await cur.fetchall()


async def history(conn: AsyncConnection, slug: str) -> HistoryRow:
    """Return how far back the lake reaches; all None before the first page came in."""
    query = sql.SQL("select earliest_order, earliest_activity, stream_alive_at from {table}").format(
        table=_table("raw_history_meta", slug)
    )
    async with conn.cursor(row_factory=class_row(HistoryRow)) as cur:
        await cur.execute(query)
        return await cur.fetchone() or HistoryRow(None, None, None)


async def cursors(conn: AsyncConnection, slug: str) -> list[CursorRow]:
    """Return how far each walk through the broker's history has come."""
    async with conn.cursor(row_factory=class_row(CursorRow)) as cur:
        await cur.execute(
            """
            select name, position, complete_through, token is not null as walking
            from account_activities.cursors where destination = %s order by name
            """,
            [slug],
        )
        return await cur.fetchall()


async def session_returns(conn: AsyncConnection, slug: str, sessions: int) -> list[float]:
    """Return the total return at the end of each of the newest sessions that have closed, ascending; fractions."""
    cursor = await conn.execute(
        """
        select cumulative_return from accounts.equity_full
        where destination = %s and not provisional order by session_date desc limit %s
        """,
        [slug, sessions],
    )
    return [row[0] for row in reversed(await cursor.fetchall())]


async def unprotected(conn: AsyncConnection, slug: str) -> int:
    """Return how many times right now shares are held without a live stop: lots, and what the broker holds beyond."""
    cursor = await conn.execute(
        "select count(*) from accounts.unprotected where destination = %s and healed_at is null", [slug]
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def risked_lots(conn: AsyncConnection, slug: str) -> list[RiskedLot]:
    """Return every open lot with its stop."""
    cursor = await conn.execute(
        """
        select side, qty, avg_fill, initial_stop, case when stop_order_id is not null then sl_px end
        from accounts.open_trades where destination = %s
        """,
        [slug],
    )
    return [RiskedLot(Side(side), *numbers) for side, *numbers in await cursor.fetchall()]
