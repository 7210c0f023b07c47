"""A lot in the making, and what was closed of it: the values that the matching counts in; they match nothing.

They change in place, since every fill of an account goes through them; each can say how it is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from coldharbour.live.decimals import FINE, ONE

Undo = Callable[[], None]


class OpenLot:
    """One lot. remaining, entered: shares, positive; cost: money of all its entry fills.

    first, last: the steps of its first and its last entry fill. factor: how many shares splits made of one share of
    the symbol's beginning. newest: its last row, which leads to the others. ocos: heads of the OCOs attached to it.
    """

    __slots__ = ("cost", "entered", "factor", "first", "is_long", "key", "last", "newest", "ocos", "remaining")

    def __init__(self, key: str, place: int, qty: Decimal, price: Decimal, is_long: bool) -> None:
        self.key = key
        self.first = self.last = place
        self.is_long = is_long
        self.remaining = self.entered = qty
        self.cost = qty * price
        self.factor = ONE
        self.newest: Row | None = None
        self.ocos: tuple[str, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Yield what was closed of it, the newest first."""
        row = self.newest
        while row is not None:
            yield row
            row = row.older

    def enter(self, place: int, qty: Decimal, price: Decimal) -> None:
        """Add a fill of its entry."""
        self.remaining += qty
        self.entered += qty
        self.cost += qty * price
        self.last = place

    def divide(self, shares: Decimal) -> None:
        """Make what remains so many shares by a split; what was entered follows in proportion."""
        self.entered = FINE.divide(self.entered * shares, self.remaining)
        self.factor = FINE.divide(self.factor * shares, self.remaining)
        self.remaining = shares

    def catch_up(self, factor: Decimal) -> None:
        """Count it in shares of a factor, though nothing of it was left when they were split."""
        self.entered = FINE.divide(self.entered * factor, self.factor)
        self.factor = factor

    def restorer(self) -> Undo:
        """Return what puts its shares back as they are now."""
        remaining, entered, factor = self.remaining, self.entered, self.factor

        def undo() -> None:
            self.remaining, self.entered, self.factor = remaining, entered, factor

        return undo


class Row:
    """What one exit order closed of one lot. value: the money it exchanged. first, last: the steps of its fills.

    qty: in shares as they were at `last`, factor as of then; raw: in shares as they were at each fill, None where
    that is the same. earlier: the exit order's row of another lot before this one. older: the lot's row before this
    one. is_sole: the exit is the lot's own leg and no other lot's, so that its next fill comes here as well.
    """

    __slots__ = ("earlier", "exit_id", "factor", "first", "is_sole", "last", "lot", "older", "qty", "raw", "value")

    def __init__(self, lot: OpenLot, exit_id: str, place: int, qty: Decimal, price: Decimal) -> None:
        self.lot = lot
        self.exit_id = exit_id
        self.first = self.last = place
        self.qty = qty
        self.value = qty * price
        self.factor = lot.factor
        self.raw: Decimal | None = None
        self.earlier: Row | None = None
        self.older = lot.newest
        self.is_sole = False
        lot.newest = self

    def add(self, place: int, qty: Decimal, price: Decimal) -> None:
        """Add another fill of the exit order, in shares of its factor."""
        self.qty += qty
        self.value += qty * price
        self.last = place
        if self.raw is not None:
            self.raw += qty

    def divide(self) -> None:
        """Count it in shares as its lot counts now."""
        self.raw = self.qty if self.raw is None else self.raw
        self.qty, self.factor = FINE.divide(self.qty * self.lot.factor, self.factor), self.lot.factor

    def restorer(self) -> Undo:
        """Return what puts its shares back as they are now."""
        qty, raw, factor, is_sole = self.qty, self.raw, self.factor, self.is_sole

        def undo() -> None:
            self.qty, self.raw, self.factor, self.is_sole = qty, raw, factor, is_sole

        return undo
