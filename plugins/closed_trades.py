"""The `closed_trades` worker: archives every closing as the lake tells of it, and how far prices went meanwhile."""

from __future__ import annotations

from datetime import timedelta

import anyio
from anyio.abc import TaskStatus
from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.broker import BrokerRefused, Priority
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.live import store
from coldharbour.live.closed_trades import ClosedTrades
from coldharbour.live.extremes import extremes_of
from coldharbour.live.following import FollowedBook, wakeups
from coldharbour.live.store import ClosedKey, Unmeasured

BARS_SETTLE = timedelta(minutes=2)  # until then a minute's bar may still change


class ClosedTradesSettings(BaseModel, frozen=True, extra="forbid"):
    """How closed trades are archived."""

    interval_s: float = Field(60, gt=0, description="Seconds between looks at the lake when nothing wakes the worker.")
    measured_per_round: int = Field(20, ge=0, description="Trades whose extremes are looked up in one interval.")


class Measuring:
    """Finds the extremes of closed trades, a few at a time, newest first."""

    def __init__(self, ctx: AccountContext, archive: ClosedTrades, limit: int) -> None:
        self._ctx, self._archive, self._limit = ctx, archive, limit
        self._refused: set[ClosedKey] = set()  # the broker has no bars for them; a restart asks again

    async def measure(self) -> None:
        """Measure one round; what needs bars that still change waits for the next one."""
        slug = self._ctx.destination.slug
        async with self._ctx.db.transaction() as conn:
            waiting = await store.unmeasured_trades(conn, slug, self._limit + len(self._refused))
        chosen = [trade for trade in waiting if trade.key not in self._refused][: self._limit]
        await self._archive.tell([trade.key for trade in chosen if await self._measure(trade)])

    async def _measure(self, trade: Unmeasured) -> bool:
        held, bars = trade.holding, {}
        if held.unseen is not None:
            if held.exit_time > self._ctx.clock.now() - BARS_SETTLE:
                return False
            try:
                bars = await self._ctx.broker.bars([held.symbol], "1Min", *held.unseen, priority=Priority.BULK)
            except BrokerRefused as error:
                if isinstance(error, NeedsOperator):
                    raise
                self._refused.add(trade.key)
                self._ctx.log.debug("extremes.refused", symbol=held.symbol, error=str(error))
                return False
        async with self._ctx.db.transaction() as conn:
            await store.save_extremes(
                conn, self._ctx.destination.slug, trade, extremes_of(held, bars.get(held.symbol, ()))
            )
        return True

    async def for_ever(self, interval_s: float) -> None:
        """Measure a round in every interval; a broker that is away only delays it."""
        while True:
            try:
                await self.measure()
            except Transient as error:
                self._ctx.log.debug("extremes.waiting", error=str(error))
            await self._ctx.clock.sleep(interval_s)


async def archive_closings(ctx: AccountContext, cfg: ClosedTradesSettings, *, task_status: TaskStatus[None]) -> None:
    """Keep the account's closed trades what the lake says, within milliseconds of each closing."""
    followed = FollowedBook(ctx.db, ctx.destination.slug, ctx.destination.market, ctx.clock)
    archive = ClosedTrades(ctx.db, followed, ctx.emit)
    measuring = Measuring(ctx, archive, cfg.measured_per_round)
    channel = f"raw_channel_{ctx.destination.slug}"
    async with wakeups(ctx.db, channel, poll_s=cfg.interval_s) as wait, anyio.create_task_group() as tasks:
        await followed.load(lambda done, expected: ctx.alive())
        ctx.alive()
        await archive.write_all()
        task_status.started()
        tasks.start_soon(measuring.for_ever, cfg.interval_s)
        while True:
            await wait()
            await archive.write(await followed.catch_up())


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `closed_trades` worker."""
    return [
        WorkerSpec(
            kind="closed_trades", settings=ClosedTradesSettings, run=archive_closings, service="manage", stall_s=300
        )
    ]
