"""What the API answers, as values whose descriptions are the documentation at /schema; no I/O.

Money, prices and quantities are Decimal here and JSON numbers with every digit on the wire.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

DESCRIPTION = """
The tables of an account, read only. Every answer is as of one moment and carries an `ETag`: send it back in
`If-None-Match`, and 304 says that nothing changed.

**Numbers.** Money, prices and quantities are JSON numbers with all their decimal digits, as the tables hold them:
none goes through a binary float on our side, and a parser for decimals gets them exactly (in Python,
`json.loads(text, parse_float=Decimal)`). They are numbers and not strings so that charts, spreadsheets and data frames
need no conversion, and so that the key figures read alike. Returns are fractions (0.01 is one percent), except
where a name ends in `_pct`. `null` stands for what is not known or has nothing to divide by, never for 0.

**Times** are ISO 8601 in UTC; a `date` is the trading day in New York.

**Errors** are `{"status_code", "detail"}`: 400 for a parameter that cannot be used, with the reason; 404 for an account
that is not configured here; 503 with `Retry-After` while the database does not answer.
"""

Money = Annotated[Decimal, Meta(description="Account currency, exact.")]
Price = Annotated[Decimal, Meta(description="Account currency per share, exact.")]
Shares = Annotated[Decimal, Meta(description="Shares; negative for short positions.")]
Fraction = Annotated[float, Meta(description="A fraction: 0.01 is one percent.")]

Ratio = Annotated[float | None, Meta(description="Of the newest returns, as many as the name says; null before.")]


class Position(Struct, frozen=True, kw_only=True):
    """One open lot: what is left of the filled quantity of one entry order."""

    parent_id: Annotated[str, Meta(description="The entry order, which is the lot's key.")]
    symbol: str
    side: Annotated[str, Meta(description="Long or Short.")]
    qty: Shares
    entry_qty: Annotated[Decimal, Meta(description="Shares that the entry filled, signed.")]
    avg_fill: Annotated[Decimal, Meta(description="Average price of the entry's fills (strategy price).")]
    avg_px_symbol: Annotated[Decimal, Meta(description="The broker's average cost of the whole symbol.")]
    buy_value: Annotated[Decimal, Meta(description="qty * avg_fill.")]
    mkt_px: Price | None
    mkt_at: Annotated[datetime | None, Meta(description="When the trade at mkt_px was made.")]
    mkt_value: Annotated[Decimal | None, Meta(description="qty * mkt_px.")]
    profit_loss: Annotated[Decimal | None, Meta(description="qty * (mkt_px - avg_px_symbol), as the broker shows it.")]
    profit_loss_lot: Annotated[Decimal | None, Meta(description="qty * (mkt_px - avg_fill), as the strategy counts.")]
    tp_sl_reach_pct: Annotated[Decimal | None, Meta(description="+100 at the take-profit, -100 at the stop.")]
    r_multiple: Annotated[Decimal | None, Meta(description="Result in units of the initial risk.")]
    initial_stop: Price | None
    sl_px: Annotated[Decimal | None, Meta(description="Price of the live stop leg.")]
    tp_px: Annotated[Decimal | None, Meta(description="Price of the live take-profit leg.")]
    stop_order_id: Annotated[str | None, Meta(description="The live stop; null: the lot is an orphan.")]
    take_order_id: str | None
    high_px: Annotated[Decimal | None, Meta(description="Highest price since the entry.")]
    low_px: Annotated[Decimal | None, Meta(description="Lowest price since the entry.")]
    moved_flag: Annotated[str, Meta(description="OK: moved to break-even; Already: at it or tighter; else —.")]
    entry_time: datetime
    last_fill_time: datetime
    expires_at: datetime | None
    unprotected_s: Annotated[float, Meta(description="Seconds without a live stop, up to unprotected_since.")]
    unprotected_since: datetime | None


class ClosedTrade(Struct, frozen=True, kw_only=True):
    """What one exit order closed of one lot."""

    entry_lot_id: str
    exit_order_id: str
    exit_parent_id: Annotated[str | None, Meta(description="The exit's own parent; null for an orphan exit.")]
    symbol: str
    side: Annotated[str, Meta(description="Long or Short.")]
    qty: Annotated[Decimal, Meta(description="Shares closed, positive.")]
    entry_time: datetime
    entry_price: Price
    exit_time: datetime
    exit_price: Price
    exit_type: Annotated[str, Meta(description="TP, SL or MANUAL.")]
    pnl_cash: Annotated[Decimal, Meta(description="Profit by the strategy's matching.")]
    pnl_cash_fifo: Annotated[Decimal, Meta(description="Profit by the broker's matching, oldest entry first.")]
    diff_pnl: Annotated[Decimal, Meta(description="pnl_cash - pnl_cash_fifo.")]
    return_pct: Annotated[Decimal, Meta(description="100 * pnl_cash / (qty * entry_price).")]
    duration_sec: int
    initial_stop: Price | None
    r_multiple: Decimal | None
    unprotected_s: float
    high_px: Price | None
    low_px: Price | None
    closes_lot: Annotated[bool, Meta(description="With it, nothing of the lot was left.")]


class EquityDay(Struct, frozen=True, kw_only=True):
    """One session of the account, at its close."""

    session_date: date
    cash: Money
    market_value: Money
    deposit: Annotated[Decimal, Meta(description="cash + market_value.")]
    net_flows: Annotated[Decimal, Meta(description="External flows since the session before.")]
    daily_return: Fraction
    cumulative_return: Annotated[float, Meta(description="Since the first session, a fraction.")]
    drawdown: Annotated[float, Meta(description="Below the highest cumulative return so far; 0 or negative.")]
    sharpe_10: Ratio
    sharpe_21: Ratio
    sharpe_63: Ratio
    sharpe_126: Ratio
    sharpe_252: Ratio
    smart_sharpe_10: Ratio
    smart_sharpe_21: Ratio
    smart_sharpe_63: Ratio
    smart_sharpe_126: Ratio
    smart_sharpe_252: Ratio
    buy_volume: Money
    sell_volume: Money
    complete: Annotated[bool, Meta(description="False: a symbol had no price, and its value is left out.")]
    missing_symbols: list[str]
    provisional: Annotated[bool, Meta(description="The session has not closed yet.")]


class Minute(Struct, frozen=True, kw_only=True):
    """The account at one minute of a session."""

    at: Annotated[datetime, Meta(description="The minute's start; the values are those of its end.")]
    equity: Money
    profit: Annotated[Decimal, Meta(description="Since the previous close, without external flows.")]
    flows: Annotated[Decimal, Meta(description="External flows since the previous close.")]
    cumulative_return: Annotated[float, Meta(description="Since the account's first session, a fraction.")]
    complete: Annotated[bool, Meta(description="False: a symbol held had no price of its own.")]


class IntradayMeta(Struct, frozen=True, kw_only=True):
    """What a session's minutes are measured from; all null before there are any."""

    session_date: date | None = None
    open_utc: datetime | None = None
    close_utc: datetime | None = None
    baseline_deposit: Annotated[Decimal | None, Meta(description="Equity at the previous close.")] = None
    session_flows: Annotated[Decimal | None, Meta(description="External flows since the previous close.")] = None
    live_deposit: Annotated[Decimal | None, Meta(description="Equity at the newest minute.")] = None


class Intraday(Struct, frozen=True, kw_only=True):
    """The newest session, minute by minute."""

    series: list[Minute]
    meta: IntradayMeta


class Gap(Struct, frozen=True, kw_only=True):
    """A time in which the order stream was not heard."""

    blind_from: datetime
    blind_to: Annotated[datetime | None, Meta(description="null while it lasts.")]
    reason: str
    healed_at: Annotated[datetime | None, Meta(description="When everything missed had been fetched.")]
    orders_recovered: int
    fills_recovered: int


class Worker(Struct, frozen=True, kw_only=True):
    """One worker of the account, or of the whole installation."""

    destination: Annotated[str, Meta(description="The account's slug; empty for the whole installation.")]
    kind: str
    service: str
    state: Annotated[
        str,
        Meta(
            description="starting, ready, sleeping, retrying, parked, gave_up or stopped; silent without a sign of "
            "life for 10 s, absent if it never reported."
        ),
    ]
    detail: str
    since: datetime | None
    last_success: datetime | None
    last_error: str | None
    restarts: int
    lag_s: float | None
    updated_at: datetime | None


class Failure(Struct, frozen=True, kw_only=True):
    """Why a request was not answered."""

    status_code: int
    detail: str
