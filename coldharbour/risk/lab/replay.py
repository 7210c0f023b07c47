"""How a closed trade ends if its stop moves to break-even at a trigger, by its minute bars; pure, reads nothing.

What the bars leave open is decided against the rule under test, and slippage is no more than a gap shows:

- Within one bar nobody knows whether the high or the low came first: the bar that touches the trigger arms the stop
  from the next bar on.
- The first bar after that which reaches the break-even stop ends the trade: at its open where that lies beyond the stop
  already, else at the stop.
- Of the minute of the exit only what surely came before it counts: its open, and the exit itself.
- A trade that nothing arms, or whose moved stop nothing reaches, ends as it did. So one whose own stop was moved ends
  there in every row, the one without break-even included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import dropwhile
from typing import Final

from coldharbour.feed.model import MinuteBar
from coldharbour.live.marks.coverage import floor
from coldharbour.live.model import ZERO, Side
from coldharbour.risk.breakeven import NoLegalStop, breakeven_trigger, legal_stop

TRIGGERS: Final = (None, *map(Decimal, ("1", "1.5", "2", "2.5", "3")))  # in R; None: no break-even


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One closed trade, or the part of a lot that one order closed.

    qty: shares, above zero. initial_stop: on the losing side of the entry. pnl_cash: what it brought, account currency.
    bars: of the regular minutes it was held, ascending, as `bars_before_exit` leaves them.
    """

    side: Side
    qty: Decimal
    entry_price: Decimal
    initial_stop: Decimal
    exit_price: Decimal
    pnl_cash: Decimal
    bars: Sequence[MinuteBar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a trial ends. pnl_cash: account currency. pnl_r: in units of R = |entry - initial stop|, unrounded.

    armed: the trigger was touched. stopped: the break-even stop ended it. saved: that, at less of
    a loss, where it had lost the initial risk or more. scratched: that, and it had ended better than at this stop.
    """

    pnl_cash: Decimal
    pnl_r: Decimal
    armed: bool = False
    stopped: bool = False
    saved: bool = False
    scratched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All outcomes under one trigger. trigger_r: in R, None without break-even. pnl_r: unrounded."""

    trigger_r: Decimal | None
    trades: int
    armed: int
    stopped: int
    saved: int
    scratched: int
    pnl_cash: Decimal
    pnl_r: Decimal


def has_risk(side: Side, entry_price: Decimal, initial_stop: Decimal | None) -> bool:
    """Say whether there is an R to measure by: an initial stop on the losing side of the entry.

    >>> has_risk(Side.LONG, Decimal(50), Decimal(48)), has_risk(Side.SHORT, Decimal(50), Decimal(48))
    (True, False)
    """
    return initial_stop is not None and side.sign * (entry_price - initial_stop) > 0


def bars_before_exit(bars: Iterable[MinuteBar], exit_time: datetime, exit_price: Decimal) -> list[MinuteBar]:
    """Return what the bars tell of the time before an exit in regular hours; the exit's own minute becomes a bar of
    its open and the exit's price, of the price alone where it has none.
    """
    last = floor(exit_time)
    known = list(bars)
    opened = next((bar.open for bar in known if bar.start == last), None)
    prices = [exit_price] if opened is None else [opened, exit_price]
    return [*(bar for bar in known if bar.start < last), MinuteBar(last, max(prices), min(prices), opened)]


def replay(trial: Trial, trigger_r: Decimal | None) -> Outcome:
    """Return how a trade ends if its stop moves to the legal break-even price at `trigger_r` R, None for no move.

    A stop that stands at break-even from the beginning does not move, nor one for which no legal price exists.
    Source: domain.md 9, and this module's assumptions.
    """
    stop = None if trigger_r is None else _breakeven_stop(trial)
    later = None if trigger_r is None or stop is None else _after_trigger(trial, trigger_r)
    as_it_did = Outcome(pnl_cash=trial.pnl_cash, pnl_r=_in_r(trial, trial.exit_price), armed=later is not None)
    if stop is None or later is None:
        return as_it_did
    ended = next((_fill(bar, trial.side, stop) for bar in later if _reaches(bar, trial.side, stop)), None)
    if ended is None:
        return as_it_did
    return Outcome(
        pnl_cash=trial.side.sign * trial.qty * (ended - trial.entry_price),
        pnl_r=_in_r(trial, ended),
        armed=True,
        stopped=True,
        saved=_in_r(trial, trial.exit_price) <= -1 and trial.side.sign * (ended - trial.exit_price) > 0,
        scratched=trial.side.sign * (trial.exit_price - stop) > 0,
    )


def total(trigger_r: Decimal | None, outcomes: Iterable[Outcome]) -> Row:
    """Return what outcomes under one trigger add up to."""
    known = list(outcomes)
    return Row(
        trigger_r=trigger_r,
        trades=len(known),
        armed=sum(one.armed for one in known),
        stopped=sum(one.stopped for one in known),
        saved=sum(one.saved for one in known),
        scratched=sum(one.scratched for one in known),
        pnl_cash=sum((one.pnl_cash for one in known), ZERO),
        pnl_r=sum((one.pnl_r for one in known), ZERO),
    )


def _in_r(trial: Trial, price: Decimal) -> Decimal:
    return trial.side.sign * (price - trial.entry_price) / abs(trial.entry_price - trial.initial_stop)


def _breakeven_stop(trial: Trial) -> Decimal | None:
    """Return where the stop would move, None if it would not: it never moves away from the market."""
    try:
        stop = legal_stop(trial.entry_price, trial.side)
    except NoLegalStop:
        return None
    return stop if trial.side.sign * (stop - trial.initial_stop) > 0 else None


def _after_trigger(trial: Trial, trigger_r: Decimal) -> Iterator[MinuteBar] | None:
    """Return the bars after the first that touches the trigger, None if none does."""
    trigger = breakeven_trigger(trial.entry_price, trial.side, initial_stop=trial.initial_stop, trigger_r=trigger_r)
    touching = dropwhile(lambda bar: not _touches(bar, trial.side, trigger), trial.bars)
    return None if next(touching, None) is None else touching


def _touches(bar: MinuteBar, side: Side, trigger: Decimal | None) -> bool:
    if trigger is None:
        return False
    return bar.high >= trigger if side is Side.LONG else bar.low <= trigger


def _reaches(bar: MinuteBar, side: Side, stop: Decimal) -> bool:
    return bar.low <= stop if side is Side.LONG else bar.high >= stop


def _fill(bar: MinuteBar, side: Side, stop: Decimal) -> Decimal:
    """Return the price at which a stop that this bar reaches is filled."""
    return bar.open if bar.open is not None and side.sign * (bar.open - stop) < 0 else stop
