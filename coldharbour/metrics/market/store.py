"""The tables of session days and daily closes, by market; functions take a connection, the caller commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import args_row

CHUNK = 5_000  # rows: some 20 ms of translation, after which others have their turn


class Span(NamedTuple):
    """Days that were asked for, both included, whether or not there was an answer for each."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class AskedSpan:
    """What was asked of a symbol's closes, and when last; has_close: whether it ever had one."""

    symbol: str
    span: Span
    asked_at: datetime
    has_close: bool


class Close(NamedTuple):
    """A closing price per share, not adjusted."""

    symbol: str
    session_date: date
    close: Decimal


async def days_span(conn: AsyncConnection, market: str) -> Span | None:
    """Return the days for which a market's calendar was asked."""
    query = "select first_date, last_date from accounts.session_spans where market = %s"
    async with conn.cursor(row_factory=args_row(Span)) as cur:
        await cur.execute(query, [market])
        return await cur.fetchone()


async def save_days(conn: AsyncConnection, market: str, span: Span, days: Sequence[tuple[date, datetime]]) -> None:
    """Keep session days, as (day, close in UTC), and for which days they were asked."""
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.session_days (market, session_date, close_utc) values (%s, %s, %s)
            on conflict (market, session_date) do update set close_utc = excluded.close_utc
            """,
            [(market, day, close) for day, close in days],
        )
    await conn.execute(
        """
        insert into accounts.session_spans as known (market, first_date, last_date) values (%s, %s, %s)
        on conflict (market) do update set first_date = least(known.first_date, excluded.first_date),
            last_date = greatest(known.last_date, excluded.last_date)
        """,
        [market, *span],
    )


async def session_days(conn: AsyncConnection, market: str, span: Span) -> list[date]:
    """Return the session days of a span, ascending."""
    cursor = await conn.execute(
        """
        select session_date from accounts.session_days where market = %s and session_date between %s and %s
        order by session_date
        """,
        [market, *span],
    )
    return [row[0] for row in await cursor.fetchall()]


async def close_spans(conn: AsyncConnection, market: str, symbols: Iterable[str]) -> dict[str, AskedSpan]:
    """Return what was asked of these symbols' closes."""
    cursor = await conn.execute(
        """
        select symbol, first_date, last_date, asked_at, exists (
            select from accounts.daily_closes where market = spans.market and symbol = spans.symbol)
        from accounts.close_spans as spans where market = %s and symbol = any(%s)
        """,
        [market, [*symbols]],
    )
    return {
        symbol: AskedSpan(symbol, Span(first, last), asked_at, has_close)
        for symbol, first, last, asked_at, has_close in await cursor.fetchall()
    }


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker said of the closes of some symbols in a span of days."""

    symbols: Sequence[str]
    span: Span
    closes: Sequence[Close]
    asked_at: datetime


async def save_answer(conn: AsyncConnection, market: str, answer: Answer) -> date | None:
    """Keep an answer; return the earliest day with a close that was not known."""
    cursor = await conn.execute(
        """
        with written as (
            insert into accounts.daily_closes (market, symbol, session_date, close)
            select %s, * from unnest(%s::text[], %s::date[], %s::numeric[])
            on conflict do nothing returning session_date
        )
        select min(session_date) from written
        """,
        [market, *([list(column) for column in zip(*answer.closes, strict=True)] or [[], [], []])],
    )
    row = await cursor.fetchone()
    await conn.execute(
        """
        insert into accounts.close_spans as known (market, symbol, first_date, last_date, asked_at)
        select %s, symbol, %s, %s, %s from unnest(%s::text[]) as symbol
        on conflict (market, symbol) do update set first_date = least(known.first_date, excluded.first_date),
            last_date = greatest(known.last_date, excluded.last_date), asked_at = excluded.asked_at
        """,
        [market, *answer.span, answer.asked_at, [*answer.symbols]],
    )
    return row[0] if row else None


async def closes(
    conn: AsyncConnection, market: str, symbols: Iterable[str], span: Span
) -> dict[str, dict[date, Decimal]]:
    """Return the closes of symbols in a span, and of each the newest one before it."""
    found: defaultdict[str, dict[date, Decimal]] = defaultdict(dict)
    async with conn.cursor("closes") as cursor:
        await cursor.execute(
            """
            select symbol, session_date, close from accounts.daily_closes
            where market = %(market)s and symbol = any(%(symbols)s) and session_date between %(first)s and %(last)s
            union all
            select before.* from unnest(%(symbols)s::text[]) as wanted(symbol) cross join lateral (
                select symbol, session_date, close from accounts.daily_closes
                where market = %(market)s and symbol = wanted.symbol and session_date < %(first)s
                order by session_date desc limit 1
            ) as before
            """,
            {"market": market, "symbols": [*symbols], "first": span.first, "last": span.last},
        )
        while rows := await cursor.fetchmany(CHUNK):
            for symbol, day, close in rows:
                found[symbol][day] = close
    return dict(found)
