"""How an account's orders change: owns every transition and its events; never decides when one is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from .activities import TRADE, Activity, fill_id
from .book import OrderBook
from .digits import plain
from .ids import Ids
from .ledger import Ledger
from .orders import Order, order_json
from .quirks import BrokerQuirks
from .stamps import MILLISECOND, SECOND, rfc3339, rounded_to_micros

JSON = dict[str, object]
Listener = Callable[[JSON], None]


class Blotter:
    """The state machine of one account's orders; every moment is given, in nanoseconds since 1970.

    outbox: events not yet told. event_count: events so far, told or not.
    """

    def __init__(self, ids: Ids, quirks: BrokerQuirks) -> None:
        self.ids = ids
        self.quirks = quirks
        self.book = OrderBook(quirks)
        self.ledger = Ledger()
        self.listeners: list[Listener] = []
        self.outbox: list[JSON] = []
        self.event_count = 0
        self._latest = 0

    def moment(self, now: int) -> int:
        """Return a time at or just after `now` that is later than all it gave before."""
        later = self._latest + 20_000 + self.ids.chance.randrange(10_000)
        self._latest = max(now + self.ids.chance.randrange(1000), later)
        return self._latest

    def tell(self) -> None:
        """Give the listeners every event that waits in the outbox, in order."""
        events, self.outbox = self.outbox, []
        for event in events:
            for callback in tuple(self.listeners):
                callback(event)

    def submit(self, root: Order, legs: Sequence[Order], at: int) -> None:
        """Take in a new order with its held legs."""
        for order in (root, *legs):
            self.book.keep(order)
        self._emit(root.status, root, at)

    def accept(self, order: Order, at: int) -> None:
        """Let the exchange have an order; an OCO's stop begins to watch."""
        if order.status == "accepted":
            order.submitted = at
        self._change(order, "new", at)
        self._emit("new", order, at)
        if order.order_class == "oco":
            self._arm(order, at)

    def fill(self, order: Order, qty: Decimal, price: Decimal, at: int) -> Activity:
        """Fill `qty` shares of an order at `price` and let its group follow."""
        order.filled_qty += qty
        order.cost += qty * price
        is_complete = order.qty is None or order.filled_qty == order.qty
        if is_complete:
            order.filled = at
            self._change(order, "filled", at)
        elif order.status in {"pending_cancel", "pending_replace"}:
            order.resume = "partially_filled"
            self._change(order, order.status, at)
        else:
            self._change(order, "partially_filled", at)
        activity = self._book_fill(order, qty, price, at)
        self._emit("fill" if is_complete else "partial_fill", order, at, activity)
        self._follow_fill(order, qty, at, is_complete=is_complete)
        return activity

    def fill_backwards(self, order: Order, part: Decimal, price: Decimal, at: int) -> None:
        """Fill an order in two slices whose events come in the wrong order, the first one stamped later."""
        place = len(self.outbox)
        self.fill(order, part, price, at + 5 * MILLISECOND)
        self.fill(order, order.rest, price, at)
        if self.listeners:
            self.outbox[place], self.outbox[place + 1] = self.outbox[place + 1], self.outbox[place]

    def elect(self, stop: Order, at: int) -> Order:
        """Trigger a stop: its take-profit goes, it becomes a market or limit order; return what fills."""
        if stop.root is not None or stop.order_class == "oco":
            self._withdraw_siblings(stop, at)
        if self.quirks.stop_id_changes_on_trigger and stop.root is not None:
            stop = self._swap(stop, at)
        stop.elected = True
        if stop.status == "held":
            self._change(stop, "new", at)
            self._emit("new", stop, at)
        else:
            self._change(stop, stop.status, at)
        return stop

    def trail(self, order: Order, price: Decimal, at: int) -> None:
        """Move a trailing stop's water mark to a better price, and its stop with it; no event tells."""
        order.hwm = price
        order.stop_price = trailing_stop_price(order, price)
        self._change(order, order.status, at)

    def request_cancel(self, order: Order, at: int) -> None:
        """Take a cancel request; the order may still fill until `finish_cancel`."""
        if order.status != "pending_replace":
            order.resume = order.status
        order.cancel_requested = at
        self._change(order, "pending_cancel", at)
        self._emit("pending_cancel", order, at)

    def finish_cancel(self, order: Order, at: int) -> None:
        """Cancel an order and the rest of its group, the stop a few milliseconds before the take-profit."""
        for place, member in enumerate(self.book.group(order)):
            self._cancel(member, at + place * 3 * MILLISECOND)

    def cancel_rest(self, order: Order, at: int) -> None:
        """Cancel what an immediate-or-cancel order could not fill."""
        self._cancel(order, at)

    def expire(self, order: Order, at: int) -> None:
        """End an order and the rest of its group because their time is over."""
        for place, member in enumerate(self.book.group(order)):
            stamp = at + place * 3 * MILLISECOND
            member.expired = stamp
            self._change(member, "expired", stamp)
            self._emit("expired", member, stamp)

    def reject(self, order: Order, reason: str, at: int) -> None:
        """End an order that the exchange will not have."""
        order.failed, order.reason, order.waiting = at, reason, False
        self._change(order, "rejected", at)
        self._emit("rejected", order, at)

    def begin_replace(self, old: Order, new: Order, at: int) -> None:
        """Let a replacement wait beside the order it replaces, which may still fill."""
        old.resume, old.heir = old.status, new.id
        self._change(old, "pending_replace", at)
        if old.root is not None:
            root = self.book.by_id[old.root]
            root.legs.append(new.id)
            self.book.keep(root)
        self.book.keep(new)
        self._emit("pending_replace", old, at)

    def finish_replace(self, old: Order, at: int) -> None:
        """Settle a replacement: it takes over, or it is rejected because the old order ended first."""
        new = self.book.by_id[old.heir or ""]
        if new.terminal:
            self._resume(old, at)
        elif old.terminal:
            self.reject(new, f"order {old.id} is already {old.status}", at)
        elif self.quirks.replace_then_reject:
            self._resume(old, at)
            self._emit("order_replace_rejected", old, at)
            self.reject(new, "the exchange refused the replacement", at)
        else:
            self._take_over(old, new, at)

    def _take_over(self, old: Order, new: Order, at: int) -> None:
        new.waiting, new.armed = False, old.armed
        self._replaced(old, new.id, at)
        if old.role == "entry" or old.root is None:
            self._inherit_legs(old, new)
        status = "held" if old.resume == "held" else "new"
        if new.status == "pending_cancel":
            new.resume = status
        self._change(new, new.status if new.status == "pending_cancel" else status, at)
        self._emit(status, new, at)

    def _replaced(self, old: Order, heir: str | None, at: int) -> None:
        old.replaced, old.replaced_by = at, heir
        self._change(old, "replaced", at)
        self._emit("replaced", old, at)

    def _inherit_legs(self, old: Order, new: Order) -> None:
        new.legs, old.legs = old.legs, []
        for leg_id in new.legs:
            leg = self.book.by_id[leg_id]
            leg.root = new.id
            self.book.keep(leg)
        self.book.keep(old)

    def _resume(self, old: Order, at: int) -> None:
        old.heir = None
        if not old.terminal:
            self._change(old, old.resume or "new", at)

    def _follow_fill(self, order: Order, qty: Decimal, at: int, *, is_complete: bool) -> None:
        if order.role == "entry":
            if is_complete and order.legs:
                self._arm(order, at)
            followers = []
        else:
            followers = [member for member in self.book.group(order) if member is not order]
        if order.heir is not None and order.root is None and not is_complete:
            followers.append(self.book.by_id[order.heir])
        for place, follower in enumerate(followers, start=1):
            if is_complete and follower.id == order.heir:
                self.reject(follower, f"order {order.id} is already filled", at + place * MILLISECOND)
            elif is_complete:
                self._cancel(follower, at + place * MILLISECOND, is_told=not self.quirks.lose_sibling_cancel)
            elif not follower.terminal and follower.qty is not None:
                follower.qty -= qty
                self._change(follower, follower.status, at)

    def _arm(self, root: Order, at: int) -> None:
        """Bring the exits to life: a take-profit (or an only leg) goes out, a stop beside it stays held."""
        legs = [leg for leg in map(self.book.by_id.__getitem__, root.legs) if not leg.terminal]
        resting = [leg for leg in legs if not leg.waiting]
        for place, leg in enumerate(legs, start=1):
            stamp = at + place * MILLISECOND
            leg.armed = True
            if leg in resting and leg.status == "held" and _goes_out(leg, root, resting):
                leg.submitted = stamp
                self._change(leg, "new", stamp)
            else:
                self._change(leg, leg.status, stamp)
            if leg in resting:
                self._emit(leg.status, leg, stamp)

    def _withdraw_siblings(self, stop: Order, at: int) -> None:
        for member in self.book.group(stop):
            if member is stop or member.id == stop.heir:
                continue
            if self.quirks.take_profit_replaced_on_stop_fill:
                self._replaced(member, None, at)
            else:
                self._cancel(member, at, is_told=not self.quirks.lose_sibling_cancel)

    def _swap(self, stop: Order, at: int) -> Order:
        successor = replacement(stop, self.ids.uuid(), self.ids.uuid(), len(self.book), at)
        successor.status, successor.waiting, successor.armed = "held", False, True
        root = self.book.root_of(stop)
        root.legs.append(successor.id)
        self.book.keep(root)
        self.book.keep(successor)
        self._replaced(stop, successor.id, at)
        return successor

    def _cancel(self, order: Order, at: int, *, is_told: bool = True) -> None:
        order.canceled, order.waiting = at, False
        self._change(order, "canceled", at)
        if is_told:
            self._emit("canceled", order, at)

    def _change(self, order: Order, status: str, at: int) -> None:
        order.status = status
        order.updated = max(at, order.updated + 1)
        self.book.keep(order)

    def _book_fill(self, order: Order, qty: Decimal, price: Decimal, at: int) -> Activity:
        execution_id = self.ids.uuid()
        fill = Activity(
            id=fill_id(at, execution_id),
            type=TRADE,
            at=rounded_to_micros(at),
            visible=at + int(self.quirks.late_activity_s * SECOND),
            net_amount=-order.sign * qty * price,
            symbol=order.symbol,
            qty=qty,
            price=price,
            side=order.side,
            cum_qty=order.filled_qty,
            leaves_qty=order.rest,
            order_id=order.id,
            order_status=order.status,
            position_qty=self.ledger.quantity(order.symbol) + order.sign * qty,
        )
        self.ledger.add(fill, now=at)
        return fill

    def _emit(self, event: str, order: Order, at: int, fill: Activity | None = None) -> None:
        self.event_count += 1
        if not self.listeners:
            return
        told: JSON = {
            "event": event,
            "at": rfc3339(rounded_to_micros(at)),
            "event_id": self.ids.ulid(at),
            "timestamp": rfc3339(at),
        }
        if fill is not None:
            told["execution_id"] = fill.execution_id
            told["price"], told["qty"] = plain(fill.price or Decimal(0)), plain(fill.qty or Decimal(0))
            told["position_qty"] = plain(fill.position_qty)
        elif event != "pending_new":
            told["execution_id"] = self.ids.uuid()
        told["order"] = order_json(order, self.book.legs_of(order) if order.legs else None)
        self.outbox.append(told)


