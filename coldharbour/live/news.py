"""Which rows of a symbol are new, changed or gone; closed trades stay made, and only those in doubt are made anew."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

from coldharbour.live.model import ClosedTrade, Lot
from coldharbour.live.results import closed_trade, closed_trades, exit_order, open_lots
from coldharbour.live.symbol import SymbolBook

ClosedKey = tuple[str, str]  # entry lot, exit order


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of rows. lots, closed: new or changed; lots_gone, closed_gone: keys of rows that are no more."""

    lots: tuple[Lot, ...] = ()
    lots_gone: tuple[str, ...] = ()
    closed: tuple[ClosedTrade, ...] = ()
    closed_gone: tuple[ClosedKey, ...] = ()


class News:
    """The rows of one symbol, and what of them nobody was told yet. Nothing is made before somebody looks."""

    def __init__(self, book: SymbolBook) -> None:
        self._book = book
        self._trades: dict[ClosedKey, ClosedTrade] | None = None
        self._ordered: list[ClosedTrade] = []
        self._doubtful: set[ClosedKey] = set()
        self._untold: set[ClosedKey] = set()
        self._told_lots: dict[str, Lot] = {}

    def doubt_from(self, place: int) -> None:
        """Note that the steps from a place on are about to be taken back, or were matched again."""
        if self._trades is not None:
            engine = self._book.engine
            for step in range(place, engine.done):
                self._doubtful.update((row.lot.key, row.exit_id) for row in engine.rows_touched(step))

    def doubt_lots(self, keys: Iterable[str]) -> None:
        """Note that legs of these lots changed."""
        if self._trades is not None:
            for key in keys:
                lot = self._book.engine.lots.get(key)
                if lot is not None:
                    self._doubtful.update((key, row.exit_id) for row in lot.rows())

    def closed(self) -> tuple[ClosedTrade, ...]:
        """Return all closed trades, by time of exit."""
        self._make()
        return tuple(self._ordered)

    def take(self) -> Changes:
        """Return what changed since the last time."""
        trades = self._make()
        untold, self._untold = self._untold, set()
        lots, told = {lot.parent_id: lot for lot in open_lots(self._book)}, self._told_lots
        self._told_lots = lots
        return Changes(
            lots=tuple(lot for key, lot in lots.items() if told.get(key) != lot),
            lots_gone=tuple(sorted(told.keys() - lots.keys())),
            closed=tuple(sorted((trades[key] for key in untold if key in trades), key=exit_order)),
            closed_gone=tuple(sorted(key for key in untold if key not in trades)),
        )

    def _make(self) -> dict[ClosedKey, ClosedTrade]:
        if self._trades is None:
            self._ordered = closed_trades(self._book)
            self._trades = {(trade.entry_lot_id, trade.exit_order_id): trade for trade in self._ordered}
            self._untold = set(self._trades)
            self._book.coverage.touched.clear()
            return self._trades
        self._book.coverage.refresh()
        self.doubt_lots(self._book.coverage.touched)
        self._book.coverage.touched.clear()
        doubtful, self._doubtful = self._doubtful, set()
        for key in doubtful:
            self._make_anew(key, self._trades)
        return self._trades

    def _make_anew(self, key: ClosedKey, trades: dict[ClosedKey, ClosedTrade]) -> None:
        row = next((row for row in self._book.engine.rows_of(key[1]) if row.lot.key == key[0]), None)
        known, trade = trades.pop(key, None), None if row is None else closed_trade(self._book, row)
        if trade is not None:
            trades[key] = trade
        if trade == known:
            return
        self._untold.add(key)
        if known is not None:
            del self._ordered[bisect_left(self._ordered, exit_order(known), key=exit_order)]
        if trade is not None:
            insort(self._ordered, trade, key=exit_order)
