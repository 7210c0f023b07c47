"""The tables of flattens: the run, its targets and its requests. The caller owns the transaction.

Reads latches, stop moves, the journal and what the lake tells of orders; writes none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row, dict_row, kwargs_row

from coldharbour.live.model import Side
from coldharbour.live.store import take_turn
from coldharbour.risk.audit import AuditEntry
from coldharbour.risk.flattening.model import Kind, Request, RequestState, Run, Target, TargetState
from coldharbour.risk.model import Flag, Reason
from coldharbour.risk.moves import FINAL as FINAL_MOVES


async def take_stops_turn(conn: AsyncConnection, slug: str) -> None:
    """Wait for the turn in which a stop move is planned or a flatten begins: each must see the other."""
    await take_turn(conn, slug, "stop_intents")


async def under_way(conn: AsyncConnection, slug: str) -> set[str]:
    """Return the symbols that a flatten is closing now: their stops are its business alone."""
    cursor = await conn.execute(
        """
        select symbol from accounts.flatten_targets join accounts.flattenings using (destination, begun_at)
        where destination = %s and ended_at is null and state = 'open' and not is_dry_run
        """,
        [slug],
    )
    return {row[0] for row in await cursor.fetchall()}


async def newest_run(conn: AsyncConnection, slug: str) -> Run | None:
    """Return the newest flatten of an account, under way or ended."""
    async with conn.cursor(row_factory=class_row(Run)) as cur:
        await cur.execute(
            """
            select destination, latched_for, session_date, latched_at, is_dry_run, begun_at, ended_at
            from accounts.flattenings where destination = %s order by begun_at desc limit 1
            """,
            [slug],
        )
        return await cur.fetchone()


async def insert_run(conn: AsyncConnection, run: Run, targets: Iterable[Target]) -> None:
    """Put a flatten and what it is to close on record."""
    await conn.execute(
        """
        insert into accounts.flattenings (destination, latched_for, session_date, latched_at, is_dry_run, begun_at,
            ended_at)
        values (%(destination)s, %(latched_for)s, %(session_date)s, %(latched_at)s, %(is_dry_run)s, %(begun_at)s,
            %(ended_at)s)
        """,
        asdict(run),
    )
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.flatten_targets (destination, begun_at, symbol, side, qty, state, detail, changed_at,
                alarmed_at)
            values (%(destination)s, %(begun_at)s, %(symbol)s, %(side)s, %(qty)s, %(state)s, %(detail)s,
                %(changed_at)s, %(alarmed_at)s)
            """,
            [{"destination": run.destination, "begun_at": run.begun_at, **asdict(target)} for target in targets],
        )


async def end_run(conn: AsyncConnection, run: Run, at: datetime) -> None:
    """Note that nothing more is done by a flatten."""
    await conn.execute(
        "update accounts.flattenings set ended_at = %s where destination = %s and begun_at = %s and ended_at is null",
        [at, run.destination, run.begun_at],
    )


async def stands(conn: AsyncConnection, run: Run) -> bool:
    """Return whether the limit that set it going is still latched; nobody resets it before this transaction ends."""
    cursor = await conn.execute(
        """
        select 1 from accounts.loss_limits
        where destination = %s and session_date = %s and stage = 'flatten' and latched_at = %s and reset_at is null
        for share
        """,
        [run.latched_for, run.session_date, run.latched_at],
    )
    return await cursor.fetchone() is not None


async def targets_of(conn: AsyncConnection, run: Run) -> list[Target]:
    """Return what a flatten closes and where each stands, by symbol."""
    async with conn.cursor(row_factory=kwargs_row(_target)) as cur:
        await cur.execute(
            """
            select symbol, side, qty, state, detail, changed_at, alarmed_at from accounts.flatten_targets
            where destination = %s and begun_at = %s order by symbol
            """,
            [run.destination, run.begun_at],
        )
        return await cur.fetchall()


