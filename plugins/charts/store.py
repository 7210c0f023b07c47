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
