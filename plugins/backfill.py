"""The `backfill` worker and command: the account's whole history, page by page, from the last completed one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from pydantic import BaseModel, Field

from coldharbour import commands
from coldharbour.accounts import AccountContext
from coldharbour.broker import Priority
from coldharbour.clock import SystemClock
from coldharbour.destinations import Destination
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.lake.completeness import store as completeness
from coldharbour.lake.pull import Puller, catch_up_activities, catch_up_orders
from coldharbour.lake.writer import Lake

PROGRESS_EVERY_S = 2.0

Report = Callable[[str, datetime, int], None]


class BackfillSettings(BaseModel, frozen=True, extra="forbid"):
    """How history is brought up to date."""

    interval_s: float = Field(3600, gt=0, description="Seconds between looks for history behind the cursor.")
    overlap_days: float = Field(7, ge=0, description="Days read again behind a finished walk: rows may come late.")


async def backfill(ctx: AccountContext, cfg: BackfillSettings) -> None:
    """Bring everything from the contiguous cursor to now; a crash resumes at the last completed page."""
    said_s = 0.0

    def report(what: str, reached: datetime, rows: int) -> None:
        nonlocal said_s
        if ctx.clock.monotonic() - said_s > PROGRESS_EVERY_S:
            said_s = ctx.clock.monotonic()
            ctx.log.info("backfill.progress", what=what, reached=f"{reached:%Y-%m-%d %H:%M}", rows=rows)

    puller = Puller(Lake(ctx.destination.slug, ctx.db, ctx.clock), ctx.broker, ctx.alive, Priority.BULK)
    rows = await catch_up(puller, overlap=timedelta(days=cfg.overlap_days), report=report)
    ctx.log.info("backfill.complete", rows=rows)
    if rows:
        ctx.wake("equity")  # which looks once a minute: a first history should not have to wait for that


async def catch_up(puller: Puller, *, overlap: timedelta, report: Report) -> int:
    """Walk orders, then activities, then the orders that their fills prove stale; return how many rows were read."""
    lake = puller.lake
    rows = await catch_up_orders(
        puller, started_at=lake.clock.now(), on_page=lambda reached, count: report("orders", reached, count)
    )
    rows += await catch_up_activities(
        puller,
        started_at=lake.clock.now(),
        overlap_from=lambda position: position - overlap,
        on_page=lambda reached, count: report("activities", reached, count),
    )
    async with lake.db.transaction() as conn:
        stale = await completeness.orders_behind_their_fills(conn, lake.slug)
        await completeness.refresh_history_meta(conn, lake.slug)
    await puller.by_id(stale)
    return rows


async def pull_window(puller: Puller, since: datetime | None, until: datetime | None, *, report: Report) -> int:
    """Bring what was submitted or done between two moments, whatever the cursors say; they stay where they are."""
    rows = 0
    async for page in puller.broker.walk_orders(since, until, priority=puller.priority):
        await puller.lake.write_orders(page.orders, page.malformed)
        rows += len(page.orders)
        report("orders", page.resume_after or since or puller.lake.clock.now(), rows)
    async for found in puller.broker.walk_activities(since, until, priority=puller.priority):
        recorded = await puller.lake.write_activities(found.activities, found.malformed)
        await puller.complete(recorded)
        rows += len(found.activities)
        report(
            "activities",
            max(
                (moment for a in found.activities if (moment := a.transaction_time)),
                default=until or puller.lake.clock.now(),
            ),
            rows,
        )
    return rows


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour backfill`."""
    moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])

    @cli.command("backfill")
    @commands.config_option
    @click.option("--destination", required=True, help="The account (TOML key or slug).")
    @click.option("--since", type=moment, help="UTC; from the last completed page if left out.")
    @click.option("--until", type=moment, help="UTC; now if left out.")
    def pull_history(config: Path, destination: str, since: datetime | None, until: datetime | None) -> None:
        """Pull an account's history into the lake; safe to stop, and to repeat."""
        loaded = commands.load(config)
        chosen = loaded.configuration.destination(destination)
        rows = loaded.run(lambda: _pull(loaded, chosen, _utc(since), _utc(until)))
        click.echo(f"{chosen.name}: {rows} rows read")


async def _pull(
    loaded: commands.Loaded, destination: Destination, since: datetime | None, until: datetime | None
) -> int:
    clock = SystemClock()
    async with loaded.database("backfill") as db, loaded.broker(destination) as broker:
        puller = Puller(Lake(destination.slug, db, clock), broker, lambda: None, Priority.BULK)
        begin = since or (await broker.account()).created_at or clock.now() - timedelta(days=365)
        end = until or clock.now()
        with commands.progress(f"backfill {destination.name}") as show:

            def report(what: str, reached: datetime, rows: int) -> None:
                share = (reached - begin) / max(end - begin, timedelta(seconds=1))
                half = 0.5 if what == "activities" else 0.0
                show(half + min(max(share, 0.0), 1.0) / 2, f"{what} to {reached:%Y-%m-%d}, {rows} rows")

            if since or until:
                return await pull_window(puller, since, until, report=report)
            return await catch_up(puller, overlap=timedelta(days=7), report=report)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `backfill` worker."""
    return [
        WorkerSpec(
            kind="backfill", settings=BackfillSettings, run=backfill, every="interval_s", service="ingest", stall_s=120
        )
    ]
