"""What the calendar reads: the results by New York day; nothing but reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Day:
    """One day on which something was closed. wins: closings with a gain."""

    day: date
    closings: int
    wins: int
    pnl_cash: Decimal


async def days(conn: AsyncConnection, slug: str, months: int) -> list[Day]:
    """Return the days of the newest months, counted from the newest closing, oldest first."""
    async with conn.cursor(row_factory=class_row(Day)) as cur:
        await cur.execute(
            """
            with found as materialized (
                select day, closings, wins, pnl_cash from accounts.pnl_by_day where destination = %s
            )
            select * from found
            where day >= (select date_trunc('month', max(day)) from found) - make_interval(months => %s - 1)
            order by day
            """,
            [slug, months],
        )
        return await cur.fetchall()
