"""Finds how far prices went while closed trades were held: some at a time, the newest first, from few questions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from coldharbour.accounts import AccountContext
from coldharbour.live import store
from coldharbour.live.extremes import Holding, extremes_of
from coldharbour.live.marks.book import Bounds, Wanted
from coldharbour.live.marks.coverage import SETTLE, Stretch
from coldharbour.live.marks.history import BarHistory
from coldharbour.live.store import ClosedKey, Unmeasured
from coldharbour.sessions import NEW_YORK, MarketSession, session_between


class Measuring:
    """The closed trades of one account whose extremes nobody knows yet.

    Bars are read with the prices of the days themselves: a split after the exit must not move them, and those before
    it are counted as the trade tells of them.
    """

    def __init__(self, ctx: AccountContext) -> None:
        self._ctx, self._slug = ctx, ctx.destination.slug
        self._history = BarHistory(ctx.market_db, ctx.broker, adjustment="raw")
        self._sessions: list[MarketSession] = []
        self._known: tuple[date, date] | None = None  # the days whose sessions are known

    async def measure(self, limit: int) -> list[ClosedKey]:
        """Measure up to so many trades, and return which; those whose bars still change wait for another time.

        Raises Transient and BrokerRefused.
        """
        async with self._ctx.db.transaction() as conn:
            waiting = await store.unmeasured_trades(conn, self._slug, limit)
        if not waiting:
            return []
        await self._know_sessions(trade.holding for trade in waiting)
        unseen = {trade.key: trade.holding.unseen(self._sessions) for trade in waiting}
        settled = self._ctx.clock.now() - SETTLE
        ready = [trade for trade in waiting if not unseen[trade.key] or trade.holding.exit_time <= settled]
        found: dict[Wanted, Bounds] = {}
        wanted = {(trade.holding.symbol, stretch) for trade in ready for stretch in unseen[trade.key]}
        async for part in self._history.bounds(wanted):
            found |= part
        await self._save(ready, unseen, found)
        return [trade.key for trade in ready]

    async def _save(
        self, trades: Iterable[Unmeasured], unseen: dict[ClosedKey, list[Stretch]], found: dict[Wanted, Bounds]
    ) -> None:
        async with self._ctx.db.transaction() as conn:
            for trade in trades:
                held = trade.holding
                bounds = {stretch: found.get((held.symbol, stretch), Bounds()) for stretch in unseen[trade.key]}
                await store.save_extremes(conn, self._slug, trade, extremes_of(held, bounds))

    async def _know_sessions(self, held: Iterable[Holding]) -> None:
        """Have the sessions of all days on which these were held; the calendar is asked for what is not known yet."""
        days = [moment.astimezone(NEW_YORK).date() for each in held for moment in (each.entry_time, each.exit_time)]
        first, last = min(days), max(days)
        if self._known is not None:
            if self._known[0] <= first and last <= self._known[1]:
                return
            first, last = min(first, self._known[0]), max(last, self._known[1])
        calendar = await self._ctx.broker.calendar(first, last)
        self._sessions, self._known = sorted(session_between(day.open, day.close) for day in calendar), (first, last)
