"""The `breakeven` worker: moves each stop to break-even once its trade has earned it, and records why it did or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import anyio
from anyio.abc import TaskStatus
from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.requests import request_channel
from coldharbour.risk.asked import AskedMoves
from coldharbour.risk.holds import Limits
from coldharbour.risk.keeper import StopKeeper
from coldharbour.risk.model import BreakevenRule
from coldharbour.sessions import REGULAR_HOURS


class BreakevenSettings(BaseModel, frozen=True, extra="forbid"):
    """When stops move, and what keeps them from it."""

    interval_s: float = Field(60, gt=0, description="Seconds between evaluations of every lot.")
    trigger_r: Decimal = Field(
        Decimal(2), gt=0, description="Profit, in units of the initial risk R, that arms a move."
    )
    min_gap: Decimal = Field(
        Decimal("0.01"), ge=0, description="Money per share between the entry and its break-even stop."
    )
    dry_run: bool = Field(False, description="Evaluate and record everything, and send nothing.")
    max_price_age_s: float = Field(
        900, gt=0, description="Seconds after which a symbol's last trade is too old to decide by."
    )
    max_quiet_s: float = Field(
        120, gt=0, description="Seconds without a trade after which a symbol may be halted and no stop of it is moved."
    )
    max_jump_pct: Decimal = Field(
        Decimal(10), gt=0, description="Percent by which a price may differ from the one it is compared with."
    )
    max_move_pct: Decimal = Field(
        Decimal(25), gt=0, description="Percent of the entry price by which one move may tighten a stop."
    )
    symbol_failures: int = Field(
        3, gt=0, description="Failed moves in a row after which a symbol is left alone for the session."
    )
    account_failures: int = Field(
        10, ge=0, description="Refused or unanswered moves within ten minutes above which the account sends none."
    )
    concurrency: int = Field(4, gt=0, description="Stops that are moved at the same time.")
    keep_routine_days: float = Field(30, gt=0, description="Days that evaluations without an action are kept.")


@asynccontextmanager
async def stop_keeper(ctx: AccountContext, cfg: BreakevenSettings) -> AsyncIterator[StopKeeper]:
    """Lend a keeper of the account's stops that has begun; its moves are made as long as the block lasts."""
    rule = BreakevenRule(
        trigger_r=cfg.trigger_r, min_gap=cfg.min_gap, max_silence_s=ctx.prices.max_silence_s,
        max_price_age_s=cfg.max_price_age_s, max_quiet_s=cfg.max_quiet_s, max_jump_pct=cfg.max_jump_pct,
        dry_run=cfg.dry_run or not ctx.destination.armed,
    )  # fmt: skip
    limits = Limits(
        max_move_pct=cfg.max_move_pct, symbol_failures=cfg.symbol_failures, account_failures=cfg.account_failures
    )
    with ctx.prices.watch() as watch:
        async with anyio.create_task_group() as tasks:
            keeper = StopKeeper(
                ctx, watch, tasks, rule, limits, interval_s=cfg.interval_s, concurrency=cfg.concurrency,
                keep_routine_days=cfg.keep_routine_days,
            )  # fmt: skip
            await keeper.begin()
            yield keeper


async def keep_stops(ctx: AccountContext, cfg: BreakevenSettings, *, task_status: TaskStatus[None]) -> None:
    """Evaluate the account's lots every interval, and at once when a trigger is touched or somebody asks."""
    async with (
        stop_keeper(ctx, cfg) as keeper,
        ctx.db.listener() as listener,
        listener.subscribe(f"pos_channel_{keeper.slug}", only='{"op":') as notes,
        listener.subscribe(request_channel(keeper.slug)) as calls,
        anyio.create_task_group() as tasks,
    ):
        asked = AskedMoves(keeper)
        tasks.start_soon(keeper.follow, notes)
        tasks.start_soon(asked.follow, calls)
        tasks.start_soon(asked.run)
        task_status.started()
        await keeper.run()


async def keep_stops_once(ctx: AccountContext, cfg: BreakevenSettings) -> None:
    """Evaluate every lot once, and see the moves through."""
    async with stop_keeper(ctx, cfg) as keeper:
        await keeper.cycle()
        await keeper.until_settled()


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `breakeven` worker."""
    return [
        WorkerSpec(
            kind="breakeven", settings=BreakevenSettings, run=keep_stops, cycle=keep_stops_once, service="risk",
            phases=REGULAR_HOURS, stall_s=120, uses_prices=True,
        )
    ]  # fmt: skip
