"""The open lots of one account in memory: who is valued by which price, who is due, whose extremes have holes.

Reads no socket and no table. What is not due waits for the next flush.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from coldharbour.feed.model import LastPrice
from coldharbour.feed.watch import Move
from coldharbour.live.marks.coverage import Stretch, known_through, unseen
from coldharbour.live.marks.lot import Hearing, MarkedLot
from coldharbour.live.marks.model import Mark, StoredLot
from coldharbour.sessions import MarketSession


@dataclass(frozen=True, slots=True)
class Bounds:
    """The highest and the lowest price of a stretch, per share; None where nothing was traded."""

    high: Decimal | None = None
    low: Decimal | None = None


Wanted = tuple[str, Stretch]  # a symbol, and the regular minutes whose bounds are looked for
Found = Mapping[Wanted, Bounds]


@dataclass(frozen=True, slots=True)
class Hole:
    """What the extremes of a lot have not seen up to a moment, from which on ticks are counted."""

    marked: MarkedLot
    until: datetime
    stretches: Sequence[Stretch]

    @property
    def wanted(self) -> set[Wanted]:
        """What is to be looked up."""
        return {(self.marked.lot.symbol, stretch) for stretch in self.stretches}


class MarkBook:
    """All open lots of one account. threshold_pct: percent that a price must move to be written before the flush."""

    def __init__(self, threshold_pct: float) -> None:
        self.lots: dict[str, MarkedLot] = {}
        self._threshold = Decimal(str(threshold_pct)) / 100
        self._by_symbol: dict[str, list[MarkedLot]] = {}
        self._stirred: dict[str, MarkedLot] = {}  # something about them is not written

    @property
    def symbols(self) -> Collection[str]:
        """The symbols of which there are lots."""
        return self._by_symbol.keys()

    def take_over(self, stored: Iterable[StoredLot], asked: Collection[str] | None, now: datetime) -> None:
        """Bring the lots in step with the table; what was asked for and not found is gone.

        asked: the ids that were read, None for all.
        """
        found = {lot.lot.parent_id: lot for lot in stored}
        for parent_id in set(self.lots if asked is None else asked) - found.keys():
            self.lots.pop(parent_id, None)
            self._stirred.pop(parent_id, None)
        for parent_id, lot in found.items():
            marked = self.lots.get(parent_id)
            if marked is None:
                marked = self.lots[parent_id] = MarkedLot(lot, now)
            elif marked.lot == lot.lot:
                continue
            else:
                marked.restructure(lot)
            self._stirred[parent_id] = marked
        self._index()

    def _index(self) -> None:
        self._by_symbol = {}
        for marked in self.lots.values():
            self._by_symbol.setdefault(marked.lot.symbol, []).append(marked)

    def move(self, moves: Iterable[Move]) -> None:
        """Value every lot of the symbols that moved."""
        for move in moves:
            for marked in self._by_symbol.get(move.last.symbol, ()):
                marked.move(move)
                self._stirred[marked.lot.parent_id] = marked

    def value_new(self, price_of: Callable[[str], LastPrice | None]) -> None:
        """Value the lots that have no price yet. Their extremes begin with the ticks that follow."""
        for marked in self._stirred.values():
            if marked.last is None and (last := price_of(marked.lot.symbol)):
                marked.move(Move(last))

    def due(self, *, flush: bool) -> list[MarkedLot]:
        """Return what is to be written and told now; with flush, everything that is not."""
        return [marked for marked in self._stirred.values() if flush or marked.is_due(self._threshold)]

    def quiet(self) -> list[MarkedLot]:
        """Return the lots of which everything is told: only how far their extremes are known goes on."""
        return [marked for parent_id, marked in self.lots.items() if parent_id not in self._stirred]

    def written(self, marks: Iterable[Mark]) -> list[MarkedLot]:
        """Note what stands in the table now; return the lots it was."""
        done = []
        for mark in marks:
            marked = self.lots.get(mark.parent_id)
            if marked is not None:
                marked.written = mark
                done.append(marked)
        return done

    def told(self, lots: Iterable[MarkedLot]) -> None:
        """Note that everything about these lots was told; what bars found since they were written is not."""
        for marked in lots:
            marked.is_news = False
            written = marked.written
            if written is None or (marked.extremes.high, marked.extremes.low) == (written.high_px, written.low_px):
                self._stirred.pop(marked.lot.parent_id, None)

    def holes(self, hearing: Hearing, now: datetime, sessions: Sequence[MarketSession]) -> list[Hole]:
        """Return the lots whose extremes have not seen everything; the others are covered from now on.

        sessions: back to the oldest moment that is not covered. While the stream is silent, a hole ends now.
        """
        return [hole for marked in self.lots.values() if (hole := _hole(marked, hearing, now, sessions))]

    def fill(self, holes: Iterable[Hole], found: Found) -> None:
        """Stretch the extremes by what was found of their holes."""
        for hole in holes:
            marked, before = hole.marked, hole.marked.extremes
            for wanted in hole.wanted & found.keys():
                marked.stretch(found[wanted].high, found[wanted].low)
            if marked.extremes != before and self.lots.get(marked.lot.parent_id) is marked:
                self._stirred[marked.lot.parent_id] = marked

    def seen(self, holes: Iterable[Hole], asked_at: datetime) -> None:
        """Note that everything that was wanted of these holes has been found, in bars as of `asked_at`."""
        for hole in holes:
            extremes = hole.marked.extremes
            through = known_through(extremes.through, hole.until, asked_at)
            hole.marked.extremes = replace(extremes, through=through)

    def oldest_unseen(self, hearing: Hearing) -> datetime | None:
        """Return the oldest moment that the extremes of a lot may not have seen, None if all are covered."""
        moments = (
            marked.extremes.through or marked.lot.entry_time
            for marked in self.lots.values()
            if hearing.since is None or marked.covered_since != hearing.since
        )
        return min(moments, default=None)


def _hole(marked: MarkedLot, hearing: Hearing, now: datetime, sessions: Sequence[MarketSession]) -> Hole | None:
    if hearing.since is not None and marked.covered_since == hearing.since:
        return None
    until = now if hearing.since is None else max(hearing.since, marked.watched_since)
    stretches = unseen(marked.lot.entry_time, marked.extremes.through, until, sessions)
    if stretches:
        marked.covered_since = None
        return Hole(marked, until, stretches)
    known = marked.extremes.through
    marked.extremes = replace(marked.extremes, through=until if known is None else max(known, until))
    marked.covered_since = hearing.since
    return None
