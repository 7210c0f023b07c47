"""The command `coldharbour limits`: how each day's loss stands, and the way back from a latched limit."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path

import click
from psycopg import AsyncConnection

from coldharbour import commands
from coldharbour.clock import SystemClock
from coldharbour.db import Database, notify
from coldharbour.events import LossLimitReset
from coldharbour.journal import announce, record
from coldharbour.risk.flattening import store as flattens
from coldharbour.risk.losses import store
from coldharbour.risk.losses.model import Latch, Watch

group_option = click.option("--group", is_flag=True, help="The limits that all accounts share.")


@click.group()
def limits() -> None:
    """Day's losses and the limits that were reached."""


@limits.command()
@commands.config_option
@commands.destination_option
def status(config: Path, destinations: tuple[str, ...]) -> None:
    """Print how each session stands; exit 1 if a limit is latched."""
    loaded = commands.load(config)
    slugs = [destination.slug for destination in loaded.chosen_destinations(destinations)]

    async def show() -> bool:
        async with loaded.database("limits") as db, db.transaction() as conn:
            watches = await store.watches(conn, [*slugs, store.TOGETHER])
            latched = [latch for latch in await store.latches(conn) if latch.destination in (*slugs, store.TOGETHER)]
            flattened = [line for slug in slugs for line in await _flattened(conn, slug, latched)]
        for watch in watches:
            click.echo(_standing(watch))
        for latch in latched:
            click.echo(
                f"{_name(latch.destination)}: {latch.stage} since {latch.latched_at:%Y-%m-%d %H:%M:%S}: {latch.note}"
            )
        for line in flattened:
            click.echo(line)
        return bool(latched)

    raise SystemExit(1 if loaded.run(show) else 0)


@limits.command()
@commands.config_option
@commands.destination_option
@group_option
def reset(config: Path, destinations: tuple[str, ...], group: bool) -> None:
    """Reset the latched limits of accounts, or those that all share; the same stages count on from here."""
    loaded = commands.load(config)
    if not destinations and not group:
        raise click.UsageError("say whose limits: --destination D, or --group")
    slugs = [destination.slug for destination in loaded.chosen_destinations(destinations)] if destinations else []
    everyone = [destination.slug for destination in loaded.configuration.destinations]

    async def run() -> None:
        async with loaded.database("limits") as db:
            for destination in [*slugs, *([store.TOGETHER] if group else [])]:
                gone = await _reset(db, destination)
                click.echo(f"{_name(destination)}: {', '.join(latch.stage for latch in gone) or 'nothing'} reset")
            for slug in everyone if group else slugs:
                await notify(db, f"risk_channel_{slug}", "{}")

    loaded.run(run)


async def _reset(db: Database, destination: str) -> Sequence[Latch]:
    now, by = SystemClock().now(), f"{getpass.getuser()}, command line"
    async with db.transaction() as conn:
        gone = await store.reset_latch(conn, destination, by, now)
        if gone:
            reset = LossLimitReset(at=now, stages=", ".join(latch.stage for latch in gone), by=by)
            await record(conn, destination, [reset])
    if gone:
        await announce(db, destination)
    return gone


async def _flattened(conn: AsyncConnection, slug: str, latched: Sequence[Latch]) -> list[str]:
    """Return in words what the newest flatten of an account did or does, while its limit is latched."""
    run = await flattens.newest_run(conn, slug)
    if run is None or not (run.ended_at is None or any(run.is_of(latch) for latch in latched)):
        return []
    state = "dry run" if run.is_dry_run else "under way" if run.ended_at is None else "ended"
    lines = [f"{slug}: flatten begun {run.begun_at:%Y-%m-%d %H:%M:%S} UTC, {state}"]
    for each in await flattens.targets_of(conn, run):
        detail = each.detail or "to be closed"
        lines.append(f"{slug}: {each.symbol}: {each.state.replace('_', ' ')}: {detail}")
    return lines


def _standing(watch: Watch) -> str:
    day = watch.day
    result = f"{day.day_pnl:+,.2f} on {day.baseline:,.2f} at {day.as_of:%Y-%m-%d %H:%M} UTC" if day else "no result yet"
    return f"{_name(watch.destination)}: {result}{f'; blind: {watch.blind}' if watch.blind else ''}"


def _name(destination: str) -> str:
    return destination or "all together"
