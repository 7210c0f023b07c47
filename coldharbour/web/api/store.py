"""What the API reads of the live and metrics tables, and how it notices that they changed; nothing but reads."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import Struct, structs
from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from coldharbour.web.api.model import ClosedTrade, EquityDay, Gap, Minute, Position

ClosedKey = tuple[datetime, str, str]  # exit time, entry lot, exit order: where a page of closed trades ends


class Session(NamedTuple):
    """The newest session with minutes. equity at its begin and at its newest minute, and the flows between."""

    session_date: date
    baseline: Decimal
    flows: Decimal
    live: Decimal


def _columns(model: type[Struct]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(field.name) for field in structs.fields(model))


async def version(conn: AsyncConnection, table: str, slug: str) -> str:
    """Return a text that differs whenever a row of an account's part of a table was added, changed or removed."""
    # xmin is the transaction that wrote a row as it stands; reading it costs no more than counting.
    query = sql.SQL("""
        select concat_ws(':', count(*), sum(xmin::text::bigint), max(xmin::text::bigint)) from {} where destination = %s
    """).format(sql.Identifier("accounts", table))
    row = await (await conn.execute(query, [slug])).fetchone()
    return str(row[0]) if row else ""


async def positions(conn: AsyncConnection, slug: str) -> list[Position]:
    """Return the open lots, by symbol and age."""
    query = sql.SQL("""
        select {} from accounts.open_trades where destination = %s order by symbol, entry_time, parent_id
    """).format(_columns(Position))
    async with conn.cursor(row_factory=class_row(Position)) as cur:
        await cur.execute(query, [slug])
        return await cur.fetchall()


async def closed_trades(
    conn: AsyncConnection, slug: str, limit: int, after: ClosedKey | None = None
) -> list[ClosedTrade]:
    """Return closed trades, newest exit first, from the one that follows `after`."""
    query = sql.SQL("""
        select {} from accounts.closed_trades
        where destination = %(slug)s and (%(at)s::timestamptz is null or exit_time <= %(at)s
            and (exit_time < %(at)s or (entry_lot_id, exit_order_id) > (%(lot)s::text, %(exit)s::text)))
        order by exit_time desc, entry_lot_id, exit_order_id limit %(limit)s
    """).format(_columns(ClosedTrade))
    at, lot, exit_order = after or (None, None, None)
    async with conn.cursor(row_factory=class_row(ClosedTrade)) as cur:
        await cur.execute(query, {"slug": slug, "at": at, "lot": lot, "exit": exit_order, "limit": limit})
        return await cur.fetchall()


async def equity_days(conn: AsyncConnection, slug: str, since: date | None = None) -> list[EquityDay]:
    """Return the sessions from a day on, oldest first."""
    query = sql.SQL("""
        select {} from accounts.equity_full
        where destination = %(slug)s and (%(since)s::date is null or session_date >= %(since)s) order by session_date
    """).format(_columns(EquityDay))
    async with conn.cursor(row_factory=class_row(EquityDay)) as cur:
        await cur.execute(query, {"slug": slug, "since": since})
        return await cur.fetchall()


async def newest_day(conn: AsyncConnection, slug: str) -> date | None:
    """Return the newest session with a daily row."""
    return await _day(conn, "select max(session_date) from accounts.equity_full where destination = %s", slug)


async def first_trading_day(conn: AsyncConnection, slug: str) -> date | None:
    """Return the first session in which anything was bought or sold."""
    return await _day(
        conn,
        """
        select min(session_date) from accounts.equity_full
        where destination = %s and (buy_volume > 0 or sell_volume > 0)
        """,
        slug,
    )


async def _day(conn: AsyncConnection, query: Any, slug: str) -> date | None:
    row = await (await conn.execute(query, [slug])).fetchone()
    return row[0] if row else None


async def newest_session(conn: AsyncConnection, slug: str) -> Session | None:
    """Return the newest session that has minutes, and what its newest minute says."""
    cursor = await conn.execute(
        """
        select session_date, equity - profit - flows, flows, equity
        from accounts.equity_intraday where destination = %s order by session_date desc, at desc limit 1
        """,
        [slug],
    )
    row = await cursor.fetchone()
    return Session(*row) if row else None


async def minutes(conn: AsyncConnection, slug: str, session_date: date, since: datetime) -> list[Minute]:
    """Return the minutes of a session from a moment on, oldest first."""
    query = sql.SQL("""
        select {} from accounts.equity_intraday where destination = %s and session_date = %s and at >= %s order by at
    """).format(_columns(Minute))
    async with conn.cursor(row_factory=class_row(Minute)) as cur:
        await cur.execute(query, [slug, session_date, since])
        return await cur.fetchall()


async def gaps(conn: AsyncConnection, slug: str, limit: int) -> list[Gap]:
    """Return the newest blind times of the order stream, newest first."""
    query = sql.SQL("""
        select {} from account_activities.gaps where destination = %s order by id desc limit %s
    """).format(_columns(Gap))
    async with conn.cursor(row_factory=class_row(Gap)) as cur:
        await cur.execute(query, [slug, limit])
        return await cur.fetchall()
