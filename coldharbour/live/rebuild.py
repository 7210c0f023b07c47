"""Recomputes an account's live tables from the lake: the same path as a worker's start, so the same rows."""

from __future__ import annotations

from collections.abc import Callable

from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.destinations import Destination
from coldharbour.events import TradeClosed
from coldharbour.live.closed_trades import ClosedTrades
from coldharbour.live.findings import store as findings
from coldharbour.live.following import AREA, FollowedBook
from coldharbour.live.open_trades import OpenTrades

READING_SHARE = 0.6  # of the time that a rebuild takes, measured

Show = Callable[[float, str], None]  # share from 0 to 1, detail


async def rebuild_live(db: Database, destination: Destination, clock: Clock, show: Show) -> None:
    """Make open trades, closed trades and findings what the lake says, each table in one transaction.

    Workers may go on meanwhile. A crash leaves each table as it was or as it shall be.
    """
    followed = FollowedBook(db, destination.slug, destination.market, clock)
    await followed.load(lambda done, expected: show(READING_SHARE * done / max(expected, 1), f"{done} rows read"))
    show(0.75, "matched")
    await OpenTrades(db, followed).write_all()
    show(0.8, "open trades written")
    await ClosedTrades(db, followed, _keep_silent).write_all()
    async with db.transaction() as conn:
        await findings.settle(conn, destination.slug, AREA, followed.problems, clock.now())
    show(1.0, "closed trades written")


def _keep_silent(_: TradeClosed) -> None:
    """Tell nobody: what a rebuild finds happened long ago."""
