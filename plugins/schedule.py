"""The `schedule` worker: the market's sessions from the broker's calendar, and the journal's housekeeping."""

from __future__ import annotations

from datetime import date, timedelta

import anyio.to_thread
from pydantic import BaseModel, Field

from coldharbour import store
from coldharbour.accounts import AccountContext
from coldharbour.errors import Transient
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.sessions import NEW_YORK, MarketSession, published_sessions, session_between

DAYS_BACK = 10


class ScheduleSettings(BaseModel, frozen=True, extra="forbid"):
    """How the market's calendar is kept."""

    interval_s: float = Field(300, gt=0, description="Seconds between looks whether the calendar must be read.")
    refresh_s: float = Field(21_600, gt=0, description="Seconds after which it is read again.")
    days_ahead: int = Field(90, gt=0, description="Days of the future that are kept.")
    keep_events_days: float = Field(30, gt=0, description="Days that events stay in the journal.")


async def keep_schedule(ctx: AccountContext, cfg: ScheduleSettings) -> None:
    """Refresh the sessions when they are old, from the broker, else from the exchange's published rules."""
    now = ctx.clock.now()
    market = ctx.destination.market
    async with ctx.db.transaction() as conn:
        await store.prune_events(conn, now - timedelta(days=cfg.keep_events_days))
        fetched_at = await store.schedule_fetched_at(conn, market)
    if fetched_at is not None and now - fetched_at < timedelta(seconds=cfg.refresh_s):
        return
    today = now.astimezone(NEW_YORK).date()
    start, end = today - timedelta(days=DAYS_BACK), today + timedelta(days=cfg.days_ahead)
    source, sessions = await _sessions(ctx, start, end)
    if not sessions:
        raise Transient(f"the calendar of {source} has no session between {start} and {end}")
    async with ctx.db.transaction() as conn:
        await store.save_sessions(conn, market, source, sessions, today)
    ctx.log.info("schedule.refreshed", source=source, sessions=len(sessions))


async def _sessions(ctx: AccountContext, start: date, end: date) -> tuple[str, list[MarketSession]]:
    try:
        days = await ctx.broker.calendar(start, end)
    except Transient as error:
        if ctx.destination.simulated:  # no published rules say what a simulated market does
            raise
        ctx.log.warning("schedule.broker_unreachable", error=str(error), instead="exchange_calendars")
        ctx.alive()
        return "exchange_calendars", await anyio.to_thread.run_sync(published_sessions, start, end)
    return "broker", [session_between(day.open, day.close) for day in days]


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `schedule` worker."""
    return [
        WorkerSpec(
            kind="schedule",
            settings=ScheduleSettings,
            run=keep_schedule,
            every="interval_s",
            service="manage",
        )
    ]
