"""How far prices went while a closed trade was held: from what was watched, and from minute bars for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from coldharbour.broker.model import Bar

MINUTE = timedelta(minutes=1)
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
    def seen(self) -> Watch:
        """What is known without asking; a watch that went on after the exit says nothing of the time before it."""
        if self.watch is not None and self.watch.through <= self.exit_time + AFTERGLOW:
            return self.watch
        return Watch(self.entry_price, self.entry_price, self.entry_time)

    @property
    def unseen(self) -> tuple[datetime, datetime] | None:
        """The first and the last minute whose bars are needed, each as its begin; None if none is.

        Only whole minutes count: a minute's bar also tells of prices before the entry or after the exit in it.
        """
        first = _minute(self.seen.through + MINUTE - timedelta(microseconds=1))
        last = _minute(self.exit_time) - MINUTE
        return (first, last) if first <= last else None


@dataclass(frozen=True, slots=True)
class Extremes:
    """The highest and lowest price between entry and exit, per share. source: where the last of it came from."""

    high: Decimal
    low: Decimal
    source: Literal["ticks", "bars"]


def extremes_of(holding: Holding, bars: Iterable[Bar] = ()) -> Extremes:
    """Return a trade's extremes; its own prices count as well.

    bars: those of `holding.unseen`. Whoever watched the whole time needs none, and then the source is ticks.
    """
    seen = holding.seen
    highs, lows = (
        [seen.high, holding.entry_price, holding.exit_price],
        [seen.low, holding.entry_price, holding.exit_price],
    )
    if holding.unseen is not None:
        first, last = holding.unseen
        inside = [bar for bar in bars if first <= bar.at <= last]
        highs += [bar.high for bar in inside]
        lows += [bar.low for bar in inside]
    by_ticks = seen is holding.watch and holding.unseen is None
    return Extremes(max(highs), min(lows), "ticks" if by_ticks else "bars")


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
