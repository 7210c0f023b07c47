"""The workers `protection`, `group_limit` and `flatten`: shares without a live stop, and what a day may lose.

Only `flatten` ever sends an order, and only once a limit of its own was reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self

import click
from psycopg import AsyncConnection
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from coldharbour.accounts import AccountContext, SystemContext, WorkerContext
from coldharbour.clock import SystemClock
from coldharbour.db import notify
from coldharbour.hookspecs import PanelSpec, WorkerSpec, hookimpl
from coldharbour.journal import announce
from coldharbour.risk.flattening import store as flattens
from coldharbour.risk.losses import store as losses
from coldharbour.risk.losses.limits import LossLimit
from coldharbour.risk.losses.model import Stage
from coldharbour.risk.losses.watching import Rules, Verdict, look_at_account, look_at_all
from coldharbour.risk.protection import store
from coldharbour.risk.protection.guard import Look, look
from coldharbour.sessions import Phase

from .flatten import FlattenSettings, flatten
from .limits import limits

CHANNEL = "risk_channel"
SHORTEST_S = 0.2


class LossSettings(BaseModel, frozen=True, extra="forbid"):
    """What may be lost in a day."""

    warn_loss_pct: float = Field(
        0, ge=0, description="Day's loss to warn of, in percent of the previous close's equity."
    )
    warn_loss: Decimal = Field(Decimal(0), ge=0, description="Day's loss to warn of, in account currency.")
    halt_loss_pct: float = Field(0, ge=0, description="Day's loss that halts new entries, in percent likewise.")
    halt_loss: Decimal = Field(Decimal(0), ge=0, description="Day's loss that halts new entries, in account currency.")
    flatten_loss_pct: float = Field(
        0, ge=0, description="Day's loss at which open positions are closed, in percent likewise."
    )
    flatten_loss: Decimal = Field(
        Decimal(0), ge=0, description="Day's loss at which open positions are closed, in account currency."
    )
    max_minute_age_s: float = Field(
        180, gt=0, description="Seconds after which the newest minute of equity proves nothing any more."
    )

    @model_validator(mode="after")
    def _flatten_comes_last(self) -> Self:
        for key in ("loss_pct", "loss"):
            halts, flattens_at = getattr(self, f"halt_{key}"), getattr(self, f"flatten_{key}")
            if flattens_at and not 0 < halts <= flattens_at:
                problem = f"flatten_{key} = {flattens_at} needs a halt_{key} above 0 that is not larger; it is {halts}"
                raise PydanticCustomError("flatten_below_halt", "{problem}", {"problem": problem})
        return self

    @property
    def limits(self) -> tuple[LossLimit, ...]:
        """The limits as the rules take them, the mildest first."""
        return (
            LossLimit(Stage.WARN, self.warn_loss_pct, self.warn_loss),
            LossLimit(Stage.HALT, self.halt_loss_pct, self.halt_loss),
            LossLimit(Stage.FLATTEN, self.flatten_loss_pct, self.flatten_loss),
        )


class ProtectionSettings(LossSettings, frozen=True, extra="forbid"):
    """How closely an account is watched."""

    interval_s: float = Field(5, gt=0, description="Seconds between looks when nothing wakes the worker.")
    grace_s: float = Field(
        5,
        ge=0,
        description="Seconds that shares may be without a live stop, for legs that are being placed or replaced.",
    )
    warn_days: int = Field(5, ge=0, description="Whole days before a lot's legs expire from which it is warned of.")
    max_price_age_s: float = Field(
        900, gt=0, description="Seconds after which an open symbol's price makes a day's loss uncertain."
    )


class GroupLimitSettings(LossSettings, frozen=True, extra="forbid"):
    """What all accounts together may lose in a day."""

    interval_s: float = Field(5, gt=0, description="Seconds between looks.")


async def protect(ctx: AccountContext, cfg: ProtectionSettings) -> float | None:
    """Look once at an account: what has no live stop, what expires soon, how much of a day's loss is used up."""
    now, slug = ctx.clock.now(), ctx.destination.slug
    found = await look(
        ctx.db, slug, now, grace=timedelta(seconds=cfg.grace_s), warn_days=cfg.warn_days, lease=ctx.lease
    )
    _log_exposure(ctx, found)
    rules = Rules(
        limits=cfg.limits,
        max_minute_age=timedelta(seconds=cfg.max_minute_age_s),
        max_price_age=timedelta(seconds=cfg.max_price_age_s),
        lease=ctx.lease,
    )
    verdict = await look_at_account(ctx.db, slug, now, rules, is_open=ctx.phase() is Phase.REGULAR)
    _log_loss(ctx, verdict)
    if found.events or verdict.events:
        await announce(ctx.db, slug)
    if found.changes or verdict.changed:
        await notify(ctx.db, f"{CHANNEL}_{slug}", "{}")
    due_at = found.changes.due_at
    return None if due_at is None else min(max((due_at - now).total_seconds(), SHORTEST_S), cfg.interval_s)


