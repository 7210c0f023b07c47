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
    tally = OutcomeTally()
    tally.add(lot_outcomes(trades))
    return tally.figures()


@dataclass(slots=True)
class _Weighted:
    """A mean of profits and of holding times by invested money, while it is made."""

    count: int = 0
    invested: Decimal = ZERO
    profit: Decimal = ZERO
    days: Decimal = ZERO

    def add(self, lot: LotOutcome) -> None:
        self.count += 1
        self.invested += lot.invested
        self.profit += lot.invested * lot.pnl_cash
        self.days += lot.invested * _days(lot.held)

    def mean(self, weighted: Decimal) -> Decimal | None:
        """Return a mean, None where the weights are nothing."""
        return weighted / self.invested if self.invested else None


class OutcomeTally:
    """What outcomes add up to while they come in; each lot comes once."""

    def __init__(self) -> None:
        self._count, self._pnl_cash, self._pnl_cash_fifo = 0, ZERO, ZERO
        self._takes, self._stops = _Weighted(), _Weighted()

    def add(self, lots: Iterable[LotOutcome]) -> None:
        """Count lots."""
        for lot in lots:
            self._count += 1
            self._pnl_cash += lot.pnl_cash
            self._pnl_cash_fifo += lot.pnl_cash_fifo
            if lot.is_take:
                self._takes.add(lot)
            elif lot.is_stop:
                self._stops.add(lot)

    def figures(self) -> ClosedFigures:
        """Return the sums and means so far. Source: domain.md 8."""
        takes, stops = self._takes, self._stops
        return ClosedFigures(
            count=self._count,
            takes=takes.count,
            stops=stops.count,
            pnl_cash=self._pnl_cash,
            pnl_cash_fifo=self._pnl_cash_fifo,
            mean_take=takes.mean(takes.profit),
            mean_stop=stops.mean(-stops.profit),
            hold_take_days=takes.mean(takes.days),
            hold_stop_days=stops.mean(stops.days),
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