async def save_targets(conn: AsyncConnection, run: Run, targets: Iterable[Target]) -> None:
    """Write where targets stand now; one that is at its end stays there."""
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            update accounts.flatten_targets set state = %s, detail = %s, changed_at = %s, alarmed_at = %s
            where destination = %s and begun_at = %s and symbol = %s and state = 'open'
            """,
            [
                [each.state, each.detail, each.changed_at, each.alarmed_at, run.destination, run.begun_at, each.symbol]
                for each in targets
            ],
        )


async def requests_of(conn: AsyncConnection, run: Run) -> list[Request]:
    """Return the requests of a flatten, in the order in which they were planned."""
    async with conn.cursor(row_factory=kwargs_row(_request)) as cur:
        await cur.execute(
            """
            select kind, symbol, name, attempt, side, qty, epoch, state, reason, order_id, unseen, answered_at
            from accounts.flatten_requests where destination = %s and begun_at = %s order by planned_at, kind, name
            """,
            [run.destination, run.begun_at],
        )
        return await cur.fetchall()


async def insert_request(conn: AsyncConnection, run: Run, request: Request, at: datetime) -> None:
    """Put a planned request on record. The table refuses a second one whose outcome is not known."""
    await conn.execute(
        """
        insert into accounts.flatten_requests (destination, begun_at, kind, symbol, name, attempt, side, qty, epoch,
            state, planned_at)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [run.destination, run.begun_at, request.kind, request.symbol, request.name, request.attempt, request.side,
         request.qty, request.epoch, request.state, at],
    )  # fmt: skip


async def save_request(conn: AsyncConnection, run: Run, request: Request, at: datetime) -> None:
    """Note how a request ended, or what was proved of it; one that is final stays as it is."""
    await conn.execute(
        """
        update accounts.flatten_requests set state = %(state)s, reason = %(reason)s, order_id = %(order_id)s,
            unseen = %(unseen)s, answered_at = %(answered_at)s, answer_state = coalesce(answer_state, %(state)s),
            settled_at = case when %(is_final)s then %(at)s end
        where destination = %(destination)s and begun_at = %(begun_at)s and kind = %(kind)s and name = %(name)s
            and attempt = %(attempt)s and state in ('PLANNED', 'ACCEPTED', 'UNKNOWN')
        """,
        {
            "destination": run.destination, "begun_at": run.begun_at, "kind": request.kind, "name": request.name,
            "attempt": request.attempt, "state": request.state, "reason": request.reason,
            "order_id": request.order_id, "unseen": request.unseen, "answered_at": request.answered_at,
            "is_final": request.is_final, "at": at,
        },
    )  # fmt: skip


async def was_held_up(conn: AsyncConnection, slug: str, since: datetime) -> bool:
    """Return whether it was told since a moment that a flatten does not begin."""
    cursor = await conn.execute(
        """
        select 1 from accounts.events
        where destination = %s and kind = 'FlattenBlocked' and at >= %s and payload ->> 'symbol' = '' limit 1
        """,
        [slug, since],
    )
    return await cursor.fetchone() is not None


async def unsettled_stops(conn: AsyncConnection, slug: str) -> dict[str, str]:
    """Return the stop moves whose outcome is not known: their name by symbol."""
    query = sql.SQL("select symbol, client_order_id from {} where destination = %s and state <> all(%s)").format(
        sql.Identifier("accounts", f"stop_intents_{slug}")
    )
    cursor = await conn.execute(query, [slug, list(FINAL_MOVES)])
    return dict(await cursor.fetchall())


async def live_orders(conn: AsyncConnection, slug: str, symbols: Sequence[str]) -> list[str]:
    """Return the orders of symbols that have not ended as far as the lake knows, held legs among them, by id."""
    query = sql.SQL("""
        select id::text from {} where destination = %s and symbol = any(%s)
            and status not in ('filled', 'canceled', 'expired', 'replaced', 'rejected') order by id
    """).format(sql.Identifier("account_activities", f"raw_orders_{slug}"))
    return [row[0] for row in await (await conn.execute(query, [slug, list(symbols)])).fetchall()]


async def audit_entries(
    conn: AsyncConnection, slug: str, symbol: str, *, name: str, detail: str, at: datetime
) -> list[AuditEntry]:
    """Return what the audit of stops says of each lot of a symbol whose closing is planned. name: of the order."""
    query = sql.SQL("""
        select parent_id, symbol, side, qty, avg_fill as entry_px, entry_time as filled_at, sl_px as old_stop, mkt_px,
               coalesce(stop_order_id, '') as stop_order_id
        from {} where destination = %s and symbol = %s and qty <> 0
    """).format(sql.Identifier("accounts", f"open_trades_{slug}"))
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(query, [slug, symbol])
        return [
            AuditEntry(
                at=at, moved_flag=Flag.NOTHING, reason=Reason.PLANNED, detail=detail, new_stop=None, be_tp=None,
                extreme_px=None, client_order_id=name, is_action=True, **row,
            )
            for row in await cur.fetchall()
        ]  # fmt: skip


def _target(*, side: str, state: str, **row: Any) -> Target:
    return Target(side=Side(side), state=TargetState(state), **row)


def _request(*, kind: str, state: str, **row: Any) -> Request:
    return Request(kind=Kind(kind), state=RequestState(state), **row)
