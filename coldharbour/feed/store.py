"""The optional input tables of prices: trades and minute bars that somebody else collects; only ever read.

They may be missing, stand on a second server, or have other columns than expected: then there is nothing to read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from coldharbour.feed.model import MinuteBar

TRADES = ("alpaca_trade_data", ("symbol", "timestamp", "price"))
MINUTE_BARS = ("alpaca_bars_1min", ("symbol", "timestamp", "high", "low"))


@dataclass(frozen=True, slots=True)
class StoredPrice:
    """The newest collected trade of a symbol. price: currency per share."""

    symbol: str
    price: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class StoredBounds:
    """What the bars of one span say. place: of the span in the question. high, low: per share, None without bars."""

    place: int
    bars: int
    high: Decimal | None
    low: Decimal | None


async def newest_trades(conn: AsyncConnection, symbols: Collection[str], since: datetime) -> list[StoredPrice]:
    """Return the newest trade of each symbol from `public.alpaca_trade_data`, [] where there is no such table.

    since: trades before it are not looked for, so that a large table is quick to search.
    """
    if not await _has(conn, *TRADES):
        return []
    async with conn.cursor(row_factory=class_row(StoredPrice)) as cur:
        await cur.execute(
            """
            select wanted.symbol, newest.price::numeric as price, newest.timestamp as at
            from unnest(%s::text[]) as wanted(symbol) cross join lateral (
                select price, timestamp from public.alpaca_trade_data as trade
                where trade.symbol = wanted.symbol and timestamp >= %s order by timestamp desc limit 1
            ) as newest
            where newest.price > 0 and newest.price < 'Infinity'
            """,
            [list(symbols), since],
        )
        return await cur.fetchall()


async def bounds_of_bars(conn: AsyncConnection, spans: Sequence[tuple[str, datetime, datetime]]) -> list[StoredBounds]:
    """Return the bounds of the bars of `public.alpaca_bars_1min`, [] where there is no such table.

    spans: (symbol, start, end) each; a bar counts in the span in which it begins, start included and end not.
    """
    if not await _has(conn, *MINUTE_BARS):
        return []
    symbols, starts, ends = (list(column) for column in zip(*spans, strict=True))
    async with conn.cursor(row_factory=class_row(StoredBounds)) as cur:
        await cur.execute(
            """
            select span.place::int - 1 as place, count(bar.high)::int as bars, max(bar.high)::numeric as high,
                min(bar.low)::numeric as low
            from unnest(%s::text[], %s::timestamptz[], %s::timestamptz[])
                with ordinality as span(symbol, starts, ends, place)
            left join public.alpaca_bars_1min as bar on bar.symbol = span.symbol and bar.timestamp >= span.starts
                and bar.timestamp < span.ends and bar.low > 0 and bar.high >= bar.low and bar.high < 'Infinity'
            group by span.place order by span.place
            """,
            [symbols, starts, ends],
        )
        return await cur.fetchall()


async def minute_bars(conn: AsyncConnection, symbol: str, start: datetime, end: datetime) -> list[MinuteBar]:
    """Return the bars of `public.alpaca_bars_1min` that begin in [start, end), ascending, [] without such a table.

    Their open is None where the table has no such column, and where it lies outside its own bar.
    """
    if not await _has(conn, *MINUTE_BARS):
        return []
    table, columns = MINUTE_BARS
    known = await _has(conn, table, (*columns, "open"))
    query = sql.SQL("""
        select timestamp as start, high::numeric as high, low::numeric as low, {opened} as open
        from public.alpaca_bars_1min
        where symbol = %s and timestamp >= %s and timestamp < %s and low > 0 and high >= low and high < 'Infinity'
        order by timestamp
    """).format(opened=sql.SQL("case when open between low and high then open::numeric end" if known else "null"))
    async with conn.cursor(row_factory=class_row(MinuteBar)) as cur:
        await cur.execute(query, [symbol, start, end])
        return await cur.fetchall()


async def _has(conn: AsyncConnection, table: str, columns: Sequence[str]) -> bool:
    """Say whether a table or view of the schema `public` exists and has these columns."""
    found = await conn.execute(
        """
        select count(*) from pg_attribute
        where attrelid = to_regclass(%s) and attname = any(%s) and not attisdropped
        """,
        [sql.Identifier("public", table).as_string(conn), list(columns)],
    )
    row = await found.fetchone()
    return row is not None and row[0] == len(columns)
