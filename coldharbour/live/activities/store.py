"""Reads of the lake's activities, how far each reader followed them, and the table of cash flows; never a rule.

A row carries the transaction that wrote it last. A reader notes, before it reads, the oldest transaction that may
still write, and goes on from there next time: nothing is skipped, and an open transaction only makes some rows come
twice. Functions take a connection, and the caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import args_row

from coldharbour.live.cash import AccountActivity, CashFlow, booked_at, moment_of
from coldharbour.sessions import NEW_YORK

CHUNK = 2_000  # rows: some 20 ms of translation, after which others have their turn
FLOW = [field.name for field in fields(CashFlow)]

COLUMNS = sql.SQL("""
    id, activity_type, transaction_time, activity_date, coalesce(symbol, ''), coalesce(side, ''), qty, price,
    net_amount, coalesce(status, ''), case when activity_type <> 'FILL' then raw_json ->> 'description' end,
    case when activity_type <> 'FILL' then raw_json ->> 'created_at' end
""")
DAY = sql.SQL("coalesce(activity_date, (transaction_time at time zone 'America/New_York')::date)")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a reading begins, and where the next one will if this one is kept. since = 0: from the beginning."""

    since: int
    floor: int


@dataclass(frozen=True, slots=True)
class Change:
    """What came since a mark. first_day: the first day with news. corrected: rows that counted before may count no
    more, or on another day. moment: the first of those within the days asked for.
    """

    first_day: date | None
    corrected: bool
    moment: datetime | None


def _table(slug: str) -> sql.Identifier:
    return sql.Identifier("account_activities", f"raw_activities_{slug}")


async def expect_few(conn: AsyncConnection) -> None:
    """Have this transaction's reads go by index: the planner cannot know how little is new in a growing table."""
    await conn.execute("select set_config('enable_seqscan', 'off', true)")


async def mark(conn: AsyncConnection, slug: str, reader: str, basis: str) -> Mark:
    """Return from where a reader goes on; call it before it reads.

    It begins anew when it made its rows on another basis, and in a database that counts its transactions anew.
    """
    cursor = await conn.execute(
        """
        select coalesce((select floor from accounts.lake_marks where destination = %s and reader = %s and basis = %s
                            and floor <= pg_snapshot_xmax(pg_current_snapshot())), '0')::text,
               pg_snapshot_xmin(pg_current_snapshot())::text
        """,
        [slug, reader, basis],
    )
    row = await cursor.fetchone()
    return Mark(int(row[0]), int(row[1])) if row else Mark(0, 0)


async def keep_mark(conn: AsyncConnection, slug: str, reader: str, basis: str, floor: int) -> None:
    """Remember how far a reader came; in the transaction that writes what it made."""
    await conn.execute(
        """
        insert into accounts.lake_marks (destination, reader, basis, floor) values (%s, %s, %s, %s::xid8)
        on conflict (destination, reader) do update set basis = excluded.basis, floor = excluded.floor
        """,
        [slug, reader, basis, str(floor)],
    )


async def changed_flows(conn: AsyncConnection, slug: str, since: int) -> AsyncIterator[list[AccountActivity]]:
    """Yield, in chunks, the activities since a revision that are no fills, and the fills with something missing."""
    query = sql.SQL("""
        select {columns} from {table}
        where destination = %(slug)s and revision >= %(since)s::xid8 and (activity_type <> 'FILL'
            or symbol is null or side is null or qty is null or price is null or transaction_time is null)
    """).format(columns=COLUMNS, table=_table(slug))
    async for rows in _chunks(conn, query, {"slug": slug, "since": str(since)}):
        yield rows


async def change(
    conn: AsyncConnection, slug: str, since: int, *, after: date, through: date, begin: datetime
) -> Change:
    """Return what came since a revision. after, through: the days of `moment`; begin: the first it can be."""
    news = sql.SQL("from {} where destination = %(slug)s and revision >= %(since)s::xid8").format(_table(slug))
    totals = sql.SQL("select min({day}), coalesce(bool_or(status in ('correct', 'canceled')), false) {news}")
    recent = sql.SQL("select {columns} {news} and {day} > %(after)s and {day} <= %(through)s")
    named = {"slug": slug, "since": str(since), "after": after, "through": through}
    row = await (await conn.execute(totals.format(day=DAY, news=news), named)).fetchone()
    moment: datetime | None = None
    async for rows in _chunks(conn, recent.format(columns=COLUMNS, news=news, day=DAY), named):
        earliest = min(max(begin, moment_of(activity) or begin) for activity in rows)
        moment = earliest if moment is None else min(moment, earliest)
    first_day, corrected = row or (None, False)
    return Change(first_day, corrected, moment)


