"""The tables of a day's loss: how each session stands, and the latched limits. The caller owns the transaction.

A destination is a slug, or "" for all accounts together. Reads the newest minute of equity, which others write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from decimal import Decimal

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from coldharbour.risk.losses.model import Latch, Minute, Stage, Watch

TOGETHER = ""  # the destination of all accounts together


async def newest_minute(conn: AsyncConnection, slug: str) -> Minute | None:
    """Return the newest minute of an account's equity, None before the first."""
    query = sql.SQL("""
        select session_date, at, profit, equity - profit - flows as baseline, complete and not stale as is_certain,
               stalest.symbol as stalest, stalest.mkt_at as stalest_at
        from {minutes} left join lateral (
            select symbol, case when mkt_px is not null then mkt_at end as mkt_at
            from {open} where destination = %(slug)s
            order by 2 nulls first, symbol limit 1
        ) as stalest on true
        where destination = %(slug)s order by at desc limit 1
    """).format(
        minutes=sql.Identifier("accounts", f"equity_intraday_{slug}"),
        open=sql.Identifier("accounts", f"open_trades_{slug}"),
    )
    async with conn.cursor(row_factory=class_row(Minute)) as cur:
        await cur.execute(query, {"slug": slug})
        return await cur.fetchone()


async def watches(conn: AsyncConnection, destinations: Sequence[str]) -> list[Watch]:
    """Return how the sessions of these destinations stand, by destination; one that was never watched is missing."""
    async with conn.cursor(row_factory=class_row(Watch)) as cur:
        await cur.execute(
            """
            select destination, session_date, day_pnl, baseline, as_of, blind, blind_since, blind_at, is_limited
            from accounts.loss_watch where destination = any(%s) order by destination
            """,
            [list(destinations)],
        )
        return await cur.fetchall()


async def save_watch(conn: AsyncConnection, watch: Watch) -> None:
    """Write how a session stands."""
    await conn.execute(
        """
        insert into accounts.loss_watch (destination, session_date, day_pnl, baseline, as_of, blind, blind_since,
            blind_at, is_limited)
        values (%(destination)s, %(session_date)s, %(day_pnl)s, %(baseline)s, %(as_of)s, %(blind)s, %(blind_since)s,
            %(blind_at)s, %(is_limited)s)
        on conflict (destination) do update set session_date = excluded.session_date, day_pnl = excluded.day_pnl,
            baseline = excluded.baseline, as_of = excluded.as_of, blind = excluded.blind,
            blind_since = excluded.blind_since, blind_at = excluded.blind_at, is_limited = excluded.is_limited
        """,
        asdict(watch),
    )


async def latches(conn: AsyncConnection) -> list[Latch]:
    """Return every limit that was reached and not reset, of all destinations, the oldest first."""
    async with conn.cursor(row_factory=class_row(Latch)) as cur:
        await cur.execute(
            """
            select destination, session_date, stage, latched_at, day_pnl, baseline, note, limit_pnl
            from accounts.loss_limits where reset_at is null
            order by latched_at, destination, array_position(array['warn', 'halt', 'flatten'], stage)
            """
        )
        return [_latch(row) for row in await cur.fetchall()]


async def entries_halted(conn: AsyncConnection, slug: str) -> bool:
    """Return whether an account may open nothing new: its own halt or flatten is latched, or that of all together."""
    return any(latch.stage is not Stage.WARN for latch in await latches_on(conn, slug))


async def latches_on(conn: AsyncConnection, slug: str) -> list[Latch]:
    """Return the latched limits that concern an account: its own, and those of all together; the oldest first."""
    return [latch for latch in await latches(conn) if latch.destination in (slug, TOGETHER)]


async def latch(conn: AsyncConnection, reached: Latch) -> bool:
    """Latch a limit; return False if it was latched already."""
    cursor = await conn.execute(
        """
        insert into accounts.loss_limits (destination, session_date, stage, latched_at, day_pnl, baseline, note,
            limit_pnl)
        values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
        """,
        [
            reached.destination, reached.session_date, reached.stage, reached.latched_at, reached.day_pnl,
            reached.baseline, reached.note, reached.limit_pnl,
        ],
    )  # fmt: skip
    return cursor.rowcount > 0


async def reset_latch(conn: AsyncConnection, destination: str, by: str, at: datetime) -> list[Latch]:
    """Reset all latched limits of a destination, "" for those of all together; return what was reset.

    by: who did it. In the session that runs, the same stages count on from where the day stands now.
    """
    async with conn.cursor(row_factory=class_row(Latch)) as cur:
        await cur.execute(
            """
            update accounts.loss_limits as latched set reset_at = %(at)s, reset_by = %(by)s, reset_pnl = (
                select day_pnl from accounts.loss_watch as watch
                where watch.destination = latched.destination and watch.session_date = latched.session_date
            )
            where destination = %(destination)s and reset_at is null
            returning destination, session_date, stage, latched_at, day_pnl, baseline, note, limit_pnl
            """,
            {"destination": destination, "by": by, "at": at},
        )
        return sorted(
            map(_latch, await cur.fetchall()), key=lambda latch: (latch.latched_at, [*Stage].index(latch.stage))
        )


async def counted_from(conn: AsyncConnection, destination: str, session_date: date) -> dict[Stage, Decimal]:
    """Return where the stages that were reset in a session count on from: how the day stood at the newest reset."""
    cursor = await conn.execute(
        """
        select distinct on (stage) stage, reset_pnl from accounts.loss_limits
        where destination = %s and session_date = %s and reset_at is not null and reset_pnl is not null
        order by stage, reset_at desc
        """,
        [destination, session_date],
    )
    return {Stage(stage): reset_pnl for stage, reset_pnl in await cursor.fetchall()}


def _latch(row: Latch) -> Latch:
    """Return a row with its stage as the word that the rules know."""
    return replace(row, stage=Stage(row.stage))
