"""The tables of operators' requests and of paused workers: the SQL behind `coldharbour.requests` and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One row of `accounts.operator_requests`; outcome is None until it is settled."""

    id: int
    destination: str
    worker: str
    action: str
    parameters: dict[str, Any]
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    taken_at: datetime | None
    done_at: datetime | None
    outcome: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class PauseRow:
    """One row of `accounts.worker_pauses`."""

    destination: str
    kind: str
    paused_by: str
    paused_at: datetime


async def save_request(
    conn: AsyncConnection,
    *,
    destination: str,
    worker: str,
    action: str,
    parameters: dict[str, Any],
    asked_by: str,
    asked_at: datetime,
    expires_at: datetime,
) -> tuple[RequestRow, bool]:
    """Insert a request, unless the same one is open already; return the one that is open, and whether it is new."""
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(
            """
            insert into accounts.operator_requests as r
                (destination, worker, action, parameters, asked_by, asked_at, expires_at)
            values (%s, %s, %s, %s, %s, %s, %s)
            on conflict (destination, worker, action, parameters) where done_at is null
                do update set asked_at = r.asked_at
            returning *, xmax = 0 as is_new
            """,
            [destination, worker, action, Jsonb(parameters), asked_by, asked_at, expires_at],
        )
        row = await cur.fetchone() or {}
        is_new = bool(row.pop("is_new"))
        return RequestRow(**row), is_new


async def waiting_requests(conn: AsyncConnection, actions: Sequence[str]) -> set[tuple[str, str]]:
    """Return (destination, worker) of every request for one of these actions that nobody has taken."""
    result = await conn.execute(
        "select distinct destination, worker from accounts.operator_requests"
        " where done_at is null and taken_at is null and action = any(%s)",
        [list(actions)],
    )
    return {(destination, worker) async for destination, worker in result}


async def take_requests(
    conn: AsyncConnection, destination: str, worker: str, actions: Sequence[str], now: datetime
) -> list[RequestRow]:
    """Mark the requests of a worker that are neither taken nor overdue as taken, and return them, oldest first."""
    async with conn.cursor(row_factory=class_row(RequestRow)) as cur:
        await cur.execute(
            """
            update accounts.operator_requests set taken_at = %(now)s where id in (
                select id from accounts.operator_requests
                where destination = %(destination)s and worker = %(worker)s and action = any(%(actions)s)
                    and taken_at is null and done_at is null and expires_at > %(now)s
                for update skip locked)
            returning *
            """,
            {"destination": destination, "worker": worker, "actions": list(actions), "now": now},
        )
        return sorted(await cur.fetchall(), key=lambda row: row.id)


async def settle_request(conn: AsyncConnection, request_id: int, outcome: str, detail: str, now: datetime) -> bool:
    """Write the outcome of a request; False if it has one already."""
    result = await conn.execute(
        "update accounts.operator_requests set done_at = %s, outcome = %s, detail = %s"
        " where id = %s and done_at is null",
        [now, outcome, detail, request_id],
    )
    return result.rowcount == 1


async def overdue_requests(
    conn: AsyncConnection, destinations: Sequence[str], now: datetime, answer_by: datetime
) -> list[RequestRow]:
    """Return the unsettled requests that nobody took in time, or that were taken before `answer_by`; locks them."""
    async with conn.cursor(row_factory=class_row(RequestRow)) as cur:
        await cur.execute(
            """
            select * from accounts.operator_requests
            where destination = any(%s) and done_at is null and (taken_at is null and expires_at <= %s or taken_at < %s)
            order by id for update skip locked
            """,
            [list(destinations), now, answer_by],
        )
        return await cur.fetchall()


async def newest_requests(conn: AsyncConnection, destination: str, limit: int) -> list[RequestRow]:
    """Return the newest requests of an account, newest first."""
    async with conn.cursor(row_factory=class_row(RequestRow)) as cur:
        await cur.execute(
            "select * from accounts.operator_requests where destination = %s order by id desc limit %s",
            [destination, limit],
        )
        return await cur.fetchall()


async def request_by_id(conn: AsyncConnection, destination: str, request_id: int) -> RequestRow | None:
    """Return a request of an account, None if it has none of this id."""
    async with conn.cursor(row_factory=class_row(RequestRow)) as cur:
        await cur.execute(
            "select * from accounts.operator_requests where destination = %s and id = %s", [destination, request_id]
        )
        return await cur.fetchone()


async def pauses(conn: AsyncConnection) -> list[PauseRow]:
    """Return every paused worker."""
    async with conn.cursor(row_factory=class_row(PauseRow)) as cur:
        await cur.execute("select destination, kind, paused_by, paused_at from accounts.worker_pauses")
        return await cur.fetchall()


async def save_pause(conn: AsyncConnection, pause: PauseRow) -> bool:
    """Note that a worker is paused; False if it was paused already."""
    result = await conn.execute(
        "insert into accounts.worker_pauses (destination, kind, paused_by, paused_at) values (%s, %s, %s, %s)"
        " on conflict do nothing",
        [pause.destination, pause.kind, pause.paused_by, pause.paused_at],
    )
    return result.rowcount == 1


async def delete_pause(conn: AsyncConnection, destination: str, kind: str) -> bool:
    """Note that a worker is not paused any more; False if it was not."""
    result = await conn.execute(
        "delete from accounts.worker_pauses where destination = %s and kind = %s", [destination, kind]
    )
    return result.rowcount == 1
