"""The `backfill` worker and command: the account's whole history, page by page, from the last completed one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.broker import Priority
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.lake import store
from coldharbour.lake.pull import Puller, catch_up_activities, catch_up_orders
from coldharbour.lake.writer import Lake

Progress = Callable[[str, datetime, int], None]


class BackfillSettings(BaseModel, frozen=True, extra="forbid"):
    """How history is brought up to date."""

    interval_s: float = Field(3600, gt=0, description="Seconds between looks for history behind the cursor.")
    overlap_days: float = Field(7, ge=0, description="Days read again behind a finished walk: rows may come late.")


async def backfill(ctx: AccountContext, cfg: BackfillSettings) -> None:
    """Bring everything from the contiguous cursor to now; a crash resumes at the last completed page."""

    def report(what: str, reached: datetime, rows: int) -> None:
        ctx.log.info("backfill.progress", what=what, reached=reached.isoformat(timespec="seconds"), rows=rows)

    await catch_up(ctx, cfg, report)


async def catch_up(ctx: AccountContext, cfg: BackfillSettings, report: Progress) -> int:
    """Walk orders, then activities, then what they point at; return how many rows were read."""
    lake = Lake(ctx.destination.slug, ctx.db, ctx.clock)
    puller = Puller(lake, ctx.broker, ctx.alive, Priority.BULK)
    overlap = timedelta(days=cfg.overlap_days)
    rows = await catch_up_orders(
        puller, started_at=ctx.clock.now(), on_page=lambda reached, count: report("orders", reached, count)
    )
    rows += await catch_up_activities(
        puller,
        started_at=ctx.clock.now(),
        overlap_from=lambda position: position - overlap,
        on_page=lambda reached, count: report("activities", reached, count),
    )
    async with ctx.db.transaction() as conn:
        stale = await store.orders_behind_their_fills(conn, lake.slug)
        await store.refresh_history_meta(conn, lake.slug)
    await puller.by_id(stale)
    return rows


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `backfill` worker."""
    return [WorkerSpec(kind="backfill", settings=BackfillSettings, run=backfill, every="interval_s", service="ingest")]
