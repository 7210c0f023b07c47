"""Whether an account may send an order: owns shares, buying power and wash-trade rules; changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from .blotter import Blotter
from .digits import ZERO, plain
from .market import Market
from .orders import OPEN, STOPS, Order
from .refusals import forbidden, unprocessable
from .tickets import Ticket

MULTIPLIER = 4


def equity_of(blotter: Blotter, market: Market) -> Decimal:
    """Return cash plus the market value of every position, in currency."""
    positions = blotter.ledger.positions.items()
    return blotter.ledger.cash + sum((held.qty * market.price(symbol) for symbol, held in positions), ZERO)


def buying_power(blotter: Blotter, market: Market) -> Decimal:
    """Return four times the equity less what positions and open entries take, not below 0."""
    positions = blotter.ledger.positions.items()
    taken = sum((abs(held.qty) * market.price(symbol) for symbol, held in positions), ZERO)
    for order in blotter.book.live_orders():
        if _is_entry(order) and not order.waiting:
            taken += order.notional or order.rest * (order.limit_price or market.price(order.symbol))
    return max(MULTIPLIER * equity_of(blotter, market) - taken, ZERO)


def held_for_exits(blotter: Blotter, symbol: str) -> Decimal:
    """Return the shares that open and held exits reserve; the members of a group reserve them once."""
    quantity = blotter.ledger.quantity(symbol)
    reserved: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for order in blotter.book.live[symbol].values():
        if order.sign * quantity < 0 and not _is_dormant(order):
            group = order.root or (order.replaces if order.waiting else None) or order.id
            reserved[group] = max(reserved[group], order.rest)
    return sum(reserved.values(), ZERO)


def check_permission(ticket: Ticket, blotter: Blotter, market: Market) -> None:
    """Raise Refused 403 if shares, buying power or the wash-trade rule forbid the order."""
    symbol = ticket.asset.symbol
    quantity = blotter.ledger.quantity(symbol)
    price = ticket.limit_price or ticket.stop_price or market.price(symbol)
    qty = ticket.qty if ticket.qty is not None else (ticket.notional or ZERO) / price
    is_exit = ticket.sign * quantity < 0
    if ticket.order_class == "oco" and not is_exit:
        raise unprocessable("oco orders must be exit orders")
    if is_exit and ticket.order_class in {"bracket", "oto"}:
        raise unprocessable(f"{ticket.order_class} orders must be entry orders")
    inferred = f"{ticket.side}_to_{'close' if is_exit else 'open'}"
    if ticket.position_intent not in {None, inferred}:
        raise unprocessable(f"position intent mismatch, inferred: {inferred}, specified: {ticket.position_intent}")
    if is_exit:
        _check_shares(ticket, qty, blotter)
        return
    opposite = _opposite(ticket, blotter.book.live[symbol].values())
    if not quantity:
        _check_opening(ticket, qty, opposite)
    if not ticket.order_class and opposite is not None and _crosses(ticket, opposite):
        raise forbidden(
            "potential wash trade detected. use complex orders",
            existing_order_id=opposite.id,
            reject_reason="opposite side market/stop order exists",
        )
    available, cost = buying_power(blotter, market), qty * price
    if cost > available:
        raise forbidden("insufficient buying power", buying_power=plain(available), cost_basis=plain(cost))


def _check_shares(ticket: Ticket, qty: Decimal, blotter: Blotter) -> None:
    symbol = ticket.asset.symbol
    existing = abs(blotter.ledger.quantity(symbol))
    held = held_for_exits(blotter, symbol)
    available = max(existing - held, ZERO)
    if qty > available:
        related = [order.id for order in blotter.book.live[symbol].values() if order.side == ticket.side]
        raise forbidden(
            f"insufficient qty available for order (requested: {plain(qty)}, available: {plain(available)})",
            available=plain(available),
            existing_qty=plain(existing),
            held_for_orders=plain(held),
            symbol=symbol,
            **({"related_orders": related} if related else {}),
        )


def _check_opening(ticket: Ticket, qty: Decimal, opposite: Order | None) -> None:
    if opposite is not None and _is_entry(opposite):
        side, other = ("short sell", "long buy") if ticket.side == "sell" else ("long buy", "short sell")
        raise forbidden(f"cannot open a {side} while a {other} order is open")
    if ticket.side == "sell" and (ticket.qty is None or qty % 1):
        raise unprocessable("fractional orders cannot be sold short")


def _opposite(ticket: Ticket, orders: Iterable[Order]) -> Order | None:
    resting = (order for order in orders if order.status in OPEN and order.side != ticket.side)
    return next(resting, None)


def _crosses(ticket: Ticket, order: Order) -> bool:
    if order.type in STOPS or ticket.limit_price is None or order.limit_price is None:
        return True
    return ticket.sign * (ticket.limit_price - order.limit_price) >= 0


def _is_entry(order: Order) -> bool:
    return order.role == "entry" and order.position_intent.endswith("to_open")


def _is_dormant(order: Order) -> bool:
    """Return whether an order reserves no shares: an entry, or a leg whose entry is not complete."""
    return _is_entry(order) or (order.root is not None and not order.armed)
