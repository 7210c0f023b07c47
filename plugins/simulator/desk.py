"""Requests becoming orders, and what they set in motion: owns latencies and the agenda; matches nothing."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import time, timedelta
from decimal import Decimal
from itertools import count
from typing import Literal

from .blotter import Blotter, replacement, trailing_stop_price
from .market import Market
from .orders import Order, Role
from .permission import check_permission
from .refusals import Refused, invalid, unprocessable
from .sessions import Sessions
from .stamps import MILLISECOND, MINUTE, new_york_day, new_york_ns
from .tickets import Ticket, check_exits, client_order_id, number, price, read_ticket, word

JSON = dict[str, object]
Action = Literal["accept", "release", "cancel", "replace", "expire"]

GTC_LIFE = timedelta(days=90)
GTC_JOB_DELAY = 15 * MINUTE  # the job that ends them runs at 16:15 New York
LATENCY_MS: Mapping[Action, tuple[int, int]] = {"accept": (15, 60), "cancel": (20, 120), "replace": (12, 180)}
DUE_IN: Mapping[Action, frozenset[str]] = {
    "accept": frozenset({"pending_new"}),
    "release": frozenset({"accepted"}),
    "cancel": frozenset({"pending_cancel"}),
}
CHANGEABLE = frozenset({"qty", "time_in_force", "limit_price", "stop_price", "trail", "client_order_id"})
UNREPLACEABLE = frozenset({"accepted", "pending_new", "pending_cancel"})


class Desk:
    """The part of the broker that takes one account's requests and does what falls due."""

    def __init__(self, blotter: Blotter, market: Market, sessions: Sessions) -> None:
        self.blotter = blotter
        self._market = market
        self._sessions = sessions
        self._agenda: list[tuple[int, int, Action, str]] = []
        self._ties = count()

    def place(self, request: Mapping[str, object], now: int) -> Order:
        """Take an order request; return the (parent) order. Raises Refused."""
        ticket = read_ticket(request, self._market)
        if ticket.order_class:
            check_exits(ticket, self._market.price(ticket.asset.symbol))
        if ticket.client_order_id and self.blotter.book.knows_client_id(ticket.client_order_id):
            raise invalid("client_order_id must be unique")
        check_permission(ticket, self.blotter, self._market)
        root = self.write(ticket, now)
        self.attend(root, now)
        return root

    def write(self, ticket: Ticket, now: int) -> Order:
        """Write a ticket's orders into the book without further ado; return the (parent) order."""
        at = self.blotter.moment(now)
        orders = self._orders(ticket, at)
        self.blotter.submit(orders[0], orders[1:], at)
        return orders[0]

    def replace(self, order_id: str, changes: Mapping[str, object], now: int) -> Order:
        """Take a replace request; return the new order, which takes over a little later. Raises Refused."""
        old = self.blotter.book.get(order_id)
        self._check_replaceable(old)
        at = self.blotter.moment(now)
        new = self._changed(old, changes, at)
        self.blotter.begin_replace(old, new, at)
        if self.blotter.quirks.replace_error_though_done:
            self.blotter.finish_replace(old, self.blotter.moment(now))
            raise Refused(500, 50010000, "internal server error occurred")
        self.attend(old, now)
        return new

    def cancel(self, order_id: str, now: int) -> Order:
        """Take a cancel request. Raises Refused for an unknown or finished order."""
        order = self.blotter.book.get(order_id)
        if order.terminal:
            raise unprocessable(f'order is already in "{order.status}" state')
        if order.status != "pending_cancel":
            self.blotter.request_cancel(order, self.blotter.moment(now))
            self.attend(order, now)
        return order

    def attend(self, order: Order, now: int) -> None:
        """Put on the agenda what an order in this state is waiting for, now or after a restart."""
        if order.status == "pending_new":
            self._later("accept", order, now)
        elif order.status == "accepted":
            self._put(self._sessions.next_release(now), "release", order)
        elif order.status == "pending_cancel" and not self.blotter.quirks.pending_cancel_stuck:
            self._later("cancel", order, now)
        elif order.status == "pending_replace" and not self.blotter.quirks.pending_replace_stuck:
            self._later("replace", order, now)
        if order.root is None:
            delay = GTC_JOB_DELAY if order.time_in_force == "gtc" else 0
            self._put(order.expires + delay, "expire", order)

    def run_due(self, now: int) -> None:
        """Do everything whose time has come."""
        while self._agenda and self._agenda[0][0] <= now:
            due, _, action, order_id = heapq.heappop(self._agenda)
            order = self.blotter.book.by_id[order_id]
            if order.status in DUE_IN.get(action, {order.status}):
                self._do(action, order, due)

    def _do(self, action: Action, order: Order, due: int) -> None:
        at = self.blotter.moment(due)
        if action in {"accept", "release"}:
            self.blotter.accept(order, at)
        elif action == "cancel" and order.waiting:
            self._later("cancel", order, due)  # first its predecessor must go
        elif action == "cancel":
            self.blotter.finish_cancel(order, at)
        elif action == "expire":
            self.blotter.expire(order, at)
        elif order.heir is not None:
            self._settle_replace(order, self.blotter.book.by_id[order.heir], at)

    def _settle_replace(self, old: Order, heir: Order, at: int) -> None:
        if heir.waiting:
            self.blotter.finish_replace(old, at)
        if heir.root is None and not heir.terminal:
            self.attend(heir, at)

    def _later(self, action: Action, order: Order, now: int) -> None:
        low, high = LATENCY_MS[action]
        self._put(now + self.blotter.ids.chance.randint(low, high) * MILLISECOND, action, order)

    def _put(self, due: int, action: Action, order: Order) -> None:
        heapq.heappush(self._agenda, (due, next(self._ties), action, order.id))

    def _orders(self, ticket: Ticket, at: int) -> list[Order]:
        """Return the parent and its legs, take-profit first, as their ticket and the hour make them."""
        if ticket.order_class == "oco":
            target = ticket.take_profit or ticket.limit_price
            root = self._order(ticket, at, role="take_profit", limit_price=target)
            roles: Sequence[Role] = ("stop_loss",)
        else:
            root = self._order(ticket, at, role="entry", limit_price=ticket.limit_price)
            exits: tuple[tuple[Role, Decimal | None], ...] = (
                ("take_profit", ticket.take_profit),
                ("stop_loss", ticket.stop_loss),
            )
            roles = [role for role, given in exits if ticket.order_class and given is not None]
        legs = [self._leg(ticket, root, role, place) for place, role in enumerate(roles, start=1)]
        root.legs = [leg.id for leg in legs]
        return [root, *legs]

    def _order(self, ticket: Ticket, at: int, *, role: Role, limit_price: Decimal | None) -> Order:
        is_exit = ticket.sign * self.blotter.ledger.quantity(ticket.asset.symbol) < 0
        created = at + self.blotter.ids.chance.randint(1, 6) * MILLISECOND
        order = Order(
            id=self.blotter.ids.uuid(),
            seq=len(self.blotter.book),
            client_order_id=ticket.client_order_id or self.blotter.ids.uuid(),
            symbol=ticket.asset.symbol,
            asset_id=ticket.asset.id,
            side=ticket.side,
            type=ticket.type,
            time_in_force=ticket.time_in_force,
            order_class=ticket.order_class,
            position_intent=ticket.position_intent or f"{ticket.side}_to_{'close' if is_exit else 'open'}",
            role=role,
            created=created,
            submitted=at,
            updated=created,
            expires=self._expiry(ticket.time_in_force, at, extended_hours=ticket.extended_hours),
            status="pending_new" if self._takes_orders(at, ticket.extended_hours) else "accepted",
            qty=ticket.qty,
            notional=ticket.notional,
            limit_price=limit_price,
            stop_price=ticket.stop_price,
            trail_price=ticket.trail_price,
            trail_percent=ticket.trail_percent,
            extended_hours=ticket.extended_hours,
        )
        if ticket.type == "trailing_stop":
            order.hwm = self._market.price(order.symbol)
            order.stop_price = trailing_stop_price(order, order.hwm)
        return order

    def _leg(self, ticket: Ticket, root: Order, role: Role, place: int) -> Order:
        is_target = role == "take_profit"
        stop_type = "stop" if ticket.stop_loss_limit is None else "stop_limit"
        side = root.side if ticket.order_class == "oco" else ("sell" if root.side == "buy" else "buy")
        return Order(
            id=self.blotter.ids.uuid(),
            seq=root.seq + place,
            client_order_id=self.blotter.ids.uuid(),
            symbol=root.symbol,
            asset_id=root.asset_id,
            side=side,
            type="limit" if is_target else stop_type,
            time_in_force=root.time_in_force,
            order_class=root.order_class,
            position_intent=f"{side}_to_close",
            role=role,
            created=root.created,
            submitted=root.submitted,
            updated=root.updated,
            expires=root.expires,
            status="held",
            qty=root.qty,
            limit_price=ticket.take_profit if is_target else ticket.stop_loss_limit,
            stop_price=None if is_target else ticket.stop_loss,
            root=root.id,
        )

    def _takes_orders(self, at: int, extended_hours: bool) -> bool:
        session = self._sessions.extended_at(at)
        return session is not None and (at < session.close or extended_hours)

    def _expiry(self, time_in_force: str, at: int, *, extended_hours: bool) -> int:
        if time_in_force == "gtc":
            return new_york_ns(new_york_day(at) + GTC_LIFE, time(16))
        today = self._sessions.extended_at(at)
        if today is not None and at < (today.post if extended_hours else today.close):
            return today.post if extended_hours else today.close
        return self._sessions.next_to_open(at).close

    def _check_replaceable(self, order: Order) -> None:
        if order.status == "pending_replace":
            raise unprocessable("order already pending replacement")
        if order.status == "replaced":
            raise unprocessable("order already replaced")
        if order.waiting:
            raise unprocessable("order chain not fully replaced")
        if order.terminal:
            raise unprocessable(f"order is not open, status: {order.status}")
        if order.status in UNREPLACEABLE or (order.status == "held" and self.blotter.quirks.held_not_replaceable):
            raise unprocessable(f"cannot replace order in {order.status} status")
        if order.notional is not None:
            raise unprocessable("notional orders cannot be replaced")

    def _changed(self, old: Order, changes: Mapping[str, object], at: int) -> Order:
        """Return the replacement with its changes. Raises Refused for changes that this order cannot take."""
        given = {name: value for name, value in changes.items() if value is not None}
        if not CHANGEABLE & given.keys():
            raise unprocessable("order parameters are not changed")
        client_id = client_order_id(given)
        if client_id and self.blotter.book.knows_client_id(client_id):
            raise invalid("client_order_id must be unique")
        _check_fields(old, given)
        new_id = self.blotter.ids.uuid()
        new = replacement(old, new_id, client_id or self.blotter.ids.uuid(), len(self.blotter.book), at)
        new.limit_price = price(given, "limit_price") or old.limit_price
        new.stop_price = price(given, "stop_price") or old.stop_price
        new.time_in_force = word(given, "time_in_force", old.time_in_force)
        if new.time_in_force != old.time_in_force:
            new.expires = self._expiry(new.time_in_force, old.created, extended_hours=old.extended_hours)
        _change_qty(new, old, given)
        _change_trail(new, old, given)
        self._check_sides(new, old)
        if client_id is None and _terms(new) == (*_terms(old)[:-1], old.rest):
            raise unprocessable("order parameters are not changed")
        return new

    def _check_sides(self, new: Order, old: Order) -> None:
        """Refuse an exit that would stand on the wrong side of its sibling."""
        if new.role == "entry":
            return
        for sibling in self.blotter.book.group(old):
            if sibling.role in {"entry", new.role}:
                continue
            stop, target = (new, sibling) if new.role == "stop_loss" else (sibling, new)
            if stop.stop_price is None or target.limit_price is None:
                continue
            if -new.sign * (target.limit_price - stop.stop_price) <= 0:
                comparison = ">" if new.sign < 0 else "<"
                raise unprocessable(f"take_profit.limit_price must be {comparison} stop_loss.stop_price")


