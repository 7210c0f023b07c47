"""How far prices went while a closed trade was held: what was watched, bars for the rest, and the trade's own prices.

Pure; who reads the bars is `measuring`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from coldharbour.live.marks.book import Bounds
from coldharbour.live.marks.coverage import Stretch, floor, unseen
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
    """What a closed trade says of the time it was held. watch: None if nobody watched."""

    symbol: str
    entry_time: datetime
    entry_price: Decimal
    exit_time: datetime
    exit_price: Decimal
    watch: Watch | None = None

    @property
    def seen(self) -> Watch | None:
        """The watch, unless it went on after the exit: then it says nothing of the time before."""
        watch = self.watch
        return watch if watch is not None and watch.through <= self.exit_time + AFTERGLOW else None

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
    """Return a trade's extremes; its own prices count as well. bounds: of the stretches that were unseen."""
    seen = holding.seen
    highs = [holding.entry_price, holding.exit_price, *_known(each.high for each in bounds.values())]
    lows = [holding.entry_price, holding.exit_price, *_known(each.low for each in bounds.values())]
    if seen is not None:
        highs.append(seen.high)
        lows.append(seen.low)
    return Extremes(max(highs), min(lows), "bars" if bounds or seen is None else "ticks")


def _known(prices: Iterable[Decimal | None]) -> list[Decimal]:
    return [price for price in prices if price is not None]