def replacement(old: Order, new_id: str, client_order_id: str, seq: int, at: int) -> Order:
    """Return the order that will take `old`'s place: its unfilled rest, its creation time, a new submission.

    An order still held keeps its place in the list, as its parent's submission.
    """
    return Order(
        id=new_id,
        seq=seq,
        client_order_id=client_order_id,
        symbol=old.symbol,
        asset_id=old.asset_id,
        side=old.side,
        type=old.type,
        time_in_force=old.time_in_force,
        order_class=old.order_class,
        position_intent=old.position_intent,
        role=old.role,
        created=old.created,
        submitted=at,
        updated=at,
        expires=old.expires,
        status="held" if old.status == "held" else "new",
        qty=None if old.qty is None else old.rest,
        limit_price=old.limit_price,
        stop_price=old.stop_price,
        trail_price=old.trail_price,
        trail_percent=old.trail_percent,
        hwm=old.hwm,
        extended_hours=old.extended_hours,
        replaces=old.id,
        root=old.root,
        waiting=True,
        armed=old.armed,
    )


def trailing_stop_price(order: Order, water_mark: Decimal) -> Decimal:
    """Return the stop of a trailing order: the mark minus (a buy: plus) its trail.

    Not rounded to the tick, as Alpaca's is not. Source: Alpaca, trailing stop orders.
    """
    share = (order.trail_percent or Decimal(0)) / 100
    gap = water_mark * share if order.trail_price is None else order.trail_price
    return water_mark + order.sign * gap


def _goes_out(leg: Order, root: Order, legs: Sequence[Order]) -> bool:
    return root.order_class != "oco" and (leg.role == "take_profit" or len(legs) == 1)
