"""How far prices went while a closed trade was held: what was watched, bars for the rest, and the trade's own prices.

Pure; who reads the bars is `measuring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from coldharbour.live.marks.book import Bounds
from coldharbour.live.marks.coverage import Stretch, floor, unseen
from coldharbour.live.splits import Split, restated
from coldharbour.sessions import MarketSession

AFTERGLOW = timedelta(seconds=1)  # prices heard so shortly after the exit cannot be told from those before it


@dataclass(frozen=True, slots=True)
class Watch:
    """The extremes since entry as the valuation saw them, without a hole up to `through`."""

    high: Decimal
    low: Decimal
    through: datetime


@dataclass(frozen=True, slots=True)
class Holding:
    """What a closed trade says of the time it was held. watch: None if nobody watched.

    splits: those that came meanwhile; its own prices are those of the shares after them.
    """

    symbol: str
    entry_time: datetime
    entry_price: Decimal
    exit_time: datetime
    exit_price: Decimal
    watch: Watch | None = None
    splits: tuple[Split, ...] = ()

    @property
    def seen(self) -> Watch | None:
        """The watch, unless it went on after the exit: then it says nothing of the time before.

        Over a split it says nothing either: what was heard before the split was told is of other shares.
        """
        watch = self.watch
        if watch is None or self.splits or watch.through > self.exit_time + AFTERGLOW:
            return None
        return watch

    def unseen(self, sessions: Sequence[MarketSession]) -> list[Stretch]:
        """Return the regular minutes whose bars are needed; the exit's own also tells of prices after it.

        sessions: in order, back to the entry's day.
        """
        seen = self.seen
        return unseen(self.entry_time, None if seen is None else seen.through, floor(self.exit_time), sessions)


@dataclass(frozen=True, slots=True)
class Extremes:
    """The highest and lowest price between entry and exit, per share. source: where the last of it came from."""

    high: Decimal
    low: Decimal
    source: Literal["ticks", "bars"]


def extremes_of(holding: Holding, bounds: Mapping[Stretch, Bounds]) -> Extremes:
    """Return a trade's extremes, per share as of its exit; its own prices count as well.

    bounds: of the stretches that were unseen, per share as of these: no split falls into one. Source: domain.md 5.
    """
    seen = holding.seen
    prices = [holding.entry_price, holding.exit_price]
    for stretch, each in bounds.items():
        known = (price for price in (each.high, each.low) if price is not None)
        prices += (restated(price, stretch.start, holding.splits) for price in known)
    if seen is not None:
        prices += (seen.high, seen.low)
    return Extremes(max(prices), min(prices), "bars" if bounds or seen is None else "ticks")
