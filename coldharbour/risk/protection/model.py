"""The nouns of protection as frozen values: lots and orders as it sees them, and what is exposed; no rule.

Quantities are shares, never negative unless they say so; times are aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from coldharbour.live.model import Side


class Reason(StrEnum):
    """Why shares are without a live stop.

    legs_held: the entry is not filled whole, and the broker holds its legs back until then. stop_too_small: the live
    stop covers fewer shares. no_lot: the broker holds shares that none of our lots has.
    """

    NO_STOP = "no_stop"
    STOP_CANCELED = "stop_canceled"
    STOP_EXPIRED = "stop_expired"
    STOP_REJECTED = "stop_rejected"
    LEGS_HELD = "legs_held"
    STOP_TOO_SMALL = "stop_too_small"
    NO_LOT = "no_lot"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedLot:
    """An open lot. bare_since: since when no stop is live for it, None while one is.

    stop_order_id, take_order_id: of the live exits, if there are any. expires_at: the earliest end of its live legs.
    """

    parent_id: str
    symbol: str
    side: Side
    qty: Decimal
    entry_time: datetime
    last_fill_time: datetime
    bare_since: datetime | None = None
    stop_order_id: str | None = None
    take_order_id: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """An order as the lake has it. remaining: shares that are not filled, None for an order without a quantity.

    ended_at: when it was canceled, expired or rejected.
    """

    id: str
    symbol: str
    is_buy: bool
    order_type: str
    order_class: str
    status: str
    remaining: Decimal | None
    updated_at: datetime
    submitted_at: datetime | None = None
    parent_id: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stray:
    """A symbol of which the broker holds another quantity than our lots; signed shares. seen_at: when it began."""

    symbol: str
    our_qty: Decimal
    broker_qty: Decimal
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Shares that no live stop covers. key: the lot's parent_id, or the symbol's for shares without a lot."""

    key: str
    symbol: str
    parent_id: str | None
    side: Side
    qty: Decimal
    reason: Reason
    since: datetime


@dataclass(frozen=True, slots=True)
class Episode:
    """An exposure that is kept. found_at: when a look saw it first. raised_at: when it became an alarm, None before."""

    exposure: Exposure
    found_at: datetime
    raised_at: datetime | None = None
