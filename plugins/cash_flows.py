"""The `cash_flows` worker: every activity that is no fill, as a row that says what kind of flow it is."""

from __future__ import annotations

from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.db import notify
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.live.activities.flows import follow_flows


class CashFlowSettings(BaseModel, frozen=True, extra="forbid"):
    """How often the lake is looked at for cash flows."""

    interval_s: float = Field(300, gt=0, description="Seconds between looks when nothing wakes it.")


async def keep_cash_flows(ctx: AccountContext, cfg: CashFlowSettings) -> None:
    """Bring the table of cash flows to what the lake says now, and say once what cannot be counted."""
    destination = ctx.destination
    changed, news = await follow_flows(ctx.db, destination.slug, destination.performance_types, ctx.clock.now())
    for finding in news:
        ctx.log.warning("cash_flows.uncounted", finding=finding)
    if changed or news:
        ctx.log.info("cash_flows.changed", rows=changed)
        await notify(ctx.db, f"equity_channel_{destination.slug}", '{"cash_flows":true}')


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `cash_flows` worker."""
    return [
        WorkerSpec(
            kind="cash_flows",
            settings=CashFlowSettings,
            run=keep_cash_flows,
            every="interval_s",
            wake_on=("raw_channel",),
            service="manage",
            stall_s=120,
        )
    ]
