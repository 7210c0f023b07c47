"""The strategy's matching: an exit closes the lot whose leg it is, before any other; knows nothing of FIFO.

A lot is the filled quantity of one entry order. The position decides what is an exit, never the order's class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from fractions import Fraction

from coldharbour.live.decimals import Exact, decimal
from coldharbour.live.lineage import Leg, Lineage
from coldharbour.live.liveness import is_within
from coldharbour.live.model import Fill
from coldharbour.live.moves import UNIT_DIGITS, allot
from coldharbour.live.tape import Attachment, Tape

Undo = Callable[[], None]


class Row:
    """What one exit order closed of one lot, in units. value: what it brought. last: the step of its last fill.

    qty is counted in shares as they were at `last`; raw in shares as they were at each fill. factor: how many of the
    lot's first shares' successors one share was by then. earlier: the exit order's row of another lot before this
    one. older: the lot's row before this one.
    """

    __slots__ = ("earlier", "exit_id", "factor", "first", "last", "lot", "older", "qty", "raw", "value")

    def __init__(self, lot: OpenLot, exit_id: str, place: int, earlier: Row | None) -> None:
        self.lot, self.exit_id, self.first, self.last = lot, exit_id, place, place
        self.qty: Exact = 0
        self.raw = self.value = 0
        self.factor = lot.factor
        self.earlier, self.older = earlier, lot.newest


class OpenLot:
    """One lot, in units. remaining: signed shares. entered, cost: shares and money of all its entry fills, positive.

    first, last: the steps of its first and last entry fill. factor: what splits made of one of its first shares.
    newest: its last row, which leads to the others. ocos: heads of the OCOs attached to it.
    """

    __slots__ = ("cost", "entered", "factor", "first", "is_long", "key", "last", "newest", "ocos", "remaining")

    def __init__(self, key: str, place: int, *, is_long: bool) -> None:
        self.key, self.first, self.last, self.is_long = key, place, place, is_long
        self.remaining = self.cost = 0
        self.entered: Exact = 0
        self.factor: Exact = 1
        self.newest: Row | None = None
        self.ocos: tuple[str, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Yield what was closed of it, the newest first."""
        row = self.newest
        while row is not None:
            yield row
            row = row.older


