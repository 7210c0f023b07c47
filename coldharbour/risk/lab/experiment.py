"""Replays an account's closed trades under every trigger: brings trades and bars together, and judges none itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from coldharbour.broker import Broker
from coldharbour.db import Database
from coldharbour.feed.model import MinuteBar
from coldharbour.live.marks.coverage import MINUTE, floor, unseen
from coldharbour.live.marks.history import BarHistory
from coldharbour.live.model import ExitType, Side
from coldharbour.live.splits import restated
from coldharbour.risk.lab import store
from coldharbour.risk.lab.replay import TRIGGERS, Outcome, Row, Trial, bars_before_exit, has_risk, replay, total
from coldharbour.risk.lab.store import StoredTrade
from coldharbour.sessions import NEW_YORK, MarketSession, session_between

HALF: Final = Decimal("0.5")

Show = Callable[[float, str], None]


class LeftOut(StrEnum):
    """Why a trade is not replayed."""

    NO_RISK = "no initial stop on the losing side of the entry"
    NO_BARS = "no minute bars of a session in which it was held"


@dataclass(slots=True)
class Findings:
    """What came of the trades. moved: how many ended at a stop that had been moved, and do so in every row."""

    outcomes: list[tuple[Outcome, ...]] = field(default_factory=list)
    left_out: dict[LeftOut, list[StoredTrade]] = field(default_factory=lambda: {reason: [] for reason in LeftOut})
    moved: int = 0

    def rows(self) -> list[Row]:
        """Return one row per trigger, the one without break-even first."""
        return [
            total(trigger_r, (outcomes[place] for outcomes in self.outcomes))
            for place, trigger_r in enumerate(TRIGGERS)
        ]


class Experiment:
    """One account's closed trades and where their bars are found.

    Bars are read with the prices of the days themselves: a split after the exit must not move them, and those before
    one that a trade was held over are counted in shares of its exit.
    """

    def __init__(self, db: Database, market_db: Database, broker: Broker, slug: str) -> None:
        self._db, self._broker, self._slug = db, broker, slug
        self._history = BarHistory(market_db, broker, adjustment="raw")

    async def run(self, since: datetime | None, show: Show) -> Findings:
        """Replay what was closed at or after `since`, None for all. Raises Transient and BrokerRefused."""
        async with self._db.transaction() as conn:
            trades = await store.closed_trades(conn, self._slug, since)
        findings = Findings()
        sessions = await self._sessions(trades)
        for number, trade in enumerate(trades, 1):
            found = await self._trial(trade, sessions)
            if isinstance(found, LeftOut):
                findings.left_out[found].append(trade)
            else:
                findings.outcomes.append(tuple(replay(found, trigger_r) for trigger_r in TRIGGERS))
                findings.moved += ended_at_moved_stop(found, trade.exit_type)
            show(number / len(trades), f"{number} of {len(trades)} trades")
        return findings

    async def _sessions(self, trades: Iterable[StoredTrade]) -> Sequence[MarketSession]:
        """Return the sessions of all days on which these were held."""
        days = [at.astimezone(NEW_YORK).date() for trade in trades for at in (trade.entry_time, trade.exit_time)]
        if not days:
            return ()
        return sorted(session_between(day.open, day.close) for day in await self._broker.calendar(min(days), max(days)))

    async def _trial(self, trade: StoredTrade, sessions: Sequence[MarketSession]) -> Trial | LeftOut:
        side = Side(trade.side)
        if trade.initial_stop is None or not has_risk(side, trade.entry_price, trade.initial_stop):
            return LeftOut.NO_RISK
        bars = await self._bars(trade, sessions)
        if bars is None:
            return LeftOut.NO_BARS
        return Trial(
            side=side,
            qty=trade.qty,
            entry_price=trade.entry_price,
            initial_stop=trade.initial_stop,
            exit_price=trade.exit_price,
            pnl_cash=trade.pnl_cash,
            bars=bars,
        )

    async def _bars(self, trade: StoredTrade, sessions: Sequence[MarketSession]) -> list[MinuteBar] | None:
        """Return the regular minutes before the exit, None where those of a session are missing.

        Without a whole minute between entry and exit there are none, and nothing that could arm a stop.
        """
        last = floor(trade.exit_time)
        stretches = unseen(trade.entry_time, None, last + MINUTE, sessions)
        if not stretches or stretches[0].start >= last:
            return []
        found = await self._history.minutes(trade.symbol, stretches)
        if any(not found[stretch] for stretch in stretches if stretch.start < last):
            return None
        bars = [_in_shares_of_the_exit(bar, trade) for stretch in stretches for bar in found[stretch]]
        left_in_regular_hours = stretches[-1].end > last
        return bars_before_exit(bars, trade.exit_time, trade.exit_price) if left_in_regular_hours else bars


def _in_shares_of_the_exit(bar: MinuteBar, trade: StoredTrade) -> MinuteBar:
    high, low = (restated(price, bar.start, trade.splits) for price in (bar.high, bar.low))
    opened = None if bar.open is None else restated(bar.open, bar.start, trade.splits)
    return MinuteBar(bar.start, high, low, opened)


def ended_at_moved_stop(trial: Trial, exit_type: str) -> bool:
    """Say whether a trade's own stop ended it nearer to the entry than to the initial stop: then it had been moved."""
    kept = trial.side.sign * (trial.exit_price - trial.initial_stop)
    return exit_type == ExitType.STOP_LOSS and kept > HALF * abs(trial.entry_price - trial.initial_stop)
