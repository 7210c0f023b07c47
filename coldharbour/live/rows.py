"""Rows of the live tables: what is stored of a lot and of a closed trade; pure translation, no SQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from coldharbour.live.model import ClosedTrade, Lot

Row = dict[str, Any]

R_DIGITS = Decimal("0.000001")


def open_row(lot: Lot, broker_avg: Decimal | None) -> Row:
    """Return the structural columns of an open lot.

    broker_avg: the broker's own average cost of the symbol, where that is newer than the symbol's last fill; it
    takes the place of the recursion's. Source: domain.md 4.
    """
    return {
        "parent_id": lot.parent_id, "symbol": lot.symbol, "side": lot.side, "qty": lot.qty,
        "entry_qty": lot.entry_qty, "avg_fill": lot.avg_fill,
        "avg_px_symbol": lot.avg_px_symbol if broker_avg is None else broker_avg,
        "buy_value": lot.qty * lot.avg_fill, "entry_time": lot.entry_time, "last_fill_time": lot.last_fill_time,
        "initial_stop": lot.initial_stop, "sl_px": lot.stop_price, "stop_order_id": lot.stop_order_id,
        "tp_px": lot.take_price, "take_order_id": lot.take_order_id, "expires_at": lot.expires_at,
        "unprotected_s": lot.unprotected_s, "unprotected_since": lot.unprotected_since,
    }  # fmt: skip


def closed_row(trade: ClosedTrade, *, closes_lot: bool) -> Row:
    """Return the columns of a closed trade that follow from the ledger. closes_lot: nothing of the lot is left."""
    return {
        "entry_lot_id": trade.entry_lot_id, "exit_order_id": trade.exit_order_id,
        "exit_parent_id": trade.exit_parent_id, "symbol": trade.symbol, "side": trade.side, "qty": trade.qty,
        "entry_time": trade.entry_time, "entry_price": trade.entry_price, "exit_time": trade.exit_time,
        "exit_price": trade.exit_price, "exit_type": trade.exit_type, "pnl_cash": trade.pnl_cash,
        "pnl_cash_fifo": trade.pnl_cash_fifo, "diff_pnl": trade.diff_pnl, "return_pct": trade.return_pct,
        "duration_sec": trade.duration_sec, "initial_stop": trade.initial_stop, "r_multiple": r_multiple(trade),
        "unprotected_s": trade.unprotected_s, "splits": trade.splits, "closes_lot": closes_lot,
    }  # fmt: skip


def r_multiple(trade: ClosedTrade) -> Decimal | None:
    """Return the exit's side-signed move from entry in units of R = |entry - initial stop|, to six decimals.

    None without an initial stop, and where it stands at the entry: there was no risk to measure by.
    Source: domain.md 9.
    """
    if trade.initial_stop is None or trade.initial_stop == trade.entry_price:
        return None
    risk = abs(trade.entry_price - trade.initial_stop)
    return (trade.side.sign * (trade.exit_price - trade.entry_price) / risk).quantize(R_DIGITS)
