"""The protected lots of one account in memory: which wait for the touch of a trigger, and how far prices went.

Reads no table and no socket. Extremes count from entry, regular hours and eligible prints alone, as the watch tells
them; what the table knows besides stretches them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from coldharbour.feed.model import LastPrice
from coldharbour.feed.watch import Move
from coldharbour.live.marks.model import Extremes
from coldharbour.risk.model import Decision, MarketView, ProtectedLot, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedLot:
    """A lot as it was read. foreign: why its stop is not the lot's own, empty if it is.

    entry_qty: shares entered; it changes without a fill when they are split. mkt_px: its last known price.
    """

    lot: ProtectedLot
    entry_qty: Decimal
    last_fill_time: datetime
    extremes: Extremes
    mkt_px: Decimal | None = None
    foreign: str = ""


class WatchedLot:
    """One lot. trigger: what its newest evaluation waits for, None if a touch would change nothing."""

    __slots__ = ("extremes", "loaded", "trigger")

    def __init__(self, loaded: LoadedLot) -> None:
        self.loaded, self.extremes = loaded, loaded.extremes
        self.trigger: Decimal | None = None

    @property
    def lot(self) -> ProtectedLot:
        """The lot itself."""
        return self.loaded.lot

    def reload(self, loaded: LoadedLot) -> None:
        """Take over what was read anew; extremes of before a split are those of other prices."""
        before, self.loaded = self.loaded, loaded
        was_split = loaded.entry_qty != before.entry_qty and loaded.last_fill_time == before.last_fill_time
        known = Extremes() if was_split else self.extremes
        self.extremes = known.stretched(loaded.extremes.high, loaded.extremes.low)

    def move(self, move: Move) -> bool:
        """Stretch the extremes by what was traded since the entry; say whether that touched the trigger."""
        if move.since is None or (self.lot.entry_time is not None and move.since < self.lot.entry_time):
            return False
        self.extremes = self.extremes.stretched(move.high, move.low)
        return self.is_touched

    @property
    def is_touched(self) -> bool:
        """Whether prices have reached the trigger that is waited for."""
        side = self.lot.side
        extreme = self.extremes.high if side.sign > 0 else self.extremes.low
        return self.trigger is not None and extreme is not None and side.sign * (extreme - self.trigger) >= 0

    def market(self, last: LastPrice | None, feed_silent_s: float | None, now: datetime) -> MarketView:
        """Return what is known of its market. What a price is compared with: the one before it, else the table's."""
        if last is None:
            return MarketView(as_of=now, feed_silent_s=feed_silent_s, high=self.extremes.high, low=self.extremes.low)
        return MarketView(
            as_of=now, feed_silent_s=feed_silent_s, price=last.price, traded_at=last.at,
            last_trade=self.loaded.mkt_px if last.previous is None else last.previous, high=self.extremes.high,
            low=self.extremes.low,
        )  # fmt: skip

    def decided(self, decision: Decision) -> None:
        """Note what an evaluation came to: only a lot that is not armed waits for a touch."""
        self.trigger = decision.trigger if decision.reason is Reason.NOT_ARMED else None


class WatchedLots:
    """All protected lots of one account."""

    def __init__(self) -> None:
        self._lots: dict[str, WatchedLot] = {}
        self._by_symbol: dict[str, list[WatchedLot]] = {}

    def __iter__(self) -> Iterator[WatchedLot]:
        return iter(self._lots.values())

    def __len__(self) -> int:
        return len(self._lots)

    @property
    def symbols(self) -> Collection[str]:
        """The symbols of which there are lots."""
        return self._by_symbol.keys()

    def take_over(self, loaded: Iterable[LoadedLot]) -> list[WatchedLot]:
        """Make the lots those that were read; return the ones that are new, and those with another stop or entry."""
        before, self._lots = self._lots, {}
        self._by_symbol, changed = {}, []
        for read in loaded:
            watched = before.get(read.lot.parent_id)
            if watched is None:
                watched = WatchedLot(read)
                changed.append(watched)
            else:
                is_other = watched.lot != read.lot
                watched.reload(read)
                if is_other or watched.is_touched:
                    changed.append(watched)
            self._lots[read.lot.parent_id] = watched
            self._by_symbol.setdefault(read.lot.symbol, []).append(watched)
        return changed

    def still(self, *lots: WatchedLot) -> list[WatchedLot]:
        """Return those of these lots that are still there, each once."""
        return [watched for key in {each.lot.parent_id: each for each in lots} if (watched := self._lots.get(key))]

    def move(self, moves: Iterable[Move]) -> list[WatchedLot]:
        """Take in what happened to symbols; return the lots whose trigger was touched by it."""
        return [
            watched for move in moves for watched in self._by_symbol.get(move.last.symbol, ()) if watched.move(move)
        ]
