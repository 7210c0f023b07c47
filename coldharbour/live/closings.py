"""An account's closed trades by lot, and which of them took its lot to zero; writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from coldharbour.live.model import ClosedTrade
from coldharbour.live.news import Changes, ClosedKey

Told = defaultdict[str, dict[str, ClosedTrade | None]]  # by lot and exit order; None: it is no more


class Closing(NamedTuple):
    """A closed trade. closes_lot: it is the last one of a lot of which nothing is left."""

    trade: ClosedTrade
    closes_lot: bool

    @property
    def key(self) -> ClosedKey:
        """The row's key."""
        return self.trade.entry_lot_id, self.trade.exit_order_id


class Closings:
    """All closings of one book. One more fill costs what its own lots have, however much came before."""

    def __init__(self) -> None:
        self._by_lot: dict[str, tuple[Closing, ...]] = {}
        self._open: set[str] = set()

    def take(self, changes: Changes) -> tuple[list[Closing], list[ClosedKey]]:
        """Take changes in; return the closings that are new or differ now, and the keys of those that are gone.

        A lot that is opened again, or emptied, changes its last closing even where the trade itself stays as it was.
        """
        emptied, changed = set(changes.lots_gone), {lot.parent_id for lot in changes.lots}
        self._open -= emptied
        self._open |= changed
        told: Told = defaultdict(dict, {lot_id: {} for lot_id in emptied | changed})
        for lot_id, exit_id in changes.closed_gone:
            told[lot_id][exit_id] = None
        for trade in changes.closed:
            told[trade.entry_lot_id][trade.exit_order_id] = trade
        gone = [(lot_id, exit_id) for lot_id, trades in told.items() for exit_id in trades if trades[exit_id] is None]
        return [closing for lot_id in told for closing in self._restate(lot_id, told[lot_id])], gone

    def _restate(self, lot_id: str, told: Mapping[str, ClosedTrade | None]) -> list[Closing]:
        """Have some closings of a lot stated anew, by exit, None for one that is gone; return those that differ now."""
        before = {closing.trade.exit_order_id: closing for closing in self._by_lot.pop(lot_id, ())}
        trades = {**{exit_id: closing.trade for exit_id, closing in before.items()}, **told}
        present = [trade for trade in trades.values() if trade is not None]
        if not present:
            return []
        last = None if lot_id in self._open else max(present, key=_by_exit)
        now = self._by_lot[lot_id] = tuple(Closing(trade, trade is last) for trade in present)
        return [closing for closing in now if before.get(closing.trade.exit_order_id) != closing]

    def of_lot(self, lot_id: str) -> tuple[Closing, ...]:
        """Return what was closed of a lot."""
        return self._by_lot.get(lot_id, ())

    def __iter__(self) -> Iterator[Closing]:
        for closings in self._by_lot.values():
            yield from closings


def _by_exit(trade: ClosedTrade) -> tuple[datetime, str]:
    return trade.exit_time, trade.exit_order_id
