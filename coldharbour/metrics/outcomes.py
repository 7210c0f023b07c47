"""How lots ended: the closed trades of each lot as one outcome, and what all outcomes add up to; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from coldharbour.live.model import ZERO, ClosedTrade, ExitType

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LotOutcome:
    """All closings of one lot as one.

    pnl_cash, pnl_cash_fifo: account currency. invested: sum of qty*entry_price of what was closed. held: first entry
    fill to last exit.
    """

    exit_type: ExitType
    pnl_cash: Decimal
    pnl_cash_fifo: Decimal
    invested: Decimal
    held: timedelta

    @property
    def is_take(self) -> bool:
        """Whether it ended at its take-profit, with a profit. Source: domain.md 8."""
        return self.exit_type is ExitType.TAKE_PROFIT and self.pnl_cash > 0

    @property
    def is_stop(self) -> bool:
        """Whether it ended at its stop, with a loss. Source: domain.md 8."""
        return self.exit_type is ExitType.STOP_LOSS and self.pnl_cash < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedFigures:
    """What the closed lots add up to.

    mean_take, mean_stop: account currency, both positive. hold_take_days, hold_stop_days: days. All four are means
    weighted by invested money, None without such a lot.
    """

    count: int = 0
    takes: int = 0
    stops: int = 0
    pnl_cash: Decimal = ZERO
    pnl_cash_fifo: Decimal = ZERO
    mean_take: Decimal | None = None
    mean_stop: Decimal | None = None
    hold_take_days: Decimal | None = None
    hold_stop_days: Decimal | None = None


def closed_figures(trades: Iterable[ClosedTrade]) -> ClosedFigures:
    """Return what the closed trades add up to, collapsed per lot. Source: domain.md 8."""
    lots = lot_outcomes(trades)
    takes, stops = [lot for lot in lots if lot.is_take], [lot for lot in lots if lot.is_stop]
    return ClosedFigures(
        count=len(lots),
        takes=len(takes),
        stops=len(stops),
        pnl_cash=sum((lot.pnl_cash for lot in lots), ZERO),
        pnl_cash_fifo=sum((lot.pnl_cash_fifo for lot in lots), ZERO),
        mean_take=_weighted((lot.invested, lot.pnl_cash) for lot in takes),
        mean_stop=_weighted((lot.invested, -lot.pnl_cash) for lot in stops),
        hold_take_days=_weighted((lot.invested, _days(lot.held)) for lot in takes),
        hold_stop_days=_weighted((lot.invested, _days(lot.held)) for lot in stops),
    )


def lot_outcomes(trades: Iterable[ClosedTrade]) -> list[LotOutcome]:
    """Return one outcome per entry lot, in the order in which the lots first appear. Source: domain.md 8."""
    lots: defaultdict[str, list[ClosedTrade]] = defaultdict(list)
    for trade in trades:
        lots[trade.entry_lot_id].append(trade)
    return [_outcome(closings) for closings in lots.values()]


def _outcome(closings: list[ClosedTrade]) -> LotOutcome:
    return LotOutcome(
        exit_type=closings[0].exit_type if len(closings) == 1 else _exit_type(closings),
        pnl_cash=sum((trade.pnl_cash for trade in closings), ZERO),
        pnl_cash_fifo=sum((trade.pnl_cash_fifo for trade in closings), ZERO),
        invested=sum((trade.qty * trade.entry_price for trade in closings), ZERO),
        held=max(trade.exit_time for trade in closings) - min(trade.entry_time for trade in closings),
    )


def _exit_type(closings: list[ClosedTrade]) -> ExitType:
    """Return what closed most shares, of two that closed as many the one with the later exit."""
    closed: defaultdict[ExitType, Decimal] = defaultdict(Decimal)
    for trade in closings:
        closed[trade.exit_type] += trade.qty
    latest = {kind: max(trade.exit_time for trade in closings if trade.exit_type is kind) for kind in closed}
    return max(closed, key=lambda kind: (closed[kind], latest[kind]))


def _days(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(microseconds=1)) / Decimal(DAY // timedelta(microseconds=1))


def _weighted(pairs: Iterable[tuple[Decimal, Decimal]]) -> Decimal | None:
    """Return the mean of values by their weights, None where the weights are nothing."""
    total, sum_of_values = ZERO, ZERO
    for weight, value in pairs:
        total += weight
        sum_of_values += weight * value
    return sum_of_values / total if total else None
