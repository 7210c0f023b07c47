"""The `closed_trades` worker: archives every closing as the lake tells of it, and how far prices went meanwhile."""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus
from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.broker import BrokerRefused
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.live.closed_trades import ClosedTrades
from coldharbour.live.following import FollowedBook, wakeups
from coldharbour.live.measuring import Measuring


class ClosedTradesSettings(BaseModel, frozen=True, extra="forbid"):
    """How closed trades are archived."""

    interval_s: float = Field(60, gt=0, description="Seconds between looks at the lake when nothing wakes the worker.")
    measured_per_round: int = Field(100, ge=0, description="Trades whose extremes are looked up in one interval.")


async def measure_for_ever(ctx: AccountContext, cfg: ClosedTradesSettings, archive: ClosedTrades) -> None:
    """Measure a round in every interval; a broker that is away only delays it."""
    measuring, failing = Measuring(ctx), False
    while True:
        try:
            await archive.tell(await measuring.measure(cfg.measured_per_round))
        except (Transient, BrokerRefused) as error:
            if isinstance(error, NeedsOperator):
                raise
            if not failing:
                ctx.log.warning("extremes.waiting", error=str(error))
            failing = True
        else:
            if failing:
                ctx.log.info("extremes.recovered")
            failing = False
        await ctx.clock.sleep(cfg.interval_s)


async def archive_closings(ctx: AccountContext, cfg: ClosedTradesSettings, *, task_status: TaskStatus[None]) -> None:
    """Keep the account's closed trades what the lake says, within milliseconds of each closing."""
    followed = FollowedBook(ctx.db, ctx.destination.slug, ctx.destination.market, ctx.clock)
    archive = ClosedTrades(ctx.db, followed, ctx.emit)
    channel = f"raw_channel_{ctx.destination.slug}"
    async with wakeups(ctx.db, channel, poll_s=cfg.interval_s) as wait, anyio.create_task_group() as tasks:
        await followed.load(lambda done, expected: ctx.alive())
        ctx.alive()
        await archive.write_all()
        task_status.started()
        tasks.start_soon(measure_for_ever, ctx, cfg, archive)
        while True:
            await wait()
            if await followed.catch_up():
                await archive.write()


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `closed_trades` worker."""
    return [
        WorkerSpec(
            kind="closed_trades", settings=ClosedTradesSettings, run=archive_closings, service="manage", stall_s=300
        )
    ]
