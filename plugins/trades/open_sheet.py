"""The open positions as a table: columns, rows, and the cells that prices change; formats figures, computes none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from coldharbour.live.model import Side
from coldharbour.live.valuation import days_to_expire, holding_days
from coldharbour.risk.audit import NewestDecision
from coldharbour.risk.model import Flag, Reason
from coldharbour.web import formats

from .sheet import Cell, Column, excursion, result
from .store import OpenTrade

# What the page says of a decision, and how grave that is.
STATES = {
    Reason.AT_BREAK_EVEN: ("at BE", "good"),
    Reason.MOVED: ("moved", "good"),
    Reason.DRY_RUN: ("dry run", "busy"),
    Reason.NOT_ARMED: ("waiting", "idle"),
    Reason.TRAILING_STOP: ("trailing", "idle"),
    Reason.NO_TRIGGER: ("no trigger", "idle"),
    Reason.CROSSED_ENTRY: ("losing", "idle"),
    Reason.NO_PRICE: ("no price", "warn"),
    Reason.UNUSABLE_LOT: ("unusable", "warn"),
    Reason.FOREIGN_STOP: ("not its own", "warn"),
    Reason.UNSETTLED: ("unsettled", "busy"),
    Reason.PERHAPS_HALTED: ("halted?", "warn"),
    Reason.CORPORATE_ACTION: ("frozen", "warn"),
    Reason.MOVE_TOO_WIDE: ("too wide", "warn"),
    Reason.SYMBOL_DISARMED: ("disarmed", "warn"),
    Reason.ACCOUNT_DISARMED: ("disarmed", "warn"),
    Reason.ABANDONED: ("abandoned", "warn"),
    Reason.NO_ANSWER: ("no answer", "warn"),
    Reason.FLATTENING: ("closing", "busy"),
    Reason.FLATTENED: ("closed", "idle"),
    Reason.NOT_FLATTENED: ("not closed", "bad"),
    Reason.PLANNED: ("moving", "busy"),
    Reason.REJECTED: ("rejected", "bad"),
    Reason.NOT_MOVED: ("not moved", "warn"),
}

COLUMNS = (
    Column("be", "BE", "state", "Break-even: what the engine last decided about this lot's stop"),
    Column("side", "Side", "text"),
    Column("reach", "SL ↔ TP", "bar", "Way from entry to the take-profit (+100 %) or to the stop (−100 %)"),
    Column("pl", "P/L", "num", "The broker's: quantity × (market − average cost of the symbol)"),
    Column("pl_lot", "P/L lot", "num", "The strategy's: quantity × (market − this lot's entry)"),
    Column("r", "R", "num", "Move from entry in units of the initial risk, |entry − initial stop|"),
    Column("qty", "Qty", "num"),
    Column("entry", "Entry", "num", "Average price of this lot's entry fills"),
    Column("market", "Market", "num", "Last eligible trade"),
    Column("stop", "Stop", "num", "Of the live stop order"),
    Column("target", "Target", "num", "Of the live take-profit order"),
    Column("cost", "Buy value", "num", "Quantity × entry; negative for a short lot"),
    Column("value", "Mkt value", "num", "Quantity × market; negative for a short lot"),
    Column("excursion", "MAE / MFE", "num", "Furthest against and for the lot since entry, in R"),
    Column("opened", "Opened, UTC", "time"),
    Column("days", "Days", "num", "Whole days since the first entry fill"),
    Column("expires", "Exp", "num", "Whole days until the first of its exit orders expires"),
)


class Marked(Protocol):
    """What the market makes of a lot, and what that is measured by; a stored row, or a told one."""

    @property
    def side(self) -> str: ...
    @property
    def avg_fill(self) -> Decimal: ...
    @property
    def initial_stop(self) -> Decimal | None: ...
    @property
    def mkt_px(self) -> Decimal | None: ...
    @property
    def mkt_value(self) -> Decimal | None: ...
    @property
    def profit_loss(self) -> Decimal | None: ...
    @property
    def profit_loss_lot(self) -> Decimal | None: ...
    @property
    def tp_sl_reach_pct(self) -> Decimal | None: ...
    @property
    def r_multiple(self) -> Decimal | None: ...
    @property
    def high_px(self) -> Decimal | None: ...
    @property
    def low_px(self) -> Decimal | None: ...


@dataclass(frozen=True, slots=True)
class OpenRow:
    """One lot as a row of the table. state_detail: the last decision in words."""

    id: str
    trade: OpenTrade
    cells: dict[str, Cell]
    state_detail: str


@dataclass(frozen=True, slots=True)
class Sums:
    """What lots add up to; a sum is None as long as one of its values is."""

    mkt_value: Decimal | None
    profit_loss: Decimal | None
    profit_loss_lot: Decimal | None


def open_rows(slug: str, trades: Iterable[OpenTrade], decisions: dict[str, NewestDecision]) -> list[OpenRow]:
    """Return the rows of the open lots."""
    return [_open_row(slug, trade, decisions.get(trade.parent_id)) for trade in trades]


def row_id(slug: str, parent_id: str) -> str:
    """Return the element id of a lot's row."""
    return f"open-{slug}-{parent_id}"


