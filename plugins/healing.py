"""The `healing` worker: asks again for what a window, a stream or a page may have missed."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.broker import Priority
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.lake.changes import Recorded
from coldharbour.lake.completeness import store as completeness
from coldharbour.lake.gaps import OVERLAP
from coldharbour.lake.pull import Puller
from coldharbour.lake.writer import Lake, fill_events


class HealingSettings(BaseModel, frozen=True, extra="forbid"):
    """How often and how far back healing looks."""

    interval_s: float = Field(300, gt=0, description="Seconds between cycles while the stream is up.")
    blind_interval_s: float = Field(10, gt=0, description="Seconds between cycles while the stream is down.")
    lookback_s: float = Field(600, gt=0, description="Seconds of overlap that every cycle reads again.")
    late_days: float = Field(7, ge=0, description="Days in which dividends, fees and transfers may still appear.")


async def heal(ctx: AccountContext, cfg: HealingSettings) -> float | None:
    """Bring the recent window, late activities, and every order that may have changed unseen.

    While the stream is down it reads from where the blindness began, and comes again sooner.
    """
    now = ctx.clock.now()
    lake = Lake(ctx.destination.slug, ctx.db, ctx.clock)
    puller = Puller(lake, ctx.broker, ctx.alive, Priority.HEAL)
    async with ctx.db.transaction() as conn:
        gaps = await completeness.open_gaps(conn, lake.slug)
    since = min([now - timedelta(seconds=cfg.lookback_s), *(gap.blind_from - OVERLAP for gap in gaps)])
    recorded = await puller.missed(since, thorough=not gaps)
    if not gaps:
        recorded += await puller.activities(now - timedelta(days=cfg.late_days), category="non_trade_activity")
    for event in fill_events(recorded):
        ctx.emit(event)
    await _credit(ctx, recorded)
    return cfg.blind_interval_s if gaps else None


async def _credit(ctx: AccountContext, recorded: Recorded) -> None:
    slug = ctx.destination.slug
    async with ctx.db.transaction() as conn:
        for gap in await completeness.open_gaps(conn, slug):
            await completeness.credit_gap(conn, slug, gap.id, len(recorded.order_news), len(recorded.new_fills))
    if recorded.order_news or recorded.new_fills:
        ctx.log.info("healing.recovered", orders=len(recorded.order_news), fills=len(recorded.new_fills))


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `healing` worker."""
    return [
        WorkerSpec(
            kind="healing", settings=HealingSettings, run=heal, every="interval_s", service="ingest", stall_s=120
        )
    ]
