"""Where accounts stand, as values for the pages: one account's figures, and the sums of a group; pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from coldharbour.money import to_decimal
from coldharbour.risk.open_risk import OpenRisk
from coldharbour.web.contexts import Account

SPARK_WIDTH, SPARK_HEIGHT = 120, 28
MONEY = ("equity", "day_pl", "unrealized_pl", "net_realized_fifo")
PERCENT = ("day_return_pct", "total_return_pct", "current_drawdown_pct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one account stands; figures are None before they were first worked out.

    updated_at: when a key figure last changed. returns: total return of the newest sessions in percent, ascending.
    """

    account: Account
    equity: Decimal | None
    day_pl: Decimal | None
    unrealized_pl: Decimal | None
    net_realized_fifo: Decimal | None
    day_return_pct: Decimal | None
    total_return_pct: Decimal | None
    current_drawdown_pct: Decimal | None
    updated_at: datetime | None
    returns: tuple[float, ...]
    risk: OpenRisk
    unprotected: int

    @property
    def spark(self) -> str:
        """The sparkline's points, for an SVG of SPARK_WIDTH by SPARK_HEIGHT."""
        return spark_points(self.returns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The sums over accounts of one venue; a sum is None as long as one of its values is."""

    venue: str
    accounts: int
    equity: Decimal | None
    day_pl: Decimal | None
    day_return_pct: Decimal | None
    unrealized_pl: Decimal | None
    risk_r: Decimal
    risk_cash: Decimal
    lots: int
    unprotected: int


def standing(
    account: Account, document: Mapping[str, Any] | None, returns: Iterable[float], risk: OpenRisk, unprotected: int
) -> Standing:
    """Return where an account stands. document: its key figures. returns: cumulative, as fractions."""
    known = document or {}
    figures = {name: to_decimal(known.get(name)) for name in (*MONEY, *PERCENT)}
    updated_at = known.get("updated_at")
    percents = [100 * value for value in returns]
    if figures["total_return_pct"] is not None:
        percents.append(float(figures["total_return_pct"]))
    return Standing(
        account=account,
        updated_at=datetime.fromisoformat(updated_at) if updated_at else None,
        returns=tuple(percents),
        risk=risk,
        unprotected=unprotected,
        **figures,
    )


def groups(standings: Iterable[Standing]) -> list[Group]:
    """Return the sums by venue: simulated, paper and live money are never added up."""
    by_venue = sorted(standings, key=lambda one: one.account.venue)
    return [_group(venue, list(members)) for venue, members in groupby(by_venue, key=lambda one: one.account.venue)]


def spark_points(values: Sequence[float]) -> str:
    """Return the points of a polyline through values at even distances, the highest at the top; "" for fewer than two.

    >>> spark_points([0.0, 2.0, 1.0])
    '1.0,27.0 60.0,1.0 119.0,14.0'
    """
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    step = (SPARK_WIDTH - 2) / (len(values) - 1)
    scale = (SPARK_HEIGHT - 2) / (high - low) if high > low else 0.0
    bottom = SPARK_HEIGHT - 1 if high > low else SPARK_HEIGHT / 2
    return " ".join(
        f"{1 + step * place:.1f},{bottom - scale * (value - low):.1f}" for place, value in enumerate(values)
    )


def _group(venue: str, members: Sequence[Standing]) -> Group:
    equity, day_pl = _sum(one.equity for one in members), _sum(one.day_pl for one in members)
    before = _sum(_previous_close(one) for one in members)
    return Group(
        venue=venue,
        accounts=len(members),
        equity=equity,
        day_pl=day_pl,
        day_return_pct=100 * day_pl / before if day_pl is not None and before else None,
        unrealized_pl=_sum(one.unrealized_pl for one in members),
        risk_r=sum((one.risk.r for one in members), Decimal(0)),
        risk_cash=sum((one.risk.cash for one in members), Decimal(0)),
        lots=sum(one.risk.lots for one in members),
        unprotected=sum(one.unprotected for one in members),
    )


def _previous_close(one: Standing) -> Decimal | None:
    """Return the equity that the day's return is measured against."""
    if one.day_pl and one.day_return_pct:
        return 100 * one.day_pl / one.day_return_pct
    return one.equity


def _sum(values: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for value in values:
        if value is None:
            return None
        total += value
    return total
