"""The nouns of live state as frozen values: fills, orders as lineage sees them, lots, closed trades; never a rule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from coldharbour.live.splits import Split

ZERO = Decimal(0)


class Side(StrEnum):
    """Which way a position profits."""

    LONG = "Long"
    SHORT = "Short"

    @property
    def sign(self) -> int:
        """+1 for long, -1 for short."""
        return 1 if self is Side.LONG else -1


class ExitType(StrEnum):
    """How a lot was closed: by its own take-profit, by its own stop, or by anything else (domain.md 5)."""

    TAKE_PROFIT = "TP"
    STOP_LOSS = "SL"
    MANUAL = "MANUAL"


class MoveKind(StrEnum):
    """How shares moved without a trade (domain.md 6)."""

    SPLIT = "split"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. id: activity id. at: UTC, whole microseconds. qty: shares, positive. price: per share.

    is_buy: True for a buy; a sale and a short sale are the same to an inventory.
    """

    id: str
    at: datetime
    order_id: str
    symbol: str
    is_buy: bool
    qty: Decimal
    price: Decimal

    @property
    def signed_qty(self) -> Decimal:
        """Shares, negative for a sale."""
        return self.qty if self.is_buy else -self.qty


@dataclass(frozen=True, slots=True)
class ShareMove:
    """Shares that came or went without a trade. qty: signed shares added to the inventory.

    price: that day's close per share for a transfer, None for a split (which costs nothing).
    """

    id: str
    at: datetime
    symbol: str
    kind: MoveKind
    qty: Decimal
    price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFact:
    """What lineage and matching need of one order of the lake; times are UTC, prices per share.

    parent_id: the order it was seen nested under, or whose chain it continues; None for an entry.
    """

    id: str
    symbol: str
    is_buy: bool
    order_type: str
    order_class: str
    status: str
    time_in_force: str = ""
    qty: Decimal | None = None
    filled_qty: Decimal = ZERO
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    parent_id: str | None = None
    replaces: str | None = None
    replaced_by: str | None = None
    created_at: datetime | None = None
    submitted_at: datetime | None = None
    filled_at: datetime | None = None
    canceled_at: datetime | None = None
    expired_at: datetime | None = None
    replaced_at: datetime | None = None
    failed_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """One open position: what remains of the filled quantity of one entry order (domain.md 4).

    qty: shares that remain, negative for a short lot. entry_qty: shares filled in all, positive. avg_fill:
    quantity-weighted price of all its entry fills. avg_px_symbol: average cost of the symbol's whole position,
    by the average-cost recursion. entry_time: first entry fill. initial_stop: the stop leg's price when the
    parent was created. stop_price, stop_order_id, take_price, take_order_id: of the legs' latest successors
    while live, else None. expires_at: earliest expiry among the live legs. unprotected_s: seconds up to the
    last of its orders' stamps in which no stop was live since the first fill; unprotected_since: since when none
    is live now, None while one is.
    """

    parent_id: str
    symbol: str
    side: Side
    qty: Decimal
    entry_qty: Decimal
    avg_fill: Decimal
    avg_px_symbol: Decimal
    entry_time: datetime
    last_fill_time: datetime
    initial_stop: Decimal | None = None
    stop_price: Decimal | None = None
    stop_order_id: str | None = None
    take_price: Decimal | None = None
    take_order_id: str | None = None
    expires_at: datetime | None = None
    unprotected_s: float = 0.0
    unprotected_since: datetime | None = None

    @property
    def is_orphan(self) -> bool:
        """Whether no stop order protects it now."""
        return self.stop_order_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedTrade:
    """What one exit order closed of one lot (domain.md 5); the row's key is (entry_lot_id, exit_order_id).

    exit_parent_id: the parent whose leg the exit order is, None for an orphan exit. qty: shares closed,
    positive. entry_price: the lot's avg_fill. exit_price: quantity-weighted. pnl_cash: the strategy's result;
    pnl_cash_fifo: this row's share of what the broker's FIFO made of the exit order; both in account currency.
    return_pct: percent of qty*entry_price. initial_stop: see Lot. unprotected_s: seconds without a live stop
    between the lot's first fill and exit_time. splits: those between its first fill and exit_time, in order;
    quantities and prices are those of the shares after them.
    """

    entry_lot_id: str
    exit_order_id: str
    exit_parent_id: str | None
    symbol: str
    side: Side
    qty: Decimal
    entry_time: datetime
    entry_price: Decimal
    exit_time: datetime
    exit_price: Decimal
    exit_type: ExitType
    pnl_cash: Decimal
    pnl_cash_fifo: Decimal
    diff_pnl: Decimal
    return_pct: Decimal
    duration_sec: int
    initial_stop: Decimal | None = None
    unprotected_s: float = 0.0
    splits: tuple[Split, ...] = ()
