"""What the chart says in words: the ends of the equity curve; nothing but reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Curve:
    """Where an account's curve stands. minutes: known ones of the newest session that has any, minute the newest."""

    sessions: int
    first: date
    newest: date
    deposit: Decimal
    cumulative_return: float
    drawdown: float
    deepest: float
    minutes: int
    minute: datetime | None
    equity: Decimal | None

    @property
    def version(self) -> str:
        """Return a text that differs when there is something else to draw."""
        return f"{self.sessions} {self.newest} {self.deposit} {self.minutes} {self.minute} {self.equity}"


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session. day_pl: what equity changed by without flows; None on the first day. return_pct, drawdown_pct: %."""

    day: date
    equity: Decimal
    day_pl: Decimal | None
    return_pct: Decimal
    net_flows: Decimal
    drawdown_pct: Decimal
    is_partial: bool
    is_running: bool


async def sessions(conn: AsyncConnection, slug: str, limit: int, skip: int, day: date | None) -> list[SessionRow]:
    """Return the newest sessions after so many newer ones, newest first. day: a single one; None for any."""
    async with conn.cursor(row_factory=class_row(SessionRow)) as cur:
        await cur.execute(
            """
            with known as (
                select session_date as day, deposit as equity, deposit - lag(deposit) over days - net_flows as day_pl,
                       (100 * daily_return)::numeric as return_pct, net_flows,
                       (100 * drawdown)::numeric as drawdown_pct, not complete as is_partial,
                       provisional as is_running
                from accounts.equity_full where destination = %(slug)s
                window days as (order by session_date)
            )
            select * from known where %(day)s::date is null or day = %(day)s
            order by day desc limit %(limit)s offset %(skip)s
            """,
            {"slug": slug, "limit": limit, "skip": skip, "day": day},
        )
        return await cur.fetchall()


async def curve(conn: AsyncConnection, slug: str) -> Curve | None:
    """Return where the curve stands, None before the first session."""
    async with conn.cursor(row_factory=class_row(Curve)) as cur:
        await cur.execute(
            """
            with days as (
                select count(*) as sessions, min(session_date) as first, min(drawdown) as deepest
                from accounts.equity_full where destination = %(slug)s
            ), newest as (
                select session_date as newest, deposit, cumulative_return, drawdown
                from accounts.equity_full where destination = %(slug)s order by session_date desc limit 1
            ), minute as (
                select session_date, at as minute, equity
                from accounts.equity_intraday where destination = %(slug)s order by session_date desc, at desc limit 1
            )
            select days.*, newest.*, minute.minute, minute.equity, (
                select count(*) from accounts.equity_intraday as known
                where known.destination = %(slug)s and known.session_date = minute.session_date
            ) as minutes
            from days cross join newest left join minute on true
            """,
            {"slug": slug},
        )
        return await cur.fetchone()