def market_cells(lot: Marked) -> dict[str, Cell]:
    """Return the cells that a price changes."""
    return {
        "reach": _reach(lot.tp_sl_reach_pct),
        "pl": result(lot.profit_loss),
        "pl_lot": result(lot.profit_loss_lot),
        "r": result(lot.r_multiple),
        "market": Cell(formats.price(lot.mkt_px)),
        "value": Cell(formats.money(lot.mkt_value)),
        "excursion": excursion(Side(lot.side), lot.avg_fill, lot.initial_stop, lot.high_px, lot.low_px),
    }


def sums(lots: Iterable[Marked]) -> Sums:
    """Return what lots add up to."""
    lots = list(lots)
    return Sums(
        _sum(lot.mkt_value for lot in lots),
        _sum(lot.profit_loss for lot in lots),
        _sum(lot.profit_loss_lot for lot in lots),
    )


def sum_cells(added: Sums) -> dict[str, Cell]:
    """Return the cells of the totals that a price changes."""
    return {
        "pl": result(added.profit_loss),
        "pl_lot": result(added.profit_loss_lot),
        "value": Cell(formats.money(added.mkt_value)),
    }


def _open_row(slug: str, trade: OpenTrade, decision: NewestDecision | None) -> OpenRow:
    state, detail = _state(trade, decision)
    cells = {
        "be": state,
        "side": Cell(trade.side),
        "qty": Cell(formats.quantity(trade.qty)),
        "entry": Cell(formats.average(trade.avg_fill)),
        "stop": Cell("none", "warn") if trade.is_orphan else Cell(formats.price(trade.sl_px)),
        "target": Cell(formats.price(trade.tp_px)),
        "cost": Cell(formats.money(trade.buy_value)),
        "opened": Cell(formats.day_and_time(trade.entry_time)),
        "days": Cell(str(holding_days(trade.entry_time, trade.read_at))),
        "expires": Cell(_whole(days_to_expire(trade.expires_at, trade.read_at))),
        **market_cells(trade),
    }
    return OpenRow(row_id(slug, trade.parent_id), trade, cells, detail)


def _state(trade: OpenTrade, decision: NewestDecision | None) -> tuple[Cell, str]:
    if decision is None:
        return Cell(formats.NO_VALUE), "not evaluated yet"
    reason = Reason.MOVED if trade.moved_flag == Flag.OK else Reason(decision.reason)
    return Cell(*STATES[reason]), decision.detail


def _sum(values: Iterable[Decimal | None]) -> Decimal | None:
    known = list(values)
    return sum((value for value in known if value is not None), Decimal(0)) if None not in known else None


def _whole(number: int | None) -> str:
    return formats.NO_VALUE if number is None else str(number)


def _reach(pct: Decimal | None) -> Cell:
    """Return the way to the target or the stop, with a bar that ends where the way does."""
    if pct is None:
        return Cell(formats.NO_VALUE, "", "0", "0")
    bar = max(min(round(pct), 100), -100)
    sign = "+" if pct > 0 else formats.MINUS if pct < 0 else ""
    return Cell(f"{sign}{abs(round(pct))} %", formats.tone(pct), str(min(bar, 0)), str(abs(bar)))


def moment(at: datetime | None) -> str:
    """Return a moment as the page's own clock reads it, "" for none."""
    return "" if at is None else formats.instant(at)
