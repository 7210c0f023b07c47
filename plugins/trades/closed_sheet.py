"""The closed trades as a table: columns and rows, and why the two results differ; formats figures, computes none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coldharbour.live.model import Side
from coldharbour.web import formats

from .sheet import Cell, Column, excursion, result
from .store import ClosedTrade

COLUMNS = (
    Column("closed", "Closed, UTC", "time"),
    Column("side", "Side", "text"),
    Column("qty", "Qty"),
    Column("entry", "Entry", "num", "Average price of the lot's entry fills"),
    Column("exit", "Exit", "num", "Average price of the exit order's fills"),
    Column("by", "By", "text", "TP: by its own take-profit order; SL: by its own stop; MANUAL: by any other order"),
    Column("pl", "P/L lot", "num", "The strategy's: quantity × (exit − entry) of this lot"),
    Column("fifo", "P/L FIFO", "num", "The broker's: first in, first out"),
    Column("diff", "Diff", "num", "P/L lot − P/L FIFO; over all trades it ends at what is still open"),
    Column("r", "R", "num", "Move from entry in units of the initial risk, |entry − initial stop|"),
    Column("return", "Return", "num", "P/L lot in percent of quantity × entry"),
    Column("excursion", "MAE / MFE", "num", "Furthest against and for the lot while it was open, in R"),
    Column("held", "Held", "text"),
)


@dataclass(frozen=True, slots=True)
class ClosedRow:
    """One closing as a row of the table. why: how its two results come apart, "" if they do not."""

    id: str
    lot: str
    symbol: str
    cells: dict[str, Cell]
    why: str


def closed_rows(slug: str, trades: Iterable[ClosedTrade]) -> list[ClosedRow]:
    """Return the rows of closed trades."""
    return [
        ClosedRow(
            f"closed-{slug}-{trade.entry_lot_id}-{trade.exit_order_id}",
            trade.entry_lot_id,
            trade.symbol,
            _cells(trade),
            difference(trade),
        )
        for trade in trades
    ]


def difference(trade: ClosedTrade) -> str:
    """Say why the strategy's result and the broker's differ, "" where they are the same to the cent."""
    if not round(trade.diff_pnl, 2):
        return ""
    cost = trade.exit_price - Side(trade.side).sign * trade.pnl_cash_fifo / trade.qty
    return (
        f"This exit belongs to the lot entered at {formats.average(trade.entry_price)}; first in, first out closes the "
        f"oldest shares instead, which were entered at {formats.average(cost)} on average."
    )


def _cells(trade: ClosedTrade) -> dict[str, Cell]:
    return {
        "closed": Cell(formats.day_and_time(trade.exit_time)),
        "side": Cell(trade.side),
        "qty": Cell(formats.quantity(trade.qty)),
        "entry": Cell(formats.average(trade.entry_price)),
        "exit": Cell(formats.average(trade.exit_price)),
        "by": Cell(trade.exit_type),
        "pl": result(trade.pnl_cash),
        "fifo": result(trade.pnl_cash_fifo),
        "diff": Cell(formats.gain(trade.diff_pnl)),
        "r": result(trade.r_multiple),
        "return": Cell(formats.percent(trade.return_pct), formats.tone(trade.return_pct)),
        "excursion": excursion(Side(trade.side), trade.entry_price, trade.initial_stop, trade.high_px, trade.low_px),
        "held": Cell(formats.seconds(trade.duration_sec)),
    }
