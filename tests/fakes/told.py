"""Short words for what a broker tells: moments, orders, fills and share moves of one symbol."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from coldharbour.live.model import Fill, MoveKind, OrderFact, ShareMove

OPEN = datetime(2026, 10, 8, 14, 0, tzinfo=UTC)


def at(minute: float) -> datetime:
    """Return a moment of one trading day."""
    return OPEN + timedelta(minutes=minute)


def bought(minute: float, order_id: str, qty: str, price: str, symbol: str = "KO") -> Fill:
    """Return a fill that adds shares."""
    return Fill(f"{minute}-{order_id}", at(minute), order_id, symbol, True, Decimal(qty), Decimal(price))


def sold(minute: float, order_id: str, qty: str, price: str, symbol: str = "KO") -> Fill:
    """Return a fill that takes shares away."""
    return replace(bought(minute, order_id, qty, price, symbol), is_buy=False)


def order(order_id: str, minute: float = 0, **facts: Any) -> OrderFact:
    """Return a market order that is live since a minute, or what else the facts make of it."""
    usual: dict[str, Any] = {
        "symbol": "KO", "is_buy": True, "order_type": "market", "order_class": "simple", "status": "new",
        "time_in_force": "gtc", "qty": Decimal(100), "created_at": at(minute), "submitted_at": at(minute),
    }  # fmt: skip
    return OrderFact(id=order_id, **(usual | facts))


def stop(order_id: str, parent_id: str | None, price: str, minute: float = 0, **facts: Any) -> OrderFact:
    """Return a stop that sells, of a parent or of nobody."""
    facts = {"is_buy": False, "order_class": "bracket" if parent_id else "simple"} | facts
    return order(order_id, minute, order_type="stop", stop_price=Decimal(price), parent_id=parent_id, **facts)


def take(order_id: str, parent_id: str | None, price: str, minute: float = 0, **facts: Any) -> OrderFact:
    """Return a take-profit that sells."""
    facts = {"is_buy": False, "order_class": "bracket"} | facts
    return order(order_id, minute, order_type="limit", limit_price=Decimal(price), parent_id=parent_id, **facts)


def oco(head: str, stop_id: str, prices: tuple[str, str], minute: float, qty: str) -> list[OrderFact]:
    """Return an OCO that sells: its head, which takes profit, and its stop."""
    facts = {"order_class": "oco", "qty": Decimal(qty)}
    return [take(head, None, prices[0], minute, **facts), stop(stop_id, head, prices[1], minute, **facts)]


def replaced(old: OrderFact, new_id: str, minute: float, **facts: Any) -> list[OrderFact]:
    """Return an order that was replaced, and the one that did."""
    new = replace(old, id=new_id, replaces=old.id, submitted_at=at(minute), **facts)
    return [replace(old, status="replaced", replaced_by=new_id, replaced_at=at(minute)), new]


def split(minute: float, change: str, move_id: str = "split") -> ShareMove:
    """Return a split by the shares that it adds."""
    return ShareMove(move_id, at(minute), "KO", MoveKind.SPLIT, Decimal(change))


def transfer(minute: float, qty: str, price: str | None, move_id: str = "transfer") -> ShareMove:
    """Return shares from another account, or to one."""
    return ShareMove(
        move_id, at(minute), "KO", MoveKind.TRANSFER, Decimal(qty), None if price is None else Decimal(price)
    )