def _check_fields(old: Order, given: Mapping[str, object]) -> None:
    if "stop_price" in given and old.type not in {"stop", "stop_limit"}:
        raise unprocessable(f"{old.type} orders must not have stop_price")
    if "limit_price" in given and old.type not in {"limit", "stop_limit"}:
        raise unprocessable(f"{old.type} orders must not have limit_price")
    if "trail" in given and old.type != "trailing_stop":
        raise unprocessable(f"{old.type} orders must not have a trail")


def _change_qty(new: Order, old: Order, given: Mapping[str, object]) -> None:
    total = number(given, "qty")
    if total is None or total == old.qty:
        return
    if total % 1 or (old.qty is not None and old.qty % 1):
        raise unprocessable("qty must be a whole number of shares")
    if total <= old.filled_qty:
        raise unprocessable("qty must be > filled_qty")
    if old.order_class:
        raise unprocessable("qty of a complex order cannot be replaced")
    new.qty = total - old.filled_qty


def _change_trail(new: Order, old: Order, given: Mapping[str, object]) -> None:
    trail = number(given, "trail")
    if trail is None:
        return
    if old.trail_price is not None:
        new.trail_price = trail
    else:
        new.trail_percent = trail
    new.stop_price = trailing_stop_price(new, old.hwm or old.stop_price or Decimal(0))


def _terms(order: Order) -> tuple[object, ...]:
    prices = (order.limit_price, order.stop_price, order.trail_price, order.trail_percent)
    return (*prices, order.time_in_force, order.qty)