class LotEngine:
    """The lots of one tape, as far as `done`. rows: the newest row of each exit order.

    ties: by head of an OCO, its lot; None where there was none. asked: the steps whose outcome hung on which legs
    were live. Steps are taken back by `rewind`, exactly.
    """

    def __init__(self, tape: Tape, lineage: Lineage) -> None:
        self.tape, self.lineage, self.done = tape, lineage, 0
        self.lots: dict[str, OpenLot] = {}
        self.open: dict[str, OpenLot] = {}
        self.rows: dict[str, Row] = {}
        self.ties: dict[str, OpenLot | None] = {}
        self.asked: list[int] = []
        self.position = 0
        self.factor: Exact = 1
        self._closed_at: list[int] = []
        self._closed_row: list[Row] = []
        self._closed_qty: list[int] = []
        self._undo: list[tuple[int, Undo]] = []
        self._renamed: dict[int, str] = {}
        self._before_split: dict[int, list[tuple[OpenLot, int]]] = {}

    def advance(self) -> None:
        """Match what the tape has beyond `done`."""
        for place in range(self.done, len(self.tape)):
            self._step(place)
        self.done = len(self.tape)

    def _step(self, place: int) -> None:
        tape = self.tape
        step = tape.steps[place]
        if type(step) is Attachment:
            self._attach(place, step)
        elif place in tape.splits:
            self._split(place)
        elif qty := tape.signed[place]:
            if qty * self.position >= 0:
                self._enter(place, qty)
            else:
                self._exit(place, qty)
            self.position += qty

    # Entries and exits

    def _enter(self, place: int, qty: int) -> None:
        key = self.tape.keys[place]
        lot = self.lots.get(key)
        if lot is not None and lot.is_long != (qty > 0):  # one order on both sides: no broker sends that
            key = self._renamed[place] = self.tape.steps[place].id
            lot = self.lots.get(key)
        if lot is None:
            lot = self.lots[key] = OpenLot(key, place, is_long=qty > 0)
            lot.factor = self.factor
        if not lot.remaining:
            self._reopen(place, lot)
        lot.remaining += qty
        lot.entered += abs(qty)
        lot.cost += abs(qty) * self.tape.prices[place]
        lot.last = place

    def _reopen(self, place: int, lot: OpenLot) -> None:
        self.open[lot.key] = lot
        if lot.factor != self.factor:  # a split came while nothing of it was left
            self._remember_lot(place, lot)
            lot.entered = lot.entered * Fraction(self.factor) / Fraction(lot.factor)
            lot.factor = self.factor

    def _exit(self, place: int, qty: int) -> None:
        left = self._close_all(place, self._own(place), qty)
        if left:
            left = self._close_all(place, self._strangers(place), left)
        if left:
            self._enter(place, left)

    def _close_all(self, place: int, lots: Iterable[OpenLot], left: int) -> int:
        """Close these lots one after another, and return what is left of the exit."""
        for lot in lots:
            if not left:
                break
            part = left if abs(left) <= abs(lot.remaining) else -lot.remaining
            self._close(place, lot, part)
            left -= part
        return left

    def _own(self, place: int) -> list[OpenLot]:
        """Return the open lots whose leg this step's order is."""
        if type(self.tape.steps[place]) is not Fill:
            return []
        home = self.lineage.home(self.tape.keys[place])
        if home is None:
            return []
        if home in self.ties:
            lot = self.ties[home]
            return [lot] if lot is not None and lot.remaining else []
        path = self.lineage.chain(home).path
        return [lot for key in path if (lot := self.open.get(key)) is not None]

    def _strangers(self, place: int) -> list[OpenLot]:
        """Return the open lots in the order in which an exit that is nobody's leg closes them. Source: domain.md 5."""
        step = self.tape.steps[place]
        oldest_first = self._oldest_first()
        if type(step) is not Fill or len(oldest_first) < 2:
            return oldest_first
        self.asked.append(place)
        return sorted(oldest_first, key=lambda lot: self.is_guarded(lot, step.at))

    def _close(self, place: int, lot: OpenLot, part: int) -> None:
        key, qty = self.tape.keys[place], abs(part)
        row = self._row(place, lot, key)
        if row.factor != lot.factor:
            self._remember_row(place, row)
            row.qty, row.factor = row.qty * Fraction(lot.factor) / Fraction(row.factor), lot.factor
        row.qty += qty
        row.raw += qty
        row.value += qty * self.tape.prices[place]
        row.last = place
        lot.remaining += part
        if not lot.remaining:
            del self.open[lot.key]
        self._closed_at.append(place)
        self._closed_row.append(row)
        self._closed_qty.append(qty)

    def _row(self, place: int, lot: OpenLot, key: str) -> Row:
        newest = row = self.rows.get(key)
        while row is not None and row.lot is not lot:
            row = row.earlier
        if row is None:
            row = self.rows[key] = lot.newest = Row(lot, key, place, newest)
        return row

    def _oldest_first(self) -> list[OpenLot]:
        return sorted(self.open.values(), key=lambda lot: lot.first)

    # Legs

    def legs(self, lot: OpenLot) -> list[Leg]:
        """Return the exits of a lot: its parent's legs, and those of the OCOs attached to it; the oldest first."""
        legs = [leg for home in (lot.key, *lot.ocos) for leg in self.lineage.legs(home)]
        return [leg for leg in legs if leg.first.is_buy != lot.is_long]

    def is_guarded(self, lot: OpenLot, at: datetime) -> bool:
        """Return whether a lot had a live leg at a moment."""
        return any(is_within(at, leg.spans) for leg in self.legs(lot))

    def _attach(self, place: int, oco: Attachment) -> None:
        """Tie an OCO to one of the lots that it closes. Source: domain.md 3."""
        self.asked.append(place)
        lots = self._oldest_first() if oco.is_buy == (self.position < 0) else []
        bare = [lot for lot in lots if not self.is_guarded(lot, oco.at)]
        same = [lot for lot in bare if decimal(abs(lot.remaining), self.tape.qty_digits) == oco.qty]
        lot = next(iter((*same, *bare, *lots)), None)
        self.ties[oco.id] = lot
        if lot is not None:
            lot.ocos = (*lot.ocos, oco.id)
        self._undo.append((place, lambda: self._detach(oco.id)))

    def _detach(self, head: str) -> None:
        lot = self.ties.pop(head)
        if lot is not None:
            lot.ocos = lot.ocos[:-1]

    # Splits

    def _split(self, place: int) -> None:
        before, total = self.tape.splits[place]
        lots, factor = self._oldest_first(), self.factor
        unit = 10 ** (self.tape.qty_digits - UNIT_DIGITS)
        self._before_split[place] = [(lot, lot.remaining) for lot in lots]
        parts = allot([lot.remaining for lot in lots], total, unit)
        for lot, part in zip(lots, parts, strict=True):
            self._remember_lot(place, lot)
            ratio = Fraction(part, lot.remaining)
            lot.remaining, lot.entered, lot.factor = part, lot.entered * ratio, lot.factor * ratio
        self.factor = factor * Fraction(total, before)
        self.position = total

        def undo() -> None:
            self.factor, self.position = factor, before
            del self._before_split[place]

        self._undo.append((place, undo))

    def _remember_lot(self, place: int, lot: OpenLot) -> None:
        remaining, entered, factor = lot.remaining, lot.entered, lot.factor

        def undo() -> None:
            lot.remaining, lot.entered, lot.factor = remaining, entered, factor

        self._undo.append((place, undo))

    def _remember_row(self, place: int, row: Row) -> None:
        qty, factor = row.qty, row.factor

        def undo() -> None:
            row.qty, row.factor = qty, factor

        self._undo.append((place, undo))

    # Back

    def held_since(self, at: datetime) -> list[tuple[int, dict[OpenLot, int]]]:
        """Return what was held after each step from a moment on, and after the last one before it, as (step, shares).

        Shares are signed; the lots of each are in no order.
        """
        held = {lot: lot.remaining for lot in self.open.values()}
        found, closings = [], len(self._closed_at)
        for place in range(self.done - 1, -1, -1):
            found.append((place, dict(held)))
            if self.tape.steps[place].at < at:
                break
            closings = self._held_before(place, held, closings)
        return found[::-1]

    def _held_before(self, place: int, held: dict[OpenLot, int], closings: int) -> int:
        qty = self.tape.signed[place]
        sign, left = (1 if qty > 0 else -1), abs(qty)
        while closings and self._closed_at[closings - 1] == place:
            closings -= 1
            row, part = self._closed_row[closings], self._closed_qty[closings]
            held[row.lot] = held.get(row.lot, 0) - sign * part
            left -= part
        if left:
            lot = self.lots[self._renamed.get(place, self.tape.keys[place])]
            held[lot] -= sign * left
            if not held[lot]:
                del held[lot]
        held.update(self._before_split.get(place, ()))
        return closings

    def rewind(self, place: int) -> None:
        """Take back the steps from a place on; the tape still has them."""
        for gone in range(self.done - 1, place - 1, -1):
            self._unstep(gone)
        self.done = min(self.done, place)
        while self.asked and self.asked[-1] >= place:
            self.asked.pop()

    def _unstep(self, place: int) -> None:
        qty = self.tape.signed[place]
        entered = abs(qty)
        closed: list[tuple[Row, int]] = []
        while self._closed_at and self._closed_at[-1] == place:
            self._closed_at.pop()
            closed.append((self._closed_row.pop(), self._closed_qty.pop()))
            entered -= closed[-1][1]
        if entered:
            self._unenter(place, entered if qty > 0 else -entered)
        for row, part in closed:
            self._unclose(place, row, part)
        self.position -= qty
        while self._undo and self._undo[-1][0] == place:
            self._undo.pop()[1]()

    def _unenter(self, place: int, qty: int) -> None:
        key = self._renamed.pop(place, self.tape.keys[place])
        lot = self.lots[key]
        lot.remaining -= qty
        lot.entered -= abs(qty)
        lot.cost -= abs(qty) * self.tape.prices[place]
        if not lot.remaining:
            del self.open[key]
        if not lot.entered:
            del self.lots[key]
        elif lot.last == place:
            lot.last = self._entry_before(place, lot)

    def _entry_before(self, place: int, lot: OpenLot) -> int:
        keys, tape = self.tape.keys, self.tape
        for earlier in range(place - 1, lot.first, -1):
            if keys[earlier] == lot.key and (tape.signed[earlier] > 0) == lot.is_long:
                return earlier
        return lot.first

    def _unclose(self, place: int, row: Row, qty: int) -> None:
        lot = row.lot
        if not lot.remaining:
            self.open[lot.key] = lot
        lot.remaining += qty if lot.is_long else -qty
        row.qty -= qty
        row.raw -= qty
        row.value -= qty * self.tape.prices[place]
        if row.raw:
            row.last = self._closing_before(row)
            return
        lot.newest = row.older
        if row.earlier is None:
            del self.rows[row.exit_id]
        else:
            self.rows[row.exit_id] = row.earlier

    def _closing_before(self, row: Row) -> int:
        back = next(back for back, other in enumerate(reversed(self._closed_row), 1) if other is row)
        return self._closed_at[-back]
