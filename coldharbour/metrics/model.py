"""The nouns of equity as frozen values: a session's close, a minute, and what the next session continues from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from coldharbour.live.model import ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityPoint:
    """One session of the account (domain.md 7, Daily); money in account currency, returns as fractions.

    deposit: cash + market_value. net_flows: external flows since the session before. drawdown: 0 or below.
    ratios: sharpe_10 ... smart_sharpe_252, None where there are too few returns. complete: whether every symbol had
    a price; missing_symbols had none, and their value is left out. provisional: the session has not closed.
    buy_volume, sell_volume: money traded in the fills that count here, positive.
    """

    session_date: date
    cash: Decimal
    market_value: Decimal
    deposit: Decimal
    net_flows: Decimal
    daily_return: float
    cumulative_return: float
    drawdown: float
    ratios: Mapping[str, float | None]
    complete: bool
    provisional: bool = False
    missing_symbols: tuple[str, ...] = ()
    buy_volume: Decimal = ZERO
    sell_volume: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class DayEnd:
    """A session's point and all that the next one continues from.

    quantities: signed shares by symbol, without zeros. prices: the newest close known, per share, for each of them
    that has one. growth: product of (1 + daily_return) up to here; peak: its greatest value so far. returns: the
    newest daily returns, oldest first, as many as the longest window needs.
    """

    point: EquityPoint
    quantities: Mapping[str, Decimal] = field(default_factory=dict)
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    growth: float = 1.0
    peak: float = 1.0
    returns: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IntradayPoint:
    """The account at one minute (domain.md 7, Intraday). at: UTC, the minute's start; it shows the minute's end.

    equity: account currency. profit: without external flows, since the previous close. flows: external ones since
    then. complete: whether every symbol held had a price of its own.
    """

    session_date: date
    at: datetime
    equity: Decimal
    profit: Decimal
    flows: Decimal
    cumulative_return: float
    complete: bool