async def has_news(conn: AsyncConnection, slug: str, since: int) -> bool:
    """Return whether an activity came at a revision, or later."""
    query = sql.SQL("select exists (select from {} where destination = %s and revision >= %s::xid8)")
    row = await (await conn.execute(query.format(_table(slug)), [slug, str(since)])).fetchone()
    return row is not None and bool(row[0])


async def first_day(conn: AsyncConnection, slug: str) -> date | None:
    """Return the New York day of the account's first activity."""
    query = sql.SQL("""
        select least((select min(activity_date) from {table} where destination = %(slug)s),
                     (select min(transaction_time at time zone 'America/New_York')::date from (
                         select transaction_time from {table} where destination = %(slug)s and activity_date is null
                            and transaction_time is not null order by transaction_time limit 1) as earliest))
    """).format(table=_table(slug))
    row = await (await conn.execute(query, {"slug": slug})).fetchone()
    return row[0] if row else None


async def activities(
    conn: AsyncConnection, slug: str, after: date | None, through: date
) -> AsyncIterator[list[AccountActivity]]:
    """Yield, in chunks, the activities of the New York days behind `after` up to `through`; None: from the first."""
    query = sql.SQL("""
        select {columns} from {table} where destination = %(slug)s and activity_date > %(after)s
            and activity_date <= %(through)s
        union all
        select {columns} from {table} where destination = %(slug)s and activity_date is null
            and transaction_time >= %(from)s and transaction_time < %(to)s
    """).format(columns=COLUMNS, table=_table(slug))
    after = after or date.min
    span = {"from": _midnight(after), "to": _midnight(through)}
    async for rows in _chunks(conn, query, {"slug": slug, "after": after, "through": through, **span}):
        yield rows


async def save_flows(conn: AsyncConnection, slug: str, flows: Sequence[CashFlow]) -> int:
    """Write cash flows; return how many are new or changed."""
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.cash_flows as stored
                (destination, id, ts, flow_date, amount, type, is_external, symbol, description)
            values (%(slug)s, %(id)s, %(ts)s, %(flow_date)s, %(amount)s, %(type)s, %(is_external)s, %(symbol)s,
                %(description)s)
            on conflict (destination, id) do update set ts = excluded.ts, flow_date = excluded.flow_date,
                amount = excluded.amount, type = excluded.type, is_external = excluded.is_external,
                symbol = excluded.symbol, description = excluded.description
            where (stored.ts, stored.flow_date, stored.amount, stored.type, stored.is_external, stored.symbol,
                   stored.description) is distinct from (excluded.ts, excluded.flow_date, excluded.amount,
                   excluded.type, excluded.is_external, excluded.symbol, excluded.description)
            """,
            [{"slug": slug, **{name: getattr(flow, name) for name in FLOW}} for flow in flows],
        )
        return max(cur.rowcount, 0)


async def remove_flows(conn: AsyncConnection, slug: str, ids: Iterable[str]) -> int:
    """Remove the cash flows of activities that count no more; return how many stood there."""
    cursor = await conn.execute(
        "delete from accounts.cash_flows where destination = %s and id = any(%s)", [slug, [*ids]]
    )
    return cursor.rowcount


async def keep_flows(conn: AsyncConnection, slug: str, ids: Iterable[str]) -> int:
    """Remove all cash flows but these; return how many stood there."""
    query = "delete from accounts.cash_flows where destination = %s and id <> all(%s)"
    cursor = await conn.execute(query, [slug, [*ids]])
    return cursor.rowcount


async def forget(conn: AsyncConnection, slug: str, reader: str) -> None:
    """Forget how far a reader came, to have it begin anew."""
    await conn.execute("delete from accounts.lake_marks where destination = %s and reader = %s", [slug, reader])


def _midnight(day: date) -> datetime:
    """Return when a New York day ends."""
    following = day + timedelta(days=1)
    return datetime.combine(following, time(), NEW_YORK)


async def _chunks(
    conn: AsyncConnection, query: sql.Composed, parameters: dict[str, Any]
) -> AsyncIterator[list[AccountActivity]]:
    async with conn.cursor("activities", row_factory=args_row(_activity)) as cursor:
        await cursor.execute(query, parameters)
        while rows := await cursor.fetchmany(CHUNK):
            yield rows


def _activity(*row: Any) -> AccountActivity:
    *known, description, created_at = row
    return AccountActivity._make((*known, description or "", booked_at(created_at)))
