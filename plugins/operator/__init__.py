"""Operators' hands: the `worker` commands, and the panel of what was asked and what became of it."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import click
from psycopg import AsyncConnection

from coldharbour import commands, requests
from coldharbour.clock import SystemClock
from coldharbour.db import Database
from coldharbour.errors import Transient
from coldharbour.hookspecs import PanelSpec, hookimpl
from coldharbour.registry import Assignment
from coldharbour.requests import TIME_LIMIT, Action, Outcome, request_channel
from coldharbour.requests.store import RequestRow, newest_requests, request_by_id

ROWS = 12
GRACE_S = 5.0  # after the time limit, for whoever runs to say that it has passed


async def newest(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the newest requests of an account."""
    return {"slug": slug, "requests": await newest_requests(conn, slug, ROWS)}


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show the requests where actions are on."""
    return [
        PanelSpec(
            key="requests", title="Requests", package=__name__, template="requests.html", topic="request_channel",
            load=newest, place="wide", rank=90,
        )
    ]  # fmt: skip


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour worker pause`, `resume` and `cycle`."""

    @cli.group()
    def worker() -> None:
        """Ask running workers to pause, to go on, or to run a cycle now."""

    for action, text in (
        (Action.PAUSE, "Pause a worker of KIND, until it is resumed; a restart does not end that."),
        (Action.RESUME, "Let a paused worker of KIND go on."),
        (Action.CYCLE, "Have a running worker of KIND begin its next cycle now."),
    ):
        worker.add_command(_command(action, text))


def _command(action: Action, text: str) -> click.Command:
    @click.command(action.value, help=text)
    @click.argument("kind")
    @commands.config_option
    @commands.destination_option
    def ask(kind: str, config: Path, destinations: tuple[str, ...]) -> None:
        loaded = commands.load(config)
        assignments = [each for each in loaded.select((), destinations, (kind,)) if each.slug]
        if not assignments:
            raise click.UsageError(f"{kind} is not a worker of these accounts")
        settled = loaded.run(lambda: _ask_all(loaded, assignments, action))
        for row in settled:
            click.echo(f"{row.destination}: {row.worker}: {row.outcome}: {row.detail}")
        if any(row.outcome != Outcome.DONE for row in settled):
            raise SystemExit(1)

    return ask


async def _ask_all(loaded: commands.Loaded, assignments: list[Assignment], action: Action) -> list[RequestRow]:
    async with loaded.database("worker") as db:
        return [await _ask(db, assignment, action) for assignment in assignments]


async def _ask(db: Database, assignment: Assignment, action: Action) -> RequestRow:
    """Ask, and return the request once it is settled."""
    slug, kind, clock = assignment.slug, assignment.worker.spec.kind, SystemClock()
    async with db.transaction() as conn:
        asked = await requests.ask(
            conn, destination=slug, worker=kind, action=action, now=clock.now(),
            asked_by=f"{getpass.getuser()} at the command line",
        )  # fmt: skip
    await requests.announce(db, slug)
    with anyio.move_on_after(TIME_LIMIT.total_seconds() + GRACE_S):
        async with db.listener() as listener, listener.subscribe(request_channel(slug)) as notes:
            async for _ in notes:
                if (row := await _settled(db, asked)) is not None:
                    return row
    async with db.transaction() as conn:  # nobody runs who would have said so
        await requests.expire(conn, [slug], clock.now())
    await requests.announce(db, slug)
    row = await _settled(db, asked)
    if row is None:
        raise Transient(f"{kind} of {slug} took the request and has not answered", hint="the page shows its outcome")
    return row


async def _settled(db: Database, asked: RequestRow) -> RequestRow | None:
    async with db.transaction() as conn:
        row = await request_by_id(conn, asked.destination, asked.id)
    return row if row is not None and row.outcome is not None else None
