"""Recomputes an account's cash flows, daily equity and key figures from the lake and what is kept of the market.

Asks no broker: minutes, which only it could tell again, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.destinations import Destination
from coldharbour.live.activities import store as lake
from coldharbour.live.activities.flows import READER as FLOWS
from coldharbour.live.activities.flows import follow_flows
from coldharbour.metrics.daily_rows import READER as EQUITY
from coldharbour.metrics.daily_rows import DailyRows, Rules
from coldharbour.metrics.documents import refresh_document
from coldharbour.metrics.market import Source

Show = Callable[[float, str], None]  # share from 0 to 1, detail


async def rebuild_metrics(db: Database, destination: Destination, clock: Clock, show: Show, *, rf: float = 0.0) -> None:
    """Make cash flows, daily rows and key figures as live operation makes them. rf: riskless return of one day.

    Workers may go on meanwhile; one that is configured for another rf makes the rows with it again. A crash leaves
    each table as it was, or as it shall be.
    """
    slug, now = destination.slug, clock.now()
    async with db.transaction() as conn:
        for reader in (FLOWS, EQUITY):
            await lake.forget(conn, slug, reader)
    changed, _ = await follow_flows(db, slug, destination.performance_types, now)
    show(0.3, f"{changed} cash flows changed")
    rows = DailyRows(Source(db, destination.market), slug, Rules(performance=destination.performance_types, rf=rf))
    days = await rows.days(now)
    news = await rows.bring_up(days, now) if days else None
    show(0.9, f"{news.changed if news else 0} days changed")
    await refresh_document(db, slug, now)
    show(1.0, "key figures written")
