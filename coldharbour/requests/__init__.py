"""Operators' requests: asked by a page or a command, taken by a worker, settled with an outcome; executes nothing.

Each request is on record before anything happens and after, in its row and in the journal. One that nobody took
before its time limit is never executed late: it expires, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from psycopg import AsyncConnection

from coldharbour.db import Database, notify
from coldharbour.events import OperatorAnswered, OperatorAsked
from coldharbour.journal import record
from coldharbour.requests import store
from coldharbour.requests.store import RequestRow

TIME_LIMIT = timedelta(seconds=60)  # what a person asked for is not what they want a minute later
ANSWER_LIMIT = timedelta(minutes=10)  # a taker that is silent for so long has ended


class Action(StrEnum):
    """What can be asked of a worker."""

    PAUSE = "pause"
    RESUME = "resume"
    CYCLE = "cycle"
    BREAKEVEN = "breakeven"
    RESET_LATCH = "reset_latch"


class Outcome(StrEnum):
    """What became of a request."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    EXPIRED = "expired"
    LOST = "lost"


def request_channel(destination: str) -> str:
    """Return the channel that tells of an account's new requests and their outcomes."""
    return f"request_channel_{destination}"


async def ask(
    conn: AsyncConnection,
    *,
    destination: str,
    worker: str,
    action: Action,
    asked_by: str,
    now: datetime,
    parameters: dict[str, str] | None = None,
    time_limit: timedelta = TIME_LIMIT,
) -> RequestRow:
    """Put a request on record and return it; asking again while it is open returns the open one.

    The caller commits, then calls `announce`.
    """
    await expire(conn, [destination], now)
    wanted = parameters or {}
    request, is_new = await store.save_request(
        conn, destination=destination, worker=worker, action=action, parameters=wanted,
        asked_by=asked_by, asked_at=now, expires_at=now + time_limit,
    )  # fmt: skip
    if is_new:
        asked = OperatorAsked(
            at=now, request_id=request.id, worker=worker, action=action, asked_by=asked_by,
            parameters=", ".join(f"{key} {value}" for key, value in sorted(wanted.items())),
        )  # fmt: skip
        await record(conn, destination, [asked])
    return request


async def take(
    conn: AsyncConnection, destination: str, worker: str, actions: Iterable[Action], now: datetime
) -> list[RequestRow]:
    """Return the requests that a worker shall act on now, oldest first; nobody else gets them.

    Each must be settled. What is overdue expires instead. The caller commits before it acts.
    """
    await expire(conn, [destination], now)
    return await store.take_requests(conn, destination, worker, [*actions], now)


async def settle(
    conn: AsyncConnection, request: RequestRow, outcome: Outcome, detail: str = "", *, now: datetime
) -> None:
    """Put the outcome of a request on record; the first one stays. The caller commits, then calls `announce`."""
    if await store.settle_request(conn, request.id, outcome, detail, now):
        answered = OperatorAnswered(
            at=now, request_id=request.id, worker=request.worker, action=request.action, outcome=outcome, detail=detail
        )
        await record(conn, request.destination, [answered])


async def expire(conn: AsyncConnection, destinations: Sequence[str], now: datetime) -> list[RequestRow]:
    """Settle what nobody took in time, and what was taken and never answered; return these requests."""
    overdue = await store.overdue_requests(conn, destinations, now, now - ANSWER_LIMIT)
    for request in overdue:
        if request.taken_at is None:
            await settle(conn, request, Outcome.EXPIRED, "no running worker took it in time", now=now)
        else:
            await settle(conn, request, Outcome.LOST, "it was taken, and its outcome never reported", now=now)
    return overdue


async def announce(db: Database, destination: str) -> None:
    """Wake who waits for an account's requests or their outcomes; call it after the commit."""
    await notify(db, request_channel(destination), "{}")
    await notify(db, f"event_channel_{destination}", "{}")
