"""The broker's nouns as frozen values: what Alpaca said, typed; never a rule about what it means.

Money, prices and quantities are exact decimals, moments are aware UTC, enumerations stay plain text, since
the broker adds values without notice. A field that was absent, null or empty holds its default. `raw` is the
JSON text exactly as it was received, unknown fields included. Source: Alpaca Trading API v2.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order, or a leg of one; a leg is tied to its parent only by standing in the parent's `legs`.

    qty, filled_qty: shares, filled_qty cumulative; qty is None for notional orders. trail_percent: percent.
    created_at of a replacement equals the original's; submitted_at moves when an order is released.
    """

    id: str
    status: str
    created_at: dt.datetime
    updated_at: dt.datetime
    client_order_id: str = ""
    symbol: str = ""
    side: str = ""
    type: str = ""
    order_class: str = ""
    time_in_force: str = ""
    position_intent: str = ""
    extended_hours: bool = False
    qty: Decimal | None = None
    notional: Decimal | None = None
    filled_qty: Decimal | None = None
    filled_avg_price: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    hwm: Decimal | None = None
    submitted_at: dt.datetime | None = None
    filled_at: dt.datetime | None = None
    expired_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    cancel_requested_at: dt.datetime | None = None
    canceled_at: dt.datetime | None = None
    failed_at: dt.datetime | None = None
    replaced_at: dt.datetime | None = None
    replaces: str | None = None
    replaced_by: str | None = None
    legs: tuple[Order, ...] = ()
    raw: bytes


class Activity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the account's history: a fill, or money and shares moving for another reason.

    date: New York day of a non-trade activity; fills have a transaction_time instead. net_amount: signed
    account currency. qty, cum_qty, leaves_qty: shares of this execution, of the order so far, and left.
    """

    id: str
    activity_type: str
    activity_sub_type: str = ""
    transaction_time: dt.datetime | None = None
    date: dt.date | None = None
    created_at: dt.datetime | None = None
    type: str = ""
    symbol: str = ""
    side: str = ""
    qty: Decimal | None = None
    price: Decimal | None = None
    cum_qty: Decimal | None = None
    leaves_qty: Decimal | None = None
    net_amount: Decimal | None = None
    order_id: str | None = None
    status: str = ""
    description: str = ""
    raw: bytes

    @property
    def is_fill(self) -> bool:
        """Whether this row is an execution of an order."""
        return self.activity_type == "FILL"

    @property
    def execution_id(self) -> str | None:
        """The id that the stream gives the same fill: the part after `::`; None for other activities."""
        _, found, execution = self.id.partition("::")
        return execution if self.is_fill and found else None


class TradeUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the trade_updates stream.

    price, qty: of this execution alone, never the order's totals. position_qty: signed, after the event.
    order: the order as of the event; for `replaced` it is the old one. raw: the whole frame.
    """

    event: str
    order: Order
    at: dt.datetime | None = None
    timestamp: dt.datetime | None = None
    event_id: str | None = None
    execution_id: str | None = None
    previous_execution_id: str | None = None
    price: Decimal | None = None
    qty: Decimal | None = None
    position_qty: Decimal | None = None
    raw: bytes

    @property
    def is_fill(self) -> bool:
        """Whether shares changed hands with this event."""
        return self.event in {"fill", "partial_fill"}


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account's balances and permissions; amounts in its `currency`, short_market_value negative."""

    id: str
    account_number: str
    status: str
    currency: str = "USD"
    cash: Decimal
    equity: Decimal
    last_equity: Decimal | None = None
    buying_power: Decimal | None = None
    long_market_value: Decimal | None = None
    short_market_value: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    accrued_fees: Decimal | None = None
    multiplier: Decimal | None = None
    shorting_enabled: bool = False
    trading_blocked: bool = False
    transfers_blocked: bool = False
    account_blocked: bool = False
    trade_suspended_by_user: bool = False
    created_at: dt.datetime | None = None
    raw: bytes


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol's position, averaged over its lots; qty_available is what no exit order reserves."""

    asset_id: str = ""
    symbol: str
    side: str
    qty: Decimal
    qty_available: Decimal | None = None
    avg_entry_price: Decimal | None = None
    market_value: Decimal | None = None
    cost_basis: Decimal | None = None
    current_price: Decimal | None = None
    lastday_price: Decimal | None = None
    unrealized_pl: Decimal | None = None
    unrealized_intraday_pl: Decimal | None = None
    raw: bytes

    @property
    def signed_qty(self) -> Decimal:
        """Shares, below zero for a short; the sign comes from `side`, whatever sign `qty` was sent with."""
        return -abs(self.qty) if self.side == "short" else abs(self.qty)


class MarketClock(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's own time and whether the regular session is on."""

    timestamp: dt.datetime
    is_open: bool
    next_open: dt.datetime
    next_close: dt.datetime
    raw: bytes


class CalendarDay(msgspec.Struct, frozen=True, kw_only=True):
    """One trading day: regular bounds, and the extended session's where they were given."""

    date: dt.date
    open: dt.datetime
    close: dt.datetime
    session_open: dt.datetime | None = None
    session_close: dt.datetime | None = None
    settlement_date: dt.date | None = None
    raw: bytes


class LatestTrade(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol's latest trade that may set its price; conditions and tape are the exchange's codes."""

    symbol: str
    at: dt.datetime
    price: Decimal
    size: Decimal | None = None
    conditions: tuple[str, ...] = ()
    exchange: str = ""
    tape: str = ""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """Prices and volume of the span that starts `at`; a running span is included and still changes."""

    symbol: str
    at: dt.datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trade_count: int = 0
    vwap: Decimal | None = None


class CorporateAction(msgspec.Struct, frozen=True, kw_only=True):
    """An announced change of the shares of a symbol. kind: the broker's word, such as forward_splits.

    day: the first one with the new shares or prices; where none is named, that on which the broker books it.
    """

    kind: str
    symbol: str
    day: dt.date


class EquityPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's own figure for one window of the account's history, labelled by the window's start."""

    at: dt.datetime
    equity: Decimal | None
    profit_loss: Decimal | None
