"""The year before the first start: owns its agenda, deposits and settlements; its trades are scripts."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import count
from random import Random

from .cashflows import book_cash, settle_day
from .desk import Desk
from .market import Market
from .scripts import Script, TradeScripts
from .sessions import Session
from .stamps import HOUR, MINUTE, new_york_ns

TRADES_A_DAY = 2.8
MAX_TRADES_A_DAY = 8


class HistoryWriter:
    """Writes one account's past into its blotter: trades, deposits, fees, dividends, interest.

    Everything is a generator that yields the moment at which it wants to go on; one agenda runs them all in
    the order of time, so that cash and positions grow as they would have.
    """

    def __init__(self, desk: Desk, market: Market, days: Sequence[Session], chance: Random) -> None:
        self._blotter = desk.blotter
        self._market = market
        self._days = days
        self._chance = chance
        self._scripts = TradeScripts(desk, market, days, chance)
        self._agenda: list[tuple[int, int, Script]] = []
        self._ties = count()

    def write(self, deposit: Decimal, until: date) -> None:
        """Write everything, beginning with the first deposit; trades may still be open at the end.

        until: the day of the first start, when a deposit without any history is made.
        """
        if not self._days:
            book_cash(self._blotter, "CSD", until, deposit, new_york_ns(until, time.min))
            return
        self._start(self._days[0].pre, self._transfers(deposit))
        self._start(self._days[0].open, self._spawn_trades())
        self._start(self._days[0].post, self._settle())
        end = self._days[-1].post + 2 * HOUR
        while self._agenda and self._agenda[0][0] < end:
            at, _, script = heapq.heappop(self._agenda)
            wanted = next(script, None)
            if wanted is not None:
                self._start(max(wanted, at), script)

    def _start(self, at: int, script: Script) -> None:
        heapq.heappush(self._agenda, (at, next(self._ties), script))

    def _transfers(self, deposit: Decimal) -> Script:
        """Book the first deposit, a few later ones, a withdrawal and a journal entry."""
        first = self._days[0]
        book_cash(self._blotter, "CSD", first.day, deposit, first.pre, description="ACH deposit")
        kinds = ("CSD", "CSD", "CSW", "JNLC", "CSD")
        shares = (Decimal("0.08"), Decimal("0.05"), Decimal("-0.06"), Decimal("0.002"), Decimal("0.04"))
        spots = sorted(self._chance.sample(range(1, len(self._days)), min(len(kinds), len(self._days) - 1)))
        for kind, share, spot in zip(kinds, shares, spots, strict=False):
            session = self._days[spot]
            at = session.pre + 2 * HOUR
            yield at
            book_cash(self._blotter, kind, session.day, (deposit * share).quantize(Decimal(1)), at)

    def _settle(self) -> Script:
        """Book each day's fees, dividends and interest on the following morning."""
        before = self._days[0].day - timedelta(days=1)
        for session, following in zip(self._days, [*self._days[1:], None], strict=True):
            at = session.post + HOUR if following is None else following.pre + 2 * HOUR + 10 * MINUTE
            yield at
            settle_day(self._blotter, self._market, session.day, before, at)
            before = session.day

    def _spawn_trades(self) -> Script:
        for session in self._days:
            yield session.open
            for _ in range(self._count_today()):
                at = self._chance.randint(session.open + MINUTE, session.close - 45 * MINUTE)
                self._start(at, self._scripts.trade(at, session))

    def _count_today(self) -> int:
        tries = range(MAX_TRADES_A_DAY)
        return sum(self._chance.random() < TRADES_A_DAY / MAX_TRADES_A_DAY for _ in tries)
