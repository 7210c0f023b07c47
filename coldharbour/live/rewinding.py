"""Steps of the matching taken back, the newest first, and what was held after each; matches nothing."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime
from decimal import Decimal

from coldharbour.live.decimals import ZERO
from coldharbour.live.lot_engine import LotEngine
from coldharbour.live.model import Fill
from coldharbour.live.open_lot import OpenLot, Row

Held = dict[OpenLot, Decimal]  # shares by lot, in no order


def rewind(engine: LotEngine, place: int) -> None:
    """Take back the steps from a place on; the tape still has them."""
    for gone in range(engine.done - 1, place - 1, -1):
        if fill := engine.tape.trade(gone):
            _take_back(engine, gone, fill)
        engine.undo_log.forget(gone)
    engine.done = min(engine.done, place)
    del engine.asked[bisect_left(engine.asked, place) :]
    if engine.open:
        engine.is_long = next(iter(engine.open.values())).is_long


def _take_back(engine: LotEngine, place: int, fill: Fill) -> None:
    if entered := engine.undo_log.entered(place, fill):
        _take_back_entry(engine, place, fill, entered)
    for row, part in reversed(engine.undo_log.parts(place, fill)):
        _take_back_exit(engine, place, fill, row, part)


def _take_back_entry(engine: LotEngine, place: int, fill: Fill, qty: Decimal) -> None:
    undo_log = engine.undo_log
    lot = engine.lots[undo_log.lot_key(place, fill)]
    lot.remaining -= qty
    lot.entered -= qty
    lot.cost -= qty * fill.price
    if not lot.remaining:
        del engine.open[lot.key]
    if place == lot.first:
        del engine.lots[lot.key]
    elif lot.last == place:
        lot.last = undo_log.entry_before(place, lot)
    undo_log.renamed.pop(place, None)


def _take_back_exit(engine: LotEngine, place: int, fill: Fill, row: Row, qty: Decimal) -> None:
    lot = row.lot
    if not lot.remaining:
        engine.open[lot.key] = lot
    lot.remaining += qty
    if place != row.first:
        row.add(engine.undo_log.closing_before(place, row), -qty, fill.price)
        return
    lot.newest = row.older
    if row.earlier is None:
        del engine.rows[row.exit_id]
    else:
        engine.rows[row.exit_id] = row.earlier


def held_since(engine: LotEngine, at: datetime) -> list[tuple[int, Held]]:
    """Return what was held after each step from a moment on, and after the last one before it, as (step, shares)."""
    held = {lot: lot.remaining for lot in engine.open.values()}
    found = []
    for place in range(engine.done - 1, -1, -1):
        found.append((place, dict(held)))
        if engine.tape.steps[place].at < at:
            break
        _hold_before(engine, place, held)
    return found[::-1]


def _hold_before(engine: LotEngine, place: int, held: Held) -> None:
    undo_log = engine.undo_log
    if (fill := engine.tape.trade(place)) is not None:
        for row, part in undo_log.parts(place, fill):
            held[row.lot] = held.get(row.lot, ZERO) + part
        if entered := undo_log.entered(place, fill):
            lot = engine.lots[undo_log.lot_key(place, fill)]
            held[lot] -= entered
            if not held[lot]:
                del held[lot]
    held.update(undo_log.before_splits.get(place, ()))
