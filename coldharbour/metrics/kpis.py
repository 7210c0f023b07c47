"""The account's key figures: one document from its equity, its trades and its cash; reads no table, rounds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from coldharbour.live.cash import is_dividend, is_fee, is_interest
from coldharbour.live.model import ZERO
from coldharbour.metrics.model import EquityPoint, IntradayPoint
from coldharbour.metrics.outcomes import ClosedFigures
from coldharbour.metrics.performance import RATIOS

Document = dict[str, float | int | str | None]

FORMULAS: Final[Mapping[str, str]] = {
    "equity": "newest intraday point, else newest daily row",
    "cash": "sum of all cash effects up to now",
    "total_return_pct": "100 * (prod(1 + daily return) - 1), the running session included",
    "day_pl": "equity - previous close equity - external flows today",
    "day_return_pct": "100 * day_pl / previous close equity",
    "net_realized_fifo": "realized_pl_fifo + total_fees + net_dividends + net_interest",
    "unrealized_pl": "sum of qty * (market price - average cost of the symbol) over open lots",
    "open_value": "sum of qty * market price over open lots",
    "realized_pl_fifo": "sum of what was closed, matched oldest entry first",
    "realized_pl_strategy": "sum of qty * (exit price - entry price) over closed lots, negated for shorts",
    "total_fees": "sum of FEE, CFEE, PTC, PTR, DIVFEE; negative when paid",
    "net_dividends": "sum of the DIV types without DIVFEE",
    "net_interest": "sum of the INT types",
    "breakeven_pct": "100 / (1 + risk_reward): the win rate at which takes pay for stops",
    "win_rate_pct": "100 * takes / (takes + stops)",
    "risk_reward": "mean_take / mean_stop",
    "mean_take": "profit of lots closed at their take-profit with a gain, mean weighted by money invested",
    "mean_stop": "loss of lots closed at their stop with a loss, mean weighted by money invested, positive",
    "hold_take_days": "days from first entry fill to last exit of takes, mean weighted by money invested",
    "hold_stop_days": "days from first entry fill to last exit of stops, mean weighted by money invested",
    "buy_volume": "sum of qty * price over all buys",
    "sell_volume": "sum of qty * price over all sales",
    "closed_trades": "lots of which something was closed",
    "open_trades": "lots that are open",
    "max_drawdown_pct": "100 * min of drawdown; drawdown = (1 + cumulative return) / its maximum so far - 1",
    "current_drawdown_pct": "100 * drawdown of the newest daily row",
    **{
        name: f"{'(mean / deviation) * sqrt(252)' if name.startswith('sharpe') else 'sharpe / sqrt(1 + 2*abs(rho1))'}"
        f" of the newest {name.rpartition('_')[2]} daily returns"
        for name in RATIOS
    },
    "updated_at": "when a figure last changed, UTC",
}


@dataclass(frozen=True, slots=True)
class OpenFigures:
    """What the open lots add up to: how many, and signed money; None where lots are open and none has a price."""

    count: int = 0
    value: Decimal | None = ZERO
    profit: Decimal | None = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityFigures:
    """Where equity stands. intraday, daily: the newest of each. previous: the session before the newest of them.

    max_drawdown: the lowest of all daily rows, a fraction. buy_volume, sell_volume: sums of all daily rows.
    """

    intraday: IntradayPoint | None = None
    daily: EquityPoint | None = None
    previous: EquityPoint | None = None
    max_drawdown: float | None = None
    buy_volume: Decimal = ZERO
    sell_volume: Decimal = ZERO


def equity_figures(points: Iterable[EquityPoint], intraday: IntradayPoint | None = None) -> EquityFigures:
    """Return where equity stands after these daily points, ascending, and the newest intraday one.

    Source: domain.md 8.
    """
    points = list(points)
    newest = points[-1] if points else None
    at = max((day.session_date for day in (intraday, newest) if day), default=None)
    return EquityFigures(
        intraday=intraday,
        daily=newest,
        previous=next((p for p in reversed(points) if at and p.session_date < at), None),
        max_drawdown=min((point.drawdown for point in points), default=None),
        buy_volume=sum((point.buy_volume for point in points), ZERO),
        sell_volume=sum((point.sell_volume for point in points), ZERO),
    )


def kpis(
    *,
    equity: EquityFigures,
    open_lots: OpenFigures,
    closed: ClosedFigures,
    flows: Mapping[str, Decimal],
    updated_at: datetime,
) -> Document:
    """Return the account's key figures, with exactly the keys of `FORMULAS`.

    equity: see `equity_figures`. open_lots: what is open. closed: see `closed_figures`. flows: the sum of cash flows by
    activity type, signed. updated_at: aware UTC, written as ISO 8601. Money is in account currency and positive when
    received, `_pct` are percent, everything is a number, and None stands where a figure is not defined: nothing to
    divide by, or no row yet. Source: domain.md 8.
    """
    fees, dividends, interest = (_sum_of(flows, belongs) for belongs in (is_fee, is_dividend, is_interest))
    document = _equity_part(equity)
    document |= {
        "net_realized_fifo": float(closed.pnl_cash_fifo + fees + dividends + interest),
        "unrealized_pl": _number(open_lots.profit),
        "open_value": _number(open_lots.value),
        "open_trades": open_lots.count,
        "total_fees": float(fees),
        "net_dividends": float(dividends),
        "net_interest": float(interest),
        "updated_at": updated_at.isoformat(),
    }
    document |= _closed_part(closed)
    return {key: document[key] for key in FORMULAS}


def _equity_part(equity: EquityFigures) -> Document:
    daily = equity.daily
    newest = _newest(equity)
    before = equity.previous.deposit if equity.previous else None
    day_pl = None if newest is None or before is None else newest.value - before - newest.flows
    return {
        "equity": _number(newest.value if newest else None),
        "cash": _number(daily.cash if daily else None),
        "total_return_pct": _percent(newest.cumulative_return if newest else None),
        "day_pl": _number(day_pl),
        "day_return_pct": 100 * float(day_pl / before) if day_pl is not None and before else None,
        "buy_volume": float(equity.buy_volume),
        "sell_volume": float(equity.sell_volume),
        "max_drawdown_pct": _percent(equity.max_drawdown),
        "current_drawdown_pct": _percent(daily.drawdown if daily else None),
        **{name: daily.ratios[name] if daily else None for name in RATIOS},
    }


@dataclass(frozen=True, slots=True)
class _Newest:
    value: Decimal
    flows: Decimal
    cumulative_return: float


def _newest(equity: EquityFigures) -> _Newest | None:
    """Return the newest intraday point; a daily row stands in where there is none, or only one of an older session."""
    point, daily = equity.intraday, equity.daily
    if point is not None and (daily is None or daily.session_date <= point.session_date):
        return _Newest(point.equity, point.flows, point.cumulative_return)
    return None if daily is None else _Newest(daily.deposit, daily.net_flows, daily.cumulative_return)


def _closed_part(closed: ClosedFigures) -> Document:
    reward = float(closed.mean_take / closed.mean_stop) if closed.mean_take and closed.mean_stop else None
    decided = closed.takes + closed.stops
    return {
        "realized_pl_fifo": float(closed.pnl_cash_fifo),
        "realized_pl_strategy": float(closed.pnl_cash),
        "breakeven_pct": None if reward is None else 100 / (1 + reward),
        "win_rate_pct": 100 * closed.takes / decided if decided else None,
        "risk_reward": reward,
        "mean_take": _number(closed.mean_take),
        "mean_stop": _number(closed.mean_stop),
        "hold_take_days": _number(closed.hold_take_days),
        "hold_stop_days": _number(closed.hold_stop_days),
        "closed_trades": closed.count,
    }


def _sum_of(flows: Mapping[str, Decimal], belongs: Callable[[str], bool]) -> Decimal:
    return sum((amount for kind, amount in flows.items() if belongs(kind)), ZERO)


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
