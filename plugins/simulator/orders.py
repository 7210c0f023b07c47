"""One order: owns its state and its JSON; never decides when the state changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from .digits import MICRO, ZERO, optional, plain
from .stamps import rfc3339

JSON = dict[str, object]
Role = Literal["entry", "take_profit", "stop_loss"]

TERMINAL = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
OPEN = frozenset({"new", "partially_filled", "accepted", "pending_new", "pending_cancel", "pending_replace"})
FILLABLE = frozenset({"new", "partially_filled", "pending_cancel", "pending_replace"})
STOPS = frozenset({"stop", "stop_limit", "trailing_stop"})


class Order(msgspec.Struct, kw_only=True, omit_defaults=True, eq=False):
    """An order's whole state, as small as the journal needs it; moments are nanoseconds since 1970.

    seq: the account's running number, breaks ties of `submitted`. cost: sum of qty*price of its fills.
    root: id of the order that lists it as a leg. legs: ids of every leg it ever had, oldest first.
    heir: the replacement that waits for this one to go; waiting: it is such a replacement itself.
    resume: the status to return to when a pending cancel or replace comes to nothing.
    armed: its group's entry is complete. elected: a stop that has triggered. rested: it has been in the
    market without a match, so it fills at its limit and no longer better.
    """

    id: str
    seq: int
    client_order_id: str
    symbol: str
    asset_id: str
    side: str
    type: str
    time_in_force: str
    order_class: str
    position_intent: str
    role: Role
    created: int
    submitted: int
    updated: int
    expires: int
    status: str
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    hwm: Decimal | None = None
    extended_hours: bool = False
    filled_qty: Decimal = ZERO
    cost: Decimal = ZERO
    filled: int | None = None
    expired: int | None = None
    cancel_requested: int | None = None
    canceled: int | None = None
    failed: int | None = None
    replaced: int | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    reason: str | None = None
    root: str | None = None
    legs: list[str] = msgspec.field(default_factory=list)
    heir: str | None = None
    waiting: bool = False
    resume: str | None = None
    armed: bool = False
    elected: bool = False
    rested: bool = False

    @property
    def sign(self) -> int:
        """Return +1 for a buy, -1 for a sell."""
        return 1 if self.side == "buy" else -1

    @property
    def terminal(self) -> bool:
        """Return whether the state can never change again."""
        return self.status in TERMINAL

    @property
    def rest(self) -> Decimal:
        """Return the unfilled shares; zero for an order by amount, which has no quantity of its own."""
        return ZERO if self.qty is None else self.qty - self.filled_qty

    @property
    def filled_avg_price(self) -> Decimal | None:
        """Return the average price of its own fills to six decimals, None before the first."""
        return (self.cost / self.filled_qty).quantize(MICRO) if self.filled_qty else None


def order_json(order: Order, legs: Sequence[Order] | None = None) -> JSON:
    """Return Alpaca's order JSON; `legs` are nested where given, null otherwise."""
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": rfc3339(order.created),
        "updated_at": rfc3339(order.updated),
        "submitted_at": rfc3339(order.submitted),
        "filled_at": _time(order.filled),
        "expired_at": _time(order.expired),
        "expires_at": rfc3339(order.expires),
        "cancel_requested_at": _time(order.cancel_requested),
        "canceled_at": _time(order.canceled),
        "failed_at": _time(order.failed),
        "replaced_at": _time(order.replaced),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": order.asset_id,
        "symbol": order.symbol,
        "asset_class": "us_equity",
        "notional": optional(order.notional),
        "qty": optional(order.qty),
        "filled_qty": plain(order.filled_qty),
        "filled_avg_price": optional(order.filled_avg_price),
        "order_class": order.order_class,
        "order_type": order.type,
        "type": order.type,
        "side": order.side,
        "position_intent": order.position_intent,
        "time_in_force": order.time_in_force,
        "limit_price": optional(order.limit_price),
        "stop_price": optional(order.stop_price),
        "status": order.status,
        "extended_hours": order.extended_hours,
        "legs": [order_json(leg) for leg in legs] if legs else None,
        "trail_percent": optional(order.trail_percent),
        "trail_price": optional(order.trail_price),
        "hwm": optional(order.hwm),
        "subtag": None,
        "source": None,
        "routing": "simulated",  # a field no client knows: they must all bear it
        **({"reason": order.reason} if order.reason else {}),
    }


def listed_legs(root: Order, find: Callable[[str], Order], layout: str) -> list[Order]:
    """Return the legs a parent shows: the first ones ("old"), the latest ("new"), or all ("both")."""
    legs = [find(leg_id) for leg_id in root.legs]
    if layout == "old":
        return [leg for leg in legs if leg.replaces is None]
    if layout == "new":
        return [leg for leg in legs if leg.replaced_by is None]
    return legs


def _time(ns: int | None) -> str | None:
    return None if ns is None else rfc3339(ns)
