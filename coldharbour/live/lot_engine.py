"""The strategy's matching: an exit closes the lot whose leg it is, before any other; knows nothing of FIFO.

A lot is the filled quantity of one entry order. The position decides what is an exit, never the order's class.
Source: domain.md 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from coldharbour.live.decimals import FINE, ONE
from coldharbour.live.lineage import Lineage
from coldharbour.live.lot_legs import LotLegs
from coldharbour.live.model import Fill
from coldharbour.live.moves import allot
from coldharbour.live.open_lot import OpenLot, Row
from coldharbour.live.tape import Attachment, Tape
from coldharbour.live.undo_log import Part, UndoLog


class LotEngine:
    """The lots of one tape, as far as `done`; use it in the EXACT context.

    lots: all there ever were, by key; open: those of which something is left, all on one side. rows: the newest row
    of each exit order. asked: the steps whose outcome hung on which legs were live. undo_log: what each step did;
    `rewinding` takes it back.
    """

    def __init__(self, tape: Tape, lineage: Lineage) -> None:
        self.tape, self.lineage, self.done, self.is_long = tape, lineage, 0, True
        self.lots: dict[str, OpenLot] = {}
        self.open: dict[str, OpenLot] = {}
        self.rows: dict[str, Row] = {}
        self.legs = LotLegs(lineage)
        self.asked: list[int] = []
        self.undo_log = UndoLog(tape)
        self._factor = ONE

    def oldest_first(self) -> list[OpenLot]:
        """Return the open lots by their first entry fills."""
        return sorted(self.open.values(), key=lambda lot: lot.first)

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
            lot = self.lots.get(self.undo_log.lot_key(place, fill))
            if lot is not None:
                yield from lot.rows()
        for lot, _ in self.undo_log.before_splits.get(place, ()):
            yield from lot.rows()
        tied = self.legs.ties.get(self.tape.steps[place].id)
        if tied is not None:
            yield from tied.rows()

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
        homes, entangled, done = self.lineage.homes, self.lineage.entangled, self.undo_log.outcomes.append
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
        self.undo_log.outcomes.append(None)

    def _trade(self, place: int, fill: Fill) -> None:
        parts: list[Part] = []
        left = fill.qty
        if self.open and fill.is_buy != self.is_long:
            is_order = type(self.tape.steps[place]) is Fill
            own = self.legs.owners(fill.order_id, self.open) if is_order else []
            left = self._close_all(place, fill, own, left, parts)
            if left:
                left = self._close_all(place, fill, self._strangers(place), left, parts)
        if left:
            self.is_long = fill.is_buy
            self._enter(place, fill, left)
        self.undo_log.outcomes.append(tuple(parts) or None)

    # Entries

    def _enter(self, place: int, fill: Fill, qty: Decimal) -> None:
        key = fill.order_id
        lot = self.lots.get(key)
        if lot is not None and lot.is_long != fill.is_buy:  # one order on both sides: no broker sends that
            key = self.undo_log.renamed[place] = self.tape.steps[place].id
            lot = self.lots.get(key)
        if lot is None:
            lot = self.lots[key] = self.open[key] = OpenLot(key, place, qty, fill.price, fill.is_buy)
            lot.factor = self._factor
            return
        if not lot.remaining:
            self._reopen(place, lot)
        lot.enter(place, qty, fill.price)

    def _reopen(self, place: int, lot: OpenLot) -> None:
        self.open[lot.key] = lot
        if lot.factor != self._factor:
            self.undo_log.remember(place, lot.restorer())
            lot.catch_up(self._factor)

    # Exits

    def _strangers(self, place: int) -> list[OpenLot]:
        """Return the open lots in the order in which an exit that is nobody's leg closes them. Source: domain.md 5."""
        step = self.tape.steps[place]
        oldest_first = self.oldest_first()
        if type(step) is not Fill or len(oldest_first) < 2:
            return oldest_first
        self.asked.append(place)
        return sorted(oldest_first, key=lambda lot: self.legs.are_live(lot, step.at))

    def _close_all(self, place: int, fill: Fill, lots: Iterable[OpenLot], left: Decimal, parts: list[Part]) -> Decimal:
        """Close these lots one after another; return what is left of the exit."""
        for lot in lots:
            if not left:
                break
            part = min(left, lot.remaining)
            parts.append((self._close(place, fill, lot, part), part))
            left -= part
        return left

    def _close(self, place: int, fill: Fill, lot: OpenLot, qty: Decimal) -> Row:
        row = next((row for row in self.rows_of(fill.order_id) if row.lot is lot), None)
        if row is None:
            newest = self.rows.get(fill.order_id)
            row = self.rows[fill.order_id] = Row(lot, fill.order_id, place, qty, fill.price)
            row.earlier = newest
        else:
            if row.factor != lot.factor:
                self.undo_log.remember(place, row.restorer())
                row.divide()
            row.add(place, qty, fill.price)
        lot.remaining -= qty
        if not lot.remaining:
            del self.open[lot.key]
        return row

    # What is no trade

    def _attach(self, place: int, oco: Attachment) -> None:
        self.asked.append(place)
        lots = self.oldest_first() if oco.is_buy != self.is_long else []
        self.undo_log.remember(place, self.legs.tie(oco, lots))

    def _split(self, place: int) -> None:
        before, total = self.tape.splits[place]
        lots, factor = self.oldest_first(), self._factor
        self.undo_log.before_splits[place] = [(lot, lot.remaining) for lot in lots]
        parts = allot([lot.remaining for lot in lots], abs(total))
        for lot, part in zip(lots, parts, strict=True):
            self.undo_log.remember(place, lot.restorer())
            for row in lot.rows():
                self.undo_log.remember(place, row.restorer())
                row.is_sole = False
            lot.divide(part)
        self._factor = FINE.divide(factor * total, before)

        def undo() -> None:
            self._factor = factor
            del self.undo_log.before_splits[place]

        self.undo_log.remember(place, undo)
