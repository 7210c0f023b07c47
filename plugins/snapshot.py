"""The `snapshot` worker: keeps the open trades in step with the lake, and compares them with the broker's positions."""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus
from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.broker import BrokerRefused
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.live.findings import store as findings
from coldharbour.live.following import AREA, FollowedBook, wakeups
from coldharbour.live.open_trades import OpenTrades
from coldharbour.live.positions.comparison import Answer, PositionComparison, ask

LOGGED_AT_ONCE = 20  # findings; all of them stand in the table


class SnapshotSettings(BaseModel, frozen=True, extra="forbid"):
    """How closely the open trades are kept."""

    interval_s: float = Field(60, gt=0, description="Seconds between comparisons with the broker's positions.")
    recheck_s: float = Field(
        10, gt=0, description="Seconds to the next comparison after a new difference, or without an answer."
    )
    poll_s: float = Field(5, gt=0, description="Seconds between looks at the lake when nothing wakes the worker.")


class Snapshot:
    """One run of the worker: the book, its table, and the comparison, one at a time."""

    def __init__(self, ctx: AccountContext, cfg: SnapshotSettings) -> None:
        self.ctx, self.cfg = ctx, cfg
        self.followed = FollowedBook(ctx.db, ctx.destination.slug, ctx.destination.market, ctx.clock)
        self.trades = OpenTrades(ctx.db, self.followed)
        self.comparison = PositionComparison(ctx, self.followed)
        self._problems: dict[str, str] | None = None
        self._unanswered = False
        self._turn = anyio.Lock()

    async def seed(self) -> None:
        """Read the whole ledger, and make the table what it says."""
        await self.followed.load(lambda done, expected: self.ctx.alive())
        self.ctx.alive()
        await self.trades.write_all()

    async def catch_up(self) -> None:
        """Move book and table on to what the lake holds now."""
        async with self._turn:
            touched = await self.followed.catch_up()
            if touched:
                await self.trades.write(touched)

    async def compare_for_ever(self) -> None:
        """Compare with the broker now and then; without an answer everything stays as it is."""
        while True:
            await self._settle_problems()
            answer = await self._ask()
            is_settled = answer is not None and not await self._compare(answer)
            await self.ctx.clock.sleep(self.cfg.interval_s if is_settled else self.cfg.recheck_s)

    async def _ask(self) -> Answer | None:
        try:
            answer = await ask(self.ctx)
        except (Transient, BrokerRefused) as error:
            if isinstance(error, NeedsOperator):
                raise
            if not self._unanswered:
                self.ctx.log.warning("positions.unanswered", error=str(error))
            self._unanswered = True
            return None
        if self._unanswered:
            self.ctx.log.info("positions.answered")
        self._unanswered = False
        return answer

    async def _compare(self, answer: Answer) -> bool:
        await self.catch_up()  # the broker may have told us meanwhile what its answer knows
        async with self._turn:
            is_new = await self.comparison.compare(answer)
            await self.trades.take_averages()
        if is_new:
            self.ctx.wake("healing")
        return is_new

    async def _settle_problems(self) -> None:
        """Record what could not be settled when that changed; each finding is logged once.

        Not at every change: an order may be named a moment before it is told of.
        """
        problems = self.followed.problems
        if problems == self._problems:
            return
        async with self.ctx.db.transaction() as conn:
            found, resolved = await findings.settle(conn, self.followed.slug, AREA, problems, self.ctx.clock.now())
        self._problems = problems
        for problem in found[:LOGGED_AT_ONCE]:
            self.ctx.log.warning("book.unsettled", problem=problem)
        if len(found) > LOGGED_AT_ONCE:
            self.ctx.log.warning("book.unsettled", more=len(found) - LOGGED_AT_ONCE, where="accounts.findings")
        if resolved:
            self.ctx.log.info("book.settled", findings=resolved)


async def keep_open_trades(ctx: AccountContext, cfg: SnapshotSettings, *, task_status: TaskStatus[None]) -> None:
    """Keep the account's open trades what the lake says, within milliseconds of each change."""
    snapshot = Snapshot(ctx, cfg)
    channel = f"raw_channel_{ctx.destination.slug}"
    async with wakeups(ctx.db, channel, poll_s=cfg.poll_s) as wait, anyio.create_task_group() as tasks:
        await snapshot.seed()
        task_status.started()
        tasks.start_soon(snapshot.compare_for_ever)
        while True:
            await wait()
            await snapshot.catch_up()


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `snapshot` worker."""
    return [WorkerSpec(kind="snapshot", settings=SnapshotSettings, run=keep_open_trades, service="manage", stall_s=120)]