async def watch_group(ctx: SystemContext, cfg: GroupLimitSettings) -> None:
    """Compare the sum of all accounts' sessions with the limits that they share."""
    slugs = [destination.slug for destination in ctx.configuration.destinations]
    rules = Rules(limits=cfg.limits, max_minute_age=timedelta(seconds=cfg.max_minute_age_s))
    verdict = await look_at_all(ctx.db, slugs, ctx.clock.now(), rules)
    _log_loss(ctx, verdict)
    if verdict.events:
        await announce(ctx.db, losses.TOGETHER)
    if verdict.changed:
        for slug in slugs:
            await notify(ctx.db, f"{CHANNEL}_{slug}", "{}")


def _log_exposure(ctx: AccountContext, found: Look) -> None:
    for each in found.changes.raised:
        ctx.log.warning(
            "position.unprotected", symbol=each.symbol, parent_id=each.parent_id, qty=str(each.qty), reason=each.reason
        )
    for each in found.changes.healed:
        ctx.log.info("position.protected", symbol=each.symbol, parent_id=each.parent_id)
    for lot in found.expiring:
        ctx.log.warning("stop.expiring", symbol=lot.symbol, parent_id=lot.parent_id, expires_at=str(lot.expires_at))


def _log_loss(ctx: WorkerContext, verdict: Verdict) -> None:
    for event in verdict.events:
        ctx.log.warning("loss.limit_reached", stage=event.stage, day_pnl=str(event.day_pnl), limit=str(event.limit))


async def alarms(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read what a person must know now: shares without a stop, latched limits, and what cannot be seen."""
    now = SystemClock().now()
    watches = await losses.watches(conn, [slug, losses.TOGETHER])
    latched = await losses.latches_on(conn, slug)
    run = await flattens.newest_run(conn, slug)
    is_shown = run is not None and (run.ended_at is None or any(run.is_of(latch) for latch in latched))
    return {
        "slug": slug,
        "now": now,
        "episodes": await store.open_episodes(conn, slug),
        "latches": latched,
        "run": run if is_shown else None,
        "targets": await flattens.targets_of(conn, run) if run is not None and is_shown else [],
        "is_behind": not await store.are_lots_in_step(conn, slug, now),
        "blind": [watch for watch in watches if watch.blind and watch.is_limited],
    }


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the workers that watch one account and all of them together, and the one that acts on a limit."""
    return [
        WorkerSpec(
            kind="protection", settings=ProtectionSettings, run=protect, every="interval_s", service="risk",
            wake_on=("raw_channel",),  # not pos_channel: it tells of every batch of prices
        ),
        WorkerSpec(
            kind="group_limit", settings=GroupLimitSettings, run=watch_group, every="interval_s", service="risk",
            per_account=False,
        ),
        WorkerSpec(
            kind="flatten", settings=FlattenSettings, run=flatten, every="interval_s", service="risk",
            wake_on=(CHANNEL,), stall_s=120, uses_prices=True,
        ),
    ]  # fmt: skip


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show the alarms; without any the panel hides itself."""
    return [
        PanelSpec(
            key="alarms", title="Alarms", package=__name__, template="alarms.html", topic=CHANNEL, load=alarms,
            place="wide", rank=5,
        )
    ]  # fmt: skip


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour limits`."""
    cli.add_command(limits)
