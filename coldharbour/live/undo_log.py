"""What each step of a tape did to the lots, so that it can be told and taken back; it changes no lot itself."""

from __future__ import annotations

from decimal import Decimal

from coldharbour.live.decimals import ZERO
from coldharbour.live.model import Fill
from coldharbour.live.open_lot import OpenLot, Row, Undo
from coldharbour.live.tape import Tape

Part = tuple[Row, Decimal]  # a row, and the shares that a fill added to it
Outcome = Row | tuple[Part, ...] | None  # all closed one row; these parts did; nothing was closed


class UndoLog:
    """The outcomes of the steps so far, one each.

    renamed: by step, the lot that it entered, where that is not its order's. before_splits: by step that is a split,
    the lots and their shares before it.
    """

    def __init__(self, tape: Tape) -> None:
        self.outcomes: list[Outcome] = []
        self.renamed: dict[int, str] = {}
        self.before_splits: dict[int, list[tuple[OpenLot, Decimal]]] = {}
        self._tape = tape
        self._undo: list[tuple[int, Undo]] = []

    def remember(self, place: int, undo: Undo) -> None:
        """Keep what takes back a part of a step; the last one is the first to be done."""
        self._undo.append((place, undo))

    def forget(self, place: int) -> None:
        """Take back what was remembered of the newest step, and its outcome."""
        self.outcomes.pop()
        while self._undo and self._undo[-1][0] == place:
            self._undo.pop()[1]()

    def parts(self, place: int, fill: Fill) -> tuple[Part, ...]:
        """Return what the fill at a step closed."""
        outcome = self.outcomes[place]
        if outcome is None:
            return ()
        return ((outcome, fill.qty),) if type(outcome) is Row else outcome  # type: ignore[return-value]

    def entered(self, place: int, fill: Fill) -> Decimal:
        """Return the shares with which the fill at a step entered a lot: all that closed nothing."""
        return fill.qty - sum((part for _, part in self.parts(place, fill)), ZERO)

    def lot_key(self, place: int, fill: Fill) -> str:
        """Return the key of the lot that the fill at a step enters, if it enters one."""
        return self.renamed.get(place, fill.order_id)

    def entry_before(self, place: int, lot: OpenLot) -> int:
        """Return the last step before one at which a lot was entered."""
        for earlier in range(place - 1, lot.first, -1):
            fill = self._tape.trade(earlier)
            if fill and self.lot_key(earlier, fill) == lot.key and self.entered(earlier, fill):
                return earlier
        return lot.first

    def closing_before(self, place: int, row: Row) -> int:
        """Return the last step before one at which something was added to a row."""
        for earlier in range(place - 1, row.first, -1):
            outcome = self.outcomes[earlier]
            if outcome is row or (type(outcome) is tuple and any(other is row for other, _ in outcome)):
                return earlier
        return row.first
