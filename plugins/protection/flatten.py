"""The `flatten` worker: closes an account's positions once a limit of the day's loss says so; decides no limit."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.risk.flattening.flattener import Flattener
from coldharbour.risk.flattening.model import Rules
from coldharbour.risk.model import BreakevenRule


class FlattenSettings(BaseModel, frozen=True, extra="forbid"):
    """How positions are closed, and what keeps them from it; at which loss stands with the other limits."""

    interval_s: float = Field(5, gt=0, description="Seconds between looks when nothing wakes the worker.")
    dry_run: bool = Field(False, description="Say what would be closed, and send nothing.")
    kill_file: Path = Field(Path("var/kill"), description="While this file exists, nothing is canceled or closed.")
    max_minute_age_s: float = Field(
        180, gt=0, description="Seconds after which the newest look at the day's loss lets nothing begin."
    )
    max_quiet_s: float = Field(
        120, gt=0, description="Seconds without a trade after which a symbol may be halted and is not closed."
    )
    max_jump_pct: Decimal = Field(
        Decimal(10), gt=0, description="Percent by which a price may differ from the broker's own."
    )
    alarm_after_s: float = Field(30, gt=0, description="Seconds after which a position that is still open is told of.")


async def flatten(ctx: AccountContext, cfg: FlattenSettings) -> float | None:
    """Do what is to be done now: nothing, unless a limit is latched that has not been acted on."""
    rules = Rules(
        is_dry_run=cfg.dry_run or not ctx.destination.armed,
        kill_file=cfg.kill_file,
        prices=BreakevenRule(
            max_silence_s=ctx.prices.max_silence_s, max_quiet_s=cfg.max_quiet_s, max_jump_pct=cfg.max_jump_pct
        ),
        max_minute_age=timedelta(seconds=cfg.max_minute_age_s),
        alarm_after=timedelta(seconds=cfg.alarm_after_s),
    )
    return await Flattener(ctx, rules).attend()
