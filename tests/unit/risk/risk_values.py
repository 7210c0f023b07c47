"""Lots, markets and legs with round numbers: an entry at 50, 2 of risk per share, so armed at 54 or 46."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from coldharbour.live.model import Side
from coldharbour.risk.model import Leg, MarketView, ProtectedLot, StopMove

NOW = datetime(2026, 10, 8, 15, 0, tzinfo=UTC)
D = Decimal


def lot(side: Side = Side.LONG, **changed: Any) -> ProtectedLot:
    """Return 100 shares at 50, their stop still where it began: at 48 below them, or at 52 above."""
    stop = D("48") if side is Side.LONG else D("52")
    values: dict[str, Any] = {
        "parent_id": "parent", "symbol": "KO", "side": side, "qty": side.sign * D(100), "entry_price": D("50"),
        "stop_order_id": "stop-1", "stop_price": stop, "initial_stop": stop, "entry_time": NOW,
    }  # fmt: skip
    return ProtectedLot(**(values | changed))


def market(price: str | None = "50", **changed: Any) -> MarketView:
    """Return a fresh market at a price; it went from 45 to 55 since the entry."""
    known = None if price is None else D(price)
    values: dict[str, Any] = {
        "as_of": NOW, "feed_silent_s": 0.2, "price": known, "traded_at": NOW, "last_trade": known,
        "high": D("55"), "low": D("45"),
    }  # fmt: skip
    return MarketView(**(values | changed))


def move(side: Side = Side.LONG, **changed: Any) -> StopMove:
    """Return the move of that lot's stop to break-even."""
    long = {"old_stop": D("48"), "stop_price": D("49.99")}
    short = {"old_stop": D("52"), "stop_price": D("50.01")}
    values: dict[str, Any] = {"order_id": "stop-1", "side": side, **(long if side is Side.LONG else short)}
    return StopMove(**(values | changed))


def leg(order_id: str = "stop-1", status: str = "held", stop: str | None = "48", **changed: Any) -> Leg:
    """Return a stop order as the broker shows it."""
    values: dict[str, Any] = {"id": order_id, "status": status, "stop_price": None if stop is None else D(stop)}
    return Leg(**(values | changed))
