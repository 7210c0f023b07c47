"""A trade as a list of moments in plain words: what was placed, replaced, filled, decided and closed; pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from coldharbour.risk.audit import AuditRow
from coldharbour.web.formats import average, gain, plural, price, quantity
from coldharbour.web.lineage.store import ClosingRow, FillRow, OrderRow


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened. kind: order, fill, decision or closing. order_id: which order it is about."""

    at: datetime
    kind: str
    text: str
    order_id: str
    tone: str = "idle"


def timeline(
    parent_id: str,
    orders: Sequence[OrderRow],
    fills: Iterable[FillRow],
    decisions: Iterable[AuditRow],
    closings: Iterable[ClosingRow],
) -> list[Moment]:
    """Return everything that happened to a trade, oldest first; at one moment, orders come before their fills."""
    by_id = {order.id: order for order in orders}
    found = [moment for order in orders for moment in _order_moments(order, by_id, parent_id)]
    found += [_fill_moment(fill, by_id[fill.order_id], parent_id) for fill in fills]
    found += [_decision_moment(row) for row in decisions]
    found += [_closing_moment(row) for row in closings]
    return sorted(found, key=lambda moment: moment.at)


def role_of(order: OrderRow, parent_id: str) -> str:
    """Return what an order is to the trade: its entry, target or stop; or another exit, which is no leg of it."""
    if str(order.id) == parent_id:
        return "entry"
    if str(order.parent_id) != parent_id:
        return "other exit"
    return "target" if order.order_type == "limit" else "stop"


def _order_moments(order: OrderRow, by_id: Mapping[UUID, OrderRow], parent_id: str) -> Iterator[Moment]:
    role, name = role_of(order, parent_id), str(order.id)
    if order.placed_at:
        before = by_id.get(order.replaces) if order.replaces else None
        text = _replaced(role, before, order) if before else f"{role} placed: {_terms(order)}"
        yield Moment(order.placed_at, "order", text, name, "busy" if before else "idle")
    ends = ((order.canceled_at, "canceled"), (order.expired_at, "expired"), (order.failed_at, "rejected"))
    for at, word in ends:
        if at:
            yield Moment(at, "order", f"{role} {word}", name, "warn")


def _replaced(role: str, before: OrderRow, order: OrderRow) -> str:
    changes = [
        f"{what} {words(old)} → {words(new)}"
        for what, words, old, new in (
            ("stop", price, before.stop_price, order.stop_price),
            ("limit", price, before.limit_price, order.limit_price),
            ("qty", quantity, before.qty, order.qty),
        )
        if old != new
    ]
    return f"{role} replaced: {', '.join(changes) or 'same terms'}"


def _terms(order: OrderRow) -> str:
    prices = (("stop", order.stop_price), ("limit", order.limit_price))
    told = [f"{word} {price(value)}" for word, value in prices if value is not None] or [order.order_type or ""]
    return " ".join([order.side or "", quantity(order.qty), order.symbol or "", *told]).strip()


def _fill_moment(fill: FillRow, order: OrderRow, parent_id: str) -> Moment:
    text = f"{role_of(order, parent_id)} filled: {quantity(fill.qty)} at {price(fill.price)}"
    return Moment(fill.at, "fill", text, str(fill.order_id), "good")


def _decision_moment(row: AuditRow) -> Moment:
    seen = "" if row.evaluations == 1 else f" ({plural(row.evaluations, 'evaluation')})"
    text = f"break-even: {row.detail or row.reason}{seen}{f'; {row.error}' if row.error else ''}"
    return Moment(row.first_at, "decision", text, row.stop_order_id, "good" if row.is_action else "idle")


def _closing_moment(row: ClosingRow) -> Moment:
    in_r = "" if row.r_multiple is None else f", {gain(row.r_multiple)} R"
    text = f"closed {quantity(row.qty)} at {average(row.exit_price)} by {row.exit_type}: {gain(row.pnl_cash)}{in_r}"
    return Moment(row.exit_time, "closing", text, row.exit_order_id, "good" if row.pnl_cash >= 0 else "bad")
