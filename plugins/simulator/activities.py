"""One account activity: owns its id, its fields and its JSON; never decides that it happens."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec

from .digits import ZERO, optional, plain
from .stamps import activity_prefix, rfc3339, rounded_to_micros

JSON = dict[str, object]
TRADE = "FILL"
EXTERNAL = frozenset({"CSD", "CSW", "JNLC"})
TRANSFERS = frozenset({"ACATS", "JNLS"})
SPLIT = "SPLIT"
MOVES = frozenset({*TRANSFERS, SPLIT})  # of shares, without a trade


class Activity(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A fill or a cash movement; moments are nanoseconds since 1970.

    at: when it happened (fills, whole microseconds) or was booked (everything else). visible: when REST
    begins to show it. net_amount: signed effect on cash. qty: shares of a fill, signed shares of a move, shares
    that a dividend is paid on. price: per share, of a fill or of a transfer's shares. position_qty: signed
    position after a fill.
    """

    id: str
    type: str
    at: int
    visible: int
    net_amount: Decimal
    symbol: str | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    side: str | None = None
    cum_qty: Decimal | None = None
    leaves_qty: Decimal | None = None
    order_id: str | None = None
    order_status: str | None = None
    position_qty: Decimal = ZERO
    day: date | None = None
    sub_type: str | None = None
    description: str | None = None
    per_share_amount: Decimal | None = None
    cusip: str | None = None
    group_id: str | None = None

    @property
    def execution_id(self) -> str:
        """Return the UUID half of the id, which the stream calls `execution_id`."""
        return self.id.partition("::")[2]

    @property
    def is_external(self) -> bool:
        """Return whether it moves money or shares in or out, and is no profit or loss."""
        return self.type in EXTERNAL or self.type in TRANSFERS

    @property
    def flow(self) -> Decimal:
        """Return what it brings in from outside, signed currency; shares at their price of that moment."""
        return self.net_amount + self.signed_qty * (self.price or ZERO) if self.is_external else ZERO

    @property
    def signed_qty(self) -> Decimal:
        """Return the shares this adds to the position; zero unless it is a fill or a move of shares."""
        if self.qty is None or (self.type != TRADE and self.type not in MOVES):
            return ZERO
        return -self.qty if self.side == "sell" else self.qty


def fill_id(at: int, execution_id: str) -> str:
    """Return the id of a fill: New York time of the rounded moment, milliseconds truncated, and the UUID."""
    return f"{activity_prefix(rounded_to_micros(at))}::{execution_id}"


def cash_id(day: date, uuid: str) -> str:
    """Return the id of a cash movement: midnight of its date and a UUID."""
    return f"{day:%Y%m%d}000000000::{uuid}"


def activity_json(activity: Activity) -> JSON:
    """Return Alpaca's activity JSON; optional keys are absent, not null."""
    return _fill_json(activity) if activity.type == TRADE else _cash_json(activity)


def _fill_json(fill: Activity) -> JSON:
    return {
        "id": fill.id,
        "activity_type": TRADE,
        "transaction_time": rfc3339(fill.at),
        "type": "partial_fill" if fill.leaves_qty else "fill",
        "price": plain(fill.price or ZERO),
        "qty": plain(fill.qty or ZERO),
        "side": fill.side,
        "symbol": fill.symbol,
        "leaves_qty": plain(fill.leaves_qty or ZERO),
        "cum_qty": plain(fill.cum_qty or ZERO),
        "order_id": fill.order_id,
        "order_status": fill.order_status,
    }


def _cash_json(activity: Activity) -> JSON:
    given: JSON = {
        "activity_sub_type": activity.sub_type,
        "symbol": activity.symbol,
        "cusip": activity.cusip,
        "qty": optional(activity.qty),
        "price": optional(activity.price),
        "per_share_amount": optional(activity.per_share_amount),
        "group_id": activity.group_id,
    }
    return {
        "id": activity.id,
        "activity_type": activity.type,
        "date": None if activity.day is None else activity.day.isoformat(),
        "net_amount": plain(activity.net_amount),
        "description": activity.description or "",
        "status": "executed",
        "currency": "USD",
        "created_at": rfc3339(activity.at),
        **{key: value for key, value in given.items() if value is not None},
    }
