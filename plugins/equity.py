"""The `equity` worker: the account's worth at every session's close, and at every minute of the one that runs."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.db import notify
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.metrics.daily_rows import DailyRows, News, Rules
from coldharbour.metrics.market import Source
from coldharbour.metrics.market.days import Days
from coldharbour.metrics.minute_rows import MinuteRows
from coldharbour.metrics.performance import SESSIONS_PER_YEAR

UNREADY_S = 5.0  # until the calendar is known


class EquitySettings(BaseModel, frozen=True, extra="forbid"):
    """How equity is kept."""

    interval_s: float = Field(60, gt=0, description="Seconds between looks, counted from the full minute.")
    bars_delay_s: float = Field(960, ge=0, description="Seconds after which the broker's bars are complete.")
    risk_free_pct: float = Field(0, description="Riskless return of a year, in percent, for the Sharpe ratios.")
    keep_minutes_days: int = Field(30, gt=0, description="Sessions whose minutes are kept.")


async def keep_equity(ctx: AccountContext, cfg: EquitySettings) -> float:
    """Bring the daily rows to what is known now, write the running minute, and fill the minutes that were missed."""
    destination, now = ctx.destination, ctx.clock.now()
    source = Source(ctx.db, destination.market, ctx.broker, ctx.alive, ctx.prices.last)
    rules = Rules(
        performance=destination.performance_types,
        rf=cfg.risk_free_pct / 100 / SESSIONS_PER_YEAR,
        settle=timedelta(seconds=cfg.bars_delay_s),
    )
    daily, minutes = DailyRows(source, destination.slug, rules), MinuteRows(source, destination.slug, rules)
    days = await daily.days(now)
    if days is None:
        return min(UNREADY_S, cfg.interval_s)
    try:
        news = await _bring_up(ctx, daily, minutes, days, now)
    finally:  # the running minute waits for no broker
        is_written = await minutes.write_running(days, now, None if ctx.prices.is_silent else ctx.prices.hearing_since)
    is_changed = is_written or news.changed > 0
    if is_written and await daily.is_behind(news):  # the minute has what came meanwhile, and so shall the day
        await _bring_up(ctx, daily, minutes, days, now)
    filled = await minutes.fill(days, now)
    await minutes.prune(days, cfg.keep_minutes_days)
    if filled:
        ctx.log.info("equity.minutes_filled", minutes=filled)
    if is_changed or filled:
        await notify(ctx.db, f"equity_channel_{destination.slug}", f'{{"session_date":"{days.all[-1]}"}}')
    return _until_next(ctx.clock.now(), cfg.interval_s)


async def _bring_up(ctx: AccountContext, daily: DailyRows, minutes: MinuteRows, days: Days, now: datetime) -> News:
    """Bring the daily rows to what is known now, and mark the minutes that did not know it."""
    news = await daily.bring_up(days, now)
    await minutes.mark_stale(days, now, news.moment)
    for finding in news.findings:
        ctx.log.warning("equity.incomplete", finding=finding)
    return news


def _until_next(now: datetime, interval_s: float) -> float:
    """Return the seconds to the next multiple of the interval: with 60, a look falls just behind each minute."""
    return interval_s - now.timestamp() % interval_s


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `equity` worker."""
    return [
        WorkerSpec(
            kind="equity",
            settings=EquitySettings,
            run=keep_equity,
            every="interval_s",
            service="manage",
            stall_s=120,
            uses_prices=True,
        )
    ]
