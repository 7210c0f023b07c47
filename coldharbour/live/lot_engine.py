"""The strategy's matching: an exit closes the lot whose leg it is, before any other; knows nothing of FIFO.

A lot is the filled quantity of one entry order. The position decides what is an exit, never the order's class.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal

from coldharbour.live.decimals import FINE, ONE, ZERO
from coldharbour.live.lineage import Leg, Lineage
from coldharbour.live.model import Fill
from coldharbour.live.moves import allot
from coldharbour.live.tape import Attachment, Tape

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


Outcome = Row | tuple[tuple[Row, Decimal], ...] | None  # all closed one row; these parts did; nothing was closed


class LotEngine:
    """The lots of one tape, as far as `done`; use it in the EXACT context.

    lots: all there ever were, by key; open: those of which something is left, all on one side. rows: the newest row
    of each exit order. ties: by head of an OCO, its lot; None where there was none. asked: the steps whose outcome
    hung on which legs were live. What each step did is kept, so that it can be taken back.
    """

    def __init__(self, tape: Tape, lineage: Lineage) -> None:
        self.tape, self.lineage, self.done, self.is_long = tape, lineage, 0, True
        self.lots: dict[str, OpenLot] = {}
        self.open: dict[str, OpenLot] = {}
        self.rows: dict[str, Row] = {}
        self.ties: dict[str, OpenLot | None] = {}
        self.asked: list[int] = []
        self._factor = ONE
        self._outcomes: list[Outcome] = []
        self._undo: list[tuple[int, Undo]] = []
        self._renamed: dict[int, str] = {}
        self._before_splits: dict[int, list[tuple[OpenLot, Decimal]]] = {}

    def advance(self) -> None:
        """Match what the tape has beyond `done`."""
        tape = self.tape
        for place in (*tape.others_from(self.done), len(tape)):
            self._fills(self.done, place)
            if place < len(tape):
                self._other(place)
            self.done = min(place + 1, len(tape))

    def _fills(self, start: int, stop: int) -> None:  # noqa: C901 - the usual cases are written out, for speed
        """Match a run of fills. Every fill of an account comes through here.

        Usual are an entry, and an exit that its own lot can take whole; all others go the long way of `_trade`.
        """
        lots, open_lots, rows = self.lots, self.open, self.rows
        homes, entangled, done = self.lineage.homes, self.lineage.entangled, self._outcomes.append
        is_long, factor = self.is_long, self._factor
        for place, fill in enumerate(self.tape.fills(start, stop), start):
            key, qty = fill.order_id, fill.qty
            if not qty:
                done(None)
                continue
            if fill.is_buy == is_long and open_lots:
                lot = lots.get(key)
                if lot is None:
                    lot = lots[key] = open_lots[key] = OpenLot(key, place, qty, fill.price, is_long)
                    lot.factor = factor
                    done(None)
                    continue
                if lot.remaining:
                    lot.remaining += qty
                    lot.entered += qty
                    lot.cost += qty * fill.price
                    lot.last = place
                    done(None)
                    continue
            elif (row := rows.get(key)) is not None:
                lot = row.lot
                if row.is_sole and qty <= lot.remaining:
                    row.qty += qty
                    row.value += qty * fill.price
                    row.last = place
                    left = lot.remaining = lot.remaining - qty
                    if not left:
                        del open_lots[lot.key]
                    done(row)
                    continue
            elif (lot := open_lots.get(homes.get(key) or "")) and lot.key not in entangled and qty <= lot.remaining:
                row = rows[key] = Row(lot, key, place, qty, fill.price)
                row.is_sole = True
                left = lot.remaining = lot.remaining - qty
                if not left:
                    del open_lots[lot.key]
                done(row)
                continue
            self._trade(place, fill)
            is_long = self.is_long

    def _other(self, place: int) -> None:
        step = self.tape.steps[place]
        if type(step) is Attachment:
            self._attach(place, step)
        elif place in self.tape.splits:
            self._split(place)
        elif fill := self.tape.trade(place):
            self._trade(place, fill)
            return
        self._outcomes.append(None)

    # Entries and exits

    def _trade(self, place: int, fill: Fill) -> None:
        parts: list[tuple[Row, Decimal]] = []
        left = fill.qty
        if self.open and fill.is_buy != self.is_long:
            left = self._close_all(place, fill, self._own(place, fill.order_id), left, parts)
            if left:
                left = self._close_all(place, fill, self._strangers(place), left, parts)
        if left:
            self.is_long = fill.is_buy
            self._enter(place, fill, left)
        self._outcomes.append(tuple(parts) or None)

    def _enter(self, place: int, fill: Fill, qty: Decimal) -> None:
        key = fill.order_id
        lot = self.lots.get(key)
        if lot is not None and lot.is_long != fill.is_buy:  # one order on both sides: no broker sends that
            key = self._renamed[place] = self.tape.steps[place].id
            lot = self.lots.get(key)
        if lot is None:
            lot = self.lots[key] = self.open[key] = OpenLot(key, place, qty, fill.price, fill.is_buy)
            lot.factor = self._factor
            return
        if not lot.remaining:
            self._reopen(place, lot)
        lot.remaining += qty
        lot.entered += qty
        lot.cost += qty * fill.price
        lot.last = place

    def _reopen(self, place: int, lot: OpenLot) -> None:
        self.open[lot.key] = lot
        if lot.factor != self._factor:  # a split came while nothing of it was left
            self._remember_lot(place, lot)
            lot.entered = FINE.divide(lot.entered * self._factor, lot.factor)
            lot.factor = self._factor

    def _own(self, place: int, key: str) -> list[OpenLot]:
        """Return the open lots whose leg an order is."""
        if type(self.tape.steps[place]) is not Fill:
            return []
        home = self.lineage.home(key)
        if home is None:
            return []
        if home in self.ties:
            lot = self.ties[home]
            return [lot] if lot is not None and lot.remaining else []
        return [lot for member in self.lineage.chain(home).path if (lot := self.open.get(member)) is not None]

    def _strangers(self, place: int) -> list[OpenLot]:
        """Return the open lots in the order in which an exit that is nobody's leg closes them. Source: domain.md 5."""
        step = self.tape.steps[place]
        oldest_first = self.oldest_first()
        if type(step) is not Fill or len(oldest_first) < 2:
            return oldest_first
        self.asked.append(place)
        at, guarded = step.at, self.is_guarded
        return sorted(oldest_first, key=lambda lot: guarded(lot, at))

    def _close_all(
        self, place: int, fill: Fill, lots: Iterable[OpenLot], left: Decimal, parts: list[tuple[Row, Decimal]]
    ) -> Decimal:
        """Close these lots one after another; return what is left of the exit."""
        for lot in lots:
            if not left:
                break
            part = min(left, lot.remaining)
            parts.append((self._close(place, fill, lot, part), part))
            left -= part
        return left

    def _close(self, place: int, fill: Fill, lot: OpenLot, qty: Decimal) -> Row:
        row = newest = self.rows.get(fill.order_id)
        while row is not None and row.lot is not lot:
            row = row.earlier
        if row is None:
            row = self.rows[fill.order_id] = Row(lot, fill.order_id, place, qty, fill.price)
            row.earlier = newest
        else:
            if row.factor != lot.factor:
                self._rebase(place, row)
            row.qty += qty
            row.value += qty * fill.price
            row.last = place
            if row.raw is not None:
                row.raw += qty
        lot.remaining -= qty
        if not lot.remaining:
            del self.open[lot.key]
        return row

    def rows_of(self, exit_id: str) -> Iterator[Row]:
        """Yield what an exit order closed, lot by lot, the newest first."""
        row = self.rows.get(exit_id)
        while row is not None:
            yield row
            row = row.earlier

    def rows_touched(self, place: int) -> Iterator[Row]:
        """Yield the rows that what happens at a step has a part in."""
        if (fill := self.tape.trade(place)) is not None:
            yield from self.rows_of(fill.order_id)
            lot = self.lots.get(self._renamed.get(place, fill.order_id))
            if lot is not None:
                yield from lot.rows()
        for lot, _ in self._before_splits.get(place, ()):
            yield from lot.rows()
        tied = self.ties.get(self.tape.steps[place].id)
        if tied is not None:
            yield from tied.rows()

    def oldest_first(self) -> list[OpenLot]:
        """Return the open lots by their first entry fills."""
        return sorted(self.open.values(), key=lambda lot: lot.first)

    # Legs

    def lots_of(self, homes: Iterable[str]) -> set[str]:
        """Return the lots of these parents and OCOs."""
        found = {member for home in homes for member in self.lineage.chain(home).path}
        return found | {lot.key for home in homes if (lot := self.ties.get(home)) is not None}

    def legs(self, lot: OpenLot) -> list[Leg]:
        """Return the exits of a lot: its parent's legs, then those of each OCO attached to it; each oldest first."""
        legs = [leg for home in (lot.key, *lot.ocos) for leg in self.lineage.legs(home)]
        return [leg for leg in legs if leg.first.is_buy != lot.is_long]

    def is_guarded(self, lot: OpenLot, at: datetime) -> bool:
        """Return whether a lot had a live leg at a moment."""
        guarded, by_buys = self.lineage.is_guarded, not lot.is_long
        if guarded(lot.key, at, by_buys=by_buys):
            return True
        return any(guarded(home, at, by_buys=by_buys) for home in lot.ocos)

    def _attach(self, place: int, oco: Attachment) -> None:
        """Tie an OCO to one of the lots that it closes. Source: domain.md 3."""
        self.asked.append(place)
        lots = self.oldest_first() if oco.is_buy != self.is_long else []
        bare = [lot for lot in lots if not self.is_guarded(lot, oco.at)]
        same = [lot for lot in bare if lot.remaining == oco.qty]
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
        lots, factor = self.oldest_first(), self._factor
        self._before_splits[place] = [(lot, lot.remaining) for lot in lots]
        parts = allot([lot.remaining for lot in lots], abs(total))
        for lot, part in zip(lots, parts, strict=True):
            self._remember_lot(place, lot)
            for row in lot.rows():
                self._remember_row(place, row)
                row.is_sole = False
            lot.entered = FINE.divide(lot.entered * part, lot.remaining)
            lot.factor = FINE.divide(lot.factor * part, lot.remaining)
            lot.remaining = part
        self._factor = FINE.divide(factor * total, before)

        def undo() -> None:
            self._factor = factor
            del self._before_splits[place]

        self._undo.append((place, undo))

    def _rebase(self, place: int, row: Row) -> None:
        """Count a row in shares as they are now."""
        self._remember_row(place, row)
        row.raw = row.qty if row.raw is None else row.raw
        row.qty, row.factor = FINE.divide(row.qty * row.lot.factor, row.factor), row.lot.factor

    def _remember_lot(self, place: int, lot: OpenLot) -> None:
        remaining, entered, factor = lot.remaining, lot.entered, lot.factor

        def undo() -> None:
            lot.remaining, lot.entered, lot.factor = remaining, entered, factor

        self._undo.append((place, undo))

    def _remember_row(self, place: int, row: Row) -> None:
        qty, raw, factor, is_sole = row.qty, row.raw, row.factor, row.is_sole

        def undo() -> None:
            row.qty, row.raw, row.factor, row.is_sole = qty, raw, factor, is_sole

        self._undo.append((place, undo))

    # Back

    def rewind(self, place: int) -> None:
        """Take back the steps from a place on; the tape still has them."""
        for gone in range(self.done - 1, place - 1, -1):
            if fill := self.tape.trade(gone):
                self._take_back(gone, fill)
            self._outcomes.pop()
            while self._undo and self._undo[-1][0] == gone:
                self._undo.pop()[1]()
        self.done = min(self.done, place)
        del self.asked[bisect_left(self.asked, place) :]
        if self.open:
            self.is_long = next(iter(self.open.values())).is_long

    def _take_back(self, place: int, fill: Fill) -> None:
        entered = fill.qty
        parts = _parts(self._outcomes[place], fill.qty)
        for _, part in parts:
            entered -= part
        if entered:
            self._take_back_entry(place, fill, entered)
        for row, part in reversed(parts):
            self._take_back_exit(place, fill, row, part)

    def _take_back_entry(self, place: int, fill: Fill, qty: Decimal) -> None:
        key = self._renamed.pop(place, fill.order_id)
        lot = self.lots[key]
        lot.remaining -= qty
        lot.entered -= qty
        lot.cost -= qty * fill.price
        if not lot.remaining:
            del self.open[key]
        if place == lot.first:
            del self.lots[key]
        elif lot.last == place:
            lot.last = self._entry_before(place, lot)

    def _entry_before(self, place: int, lot: OpenLot) -> int:
        for earlier in range(place - 1, lot.first, -1):
            if not isinstance(self._outcomes[earlier], Row) and (fill := self.tape.trade(earlier)):
                closed = sum((part for _, part in _parts(self._outcomes[earlier], fill.qty)), ZERO)
                if self._renamed.get(earlier, fill.order_id) == lot.key and closed != fill.qty:
                    return earlier
        return lot.first

    def _take_back_exit(self, place: int, fill: Fill, row: Row, qty: Decimal) -> None:
        lot = row.lot
        if not lot.remaining:
            self.open[lot.key] = lot
        lot.remaining += qty
        if place != row.first:
            row.qty -= qty
            row.value -= qty * fill.price
            row.last = self._closing_before(place, row)
            if row.raw is not None:
                row.raw -= qty
            return
        lot.newest = row.older
        if row.earlier is None:
            del self.rows[row.exit_id]
        else:
            self.rows[row.exit_id] = row.earlier

    def _closing_before(self, place: int, row: Row) -> int:
        for earlier in range(place - 1, row.first, -1):
            outcome = self._outcomes[earlier]
            if outcome is row or (type(outcome) is tuple and any(other is row for other, _ in outcome)):
                return earlier
        return row.first

    def held_since(self, at: datetime) -> list[tuple[int, dict[OpenLot, Decimal]]]:
        """Return what was held after each step from a moment on, and after the last one before it, as (step, shares).

        The lots of each are in no order.
        """
        held = {lot: lot.remaining for lot in self.open.values()}
        found = []
        for place in range(self.done - 1, -1, -1):
            found.append((place, dict(held)))
            if self.tape.steps[place].at < at:
                break
            self._hold_before(place, held)
        return found[::-1]

    def _hold_before(self, place: int, held: dict[OpenLot, Decimal]) -> None:
        fill = self.tape.trade(place)
        if fill is not None:
            entered = fill.qty
            for row, part in _parts(self._outcomes[place], fill.qty):
                held[row.lot] = held.get(row.lot, ZERO) + part
                entered -= part
            if entered:
                lot = self.lots[self._renamed.get(place, fill.order_id)]
                held[lot] -= entered
                if not held[lot]:
                    del held[lot]
        held.update(self._before_splits.get(place, ()))


def _parts(outcome: Outcome, qty: Decimal) -> tuple[tuple[Row, Decimal], ...]:
    """Return what a step closed, as (row, shares)."""
    if outcome is None:
        return ()
    return ((outcome, qty),) if type(outcome) is Row else outcome  # type: ignore[return-value]
