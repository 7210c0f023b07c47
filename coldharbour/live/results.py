"""What a matched symbol comes to as values: its open lots and closed trades; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from coldharbour.live import liveness
from coldharbour.live.decimals import FINE, ROUNDED, ZERO
from coldharbour.live.exposure import exposure
from coldharbour.live.legs import Leg, earliest_expiry
from coldharbour.live.liveness import Span
from coldharbour.live.model import ClosedTrade, ExitType, Lot, OrderFact, Side
from coldharbour.live.open_lot import OpenLot, Row
from coldharbour.live.splits import Split, restated
from coldharbour.live.symbol import SymbolBook

HUNDRED: Final = Decimal(100)
SECOND: Final = timedelta(seconds=1)


def open_lots(book: SymbolBook) -> list[Lot]:
    """Return a symbol's open lots, the oldest first."""
    average = book.average.price
    return [_lot(book, lot, average) for lot in book.engine.oldest_first()]


def closed_trades(book: SymbolBook) -> list[ClosedTrade]:
    """Return a symbol's closed trades, by time of exit."""
    return sorted((closed_trade(book, row) for lot in book.engine.lots.values() for row in lot.rows()), key=exit_order)


def exit_order(trade: ClosedTrade) -> tuple[datetime, str, datetime, str]:
    """Return the place of a closed trade among those of its symbol."""
    return trade.exit_time, trade.exit_order_id, trade.entry_time, trade.entry_lot_id


def _lot(book: SymbolBook, lot: OpenLot, average: Decimal) -> Lot:
    steps, legs = book.tape.steps, book.engine.legs.of(lot)
    stop, take = _working(legs, ExitType.STOP_LOSS), _working(legs, ExitType.TAKE_PROFIT)
    stop = book.coverage.now(lot.key) if stop is None else stop
    bare = exposure(steps[lot.first].at, None, _protected(book, lot, legs))
    return Lot(
        parent_id=lot.key,
        symbol=book.symbol,
        side=_side(lot),
        qty=lot.remaining if lot.is_long else -lot.remaining,
        entry_qty=lot.entered,
        avg_fill=ROUNDED.divide(lot.cost, lot.entered),
        avg_px_symbol=average,
        entry_time=steps[lot.first].at,
        last_fill_time=steps[max(lot.last, *(row.last for row in lot.rows()), 0)].at,
        initial_stop=_initial_stop(legs, _splits(book, 0, len(steps))),
        stop_price=None if stop is None else stop.stop_price,
        stop_order_id=None if stop is None else stop.id,
        take_price=None if take is None else take.limit_price,
        take_order_id=None if take is None else take.id,
        expires_at=earliest_expiry(legs),
        unprotected_s=bare.seconds,
        unprotected_since=bare.since,
    )


def closed_trade(book: SymbolBook, row: Row) -> ClosedTrade:
    """Return what an exit order closed of a lot. Source: domain.md 5."""
    lot, steps = row.lot, book.tape.steps
    legs = book.engine.legs.of(lot)
    entry_time, exit_time = steps[lot.first].at, steps[row.last].at
    shares = lot.entered if lot.factor == row.factor else FINE.divide(lot.entered * row.factor, lot.factor)
    cost = row.qty * lot.cost  # times the lot's shares, so that nothing is rounded before the end
    gain = row.value * shares - cost
    pnl = ROUNDED.divide(gain if lot.is_long else -gain, shares)
    fifo_qty, fifo_profit = book.fifo.closed[row.exit_id]
    pnl_fifo = ROUNDED.divide((row.qty if row.raw is None else row.raw) * fifo_profit, fifo_qty)
    parent, exit_type = _belongs(book, row)
    return ClosedTrade(
        entry_lot_id=lot.key,
        exit_order_id=row.exit_id,
        exit_parent_id=parent,
        symbol=book.symbol,
        side=_side(lot),
        qty=row.qty,
        entry_time=entry_time,
        entry_price=ROUNDED.divide(lot.cost, shares),
        exit_time=exit_time,
        exit_price=ROUNDED.divide(row.value, row.qty),
        exit_type=exit_type,
        pnl_cash=pnl,
        pnl_cash_fifo=pnl_fifo,
        diff_pnl=pnl - pnl_fifo,
        return_pct=ROUNDED.divide(HUNDRED * pnl * shares, cost) if cost else ZERO,
        duration_sec=(exit_time - entry_time) // SECOND,
        initial_stop=_initial_stop(legs, _splits(book, 0, row.last)),
        unprotected_s=exposure(entry_time, exit_time, _protected(book, lot, legs)).seconds,
        splits=_splits(book, lot.first, row.last),
    )


def _belongs(book: SymbolBook, row: Row) -> tuple[str | None, ExitType]:
    """Return the parent of a row's exit order, and how the exit closed this lot. Source: domain.md 5."""
    lineage, ties = book.lineage, book.engine.legs.ties
    home = lineage.home(row.exit_id)
    if home is None:
        return None, ExitType.MANUAL
    if home in ties:
        lot = ties[home]
        parent, is_own = None if lot is None else lot.key, lot is row.lot
    else:
        parent = None if lineage.is_oco(home) else home
        is_own = lineage.latest(row.lot.key) == home
    kind = lineage.kind(row.exit_id) if is_own else None
    return parent, kind or ExitType.MANUAL


def _initial_stop(legs: Iterable[Leg], splits: Iterable[Split]) -> Decimal | None:
    """Return the price with which the first stop began, in terms of shares as they are after these splits."""
    leg = next((leg for leg in legs if leg.kind is ExitType.STOP_LOSS), None)
    if leg is None or leg.first.stop_price is None:
        return None
    return restated(leg.first.stop_price, liveness.began(leg.first), splits)


def _splits(book: SymbolBook, start: int, stop: int) -> tuple[Split, ...]:
    """Return the splits of a symbol from one step to another, in order."""
    splits, steps = book.tape.splits, book.tape.steps
    if not splits:  # every row asks
        return ()
    return tuple(Split(steps[place].at, *splits[place]) for place in sorted(splits) if start <= place < stop)


def _protected(book: SymbolBook, lot: OpenLot, legs: Iterable[Leg]) -> list[Span]:
    own = [span for leg in legs if leg.kind is ExitType.STOP_LOSS for span in leg.spans]
    return [*own, *book.coverage.spans(lot.key)]


def _working(legs: Sequence[Leg], kind: ExitType) -> OrderFact | None:
    """Return the live order of the newest leg of a kind that has one."""
    working = (leg.working for leg in reversed(legs) if leg.kind is kind)
    return next((order for order in working if order is not None), None)


def _side(lot: OpenLot) -> Side:
    return Side.LONG if lot.is_long else Side.SHORT
