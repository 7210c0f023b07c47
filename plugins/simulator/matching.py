"""When an order fills: owns the comparison of orders with prices; never changes an order itself."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from random import Random

from .blotter import Blotter
from .digits import NANO, ONE
from .market import Market
from .orders import FILLABLE, STOPS, Order
from .quirks import BrokerQuirks
from .sessions import Sessions
from .stamps import MILLISECOND

PART_CHANCE = 0.35  # of the fills that could be whole
LOWEST, HIGHEST = Decimal("-Infinity"), Decimal("Infinity")
Calm = tuple[Decimal, Decimal]


class Matching:
    """Fills one account's orders at the tape's prices.

    Between the nearest prices at which something would happen a symbol is calm and its orders are not looked
    at; any change of a live order ends the calm.
    """

    def __init__(
        self, blotter: Blotter, market: Market, sessions: Sessions, quirks: BrokerQuirks, chance: Random
    ) -> None:
        self._blotter = blotter
        self._market = market
        self._sessions = sessions
        self._quirks = quirks
        self._chance = chance
        self._calm: dict[str, Calm] = {}

    def run(self, traded: Iterable[str], now: int) -> None:
        """Compare the live orders of every symbol that traded or was stirred with its price."""
        is_regular = self._sessions.open_at(now) is not None
        if not is_regular and self._sessions.extended_at(now) is None:
            return
        book = self._blotter.book
        for symbol in book.stirred.union(traded):
            orders = book.live.get(symbol)
            if not orders:
                book.stirred.discard(symbol)
                continue
            price = self._market.price(symbol)
            low, high = self._calm.get(symbol, (HIGHEST, LOWEST))
            if symbol in book.stirred or not low < price < high:
                book.stirred.discard(symbol)
                for order in list(orders.values()):
                    self._consider(order, price, now, is_regular=is_regular)
                self._calm[symbol] = calm_range(orders.values())
                if not is_regular:
                    book.stirred.add(symbol)

    def _consider(self, order: Order, price: Decimal, now: int, *, is_regular: bool) -> None:
        if not is_working(order) or not (is_regular or (order.extended_hours and order.type == "limit")):
            return
        if order.type == "trailing_stop" and not order.elected:
            self._trail(order, price, now)
        if order.type in STOPS and not order.elected:
            if not is_triggered(order, price):
                return
            order = self._blotter.elect(order, self._blotter.moment(now))
        if order.limit_price is not None and not is_reached(order, price):
            order.rested = True
            self._end_immediate(order, now)
            return
        if order.rested and order.limit_price is not None and order.type == "limit":
            price = order.limit_price
        self._fill(order, price, now)
        if not is_regular:
            self._market.trade(order.symbol, price, now)
        self._end_immediate(order, now)

    def _trail(self, order: Order, price: Decimal, now: int) -> None:
        if order.hwm is None or order.sign * (order.hwm - price) > 0:
            self._blotter.trail(order, price, self._blotter.moment(now))

    def _fill(self, order: Order, price: Decimal, now: int) -> None:
        if order.qty is None:
            shares = ((order.notional or Decimal(0)) / price).quantize(NANO)
            self._blotter.fill(order, shares, price, self._blotter.moment(now))
            return
        if self._quirks.out_of_order_partials and order.rest > ONE:
            self._blotter.fill_backwards(order, self._part(order.rest), price, self._blotter.moment(now))
        elif self._quirks.same_ms_partials and order.rest > ONE:
            self._fill_at_once(order, price, now)
        elif order.time_in_force != "fok" and order.rest > ONE and self._chance.random() < PART_CHANCE:
            self._blotter.fill(order, self._part(order.rest), price, self._blotter.moment(now))
        else:
            self._blotter.fill(order, order.rest, price, self._blotter.moment(now))

    def _fill_at_once(self, order: Order, price: Decimal, now: int) -> None:
        at = self._blotter.moment(now) // MILLISECOND * MILLISECOND
        for place in range(2):
            if order.rest > ONE:
                self._blotter.fill(order, self._part(order.rest), price, at + place * 1000)
        self._blotter.fill(order, order.rest, price, at + 2000)

    def _part(self, whole: Decimal) -> Decimal:
        shares = max(int(whole * Decimal(self._chance.uniform(0.2, 0.7))), 1)
        return Decimal(shares)

    def _end_immediate(self, order: Order, now: int) -> None:
        if order.time_in_force in {"ioc", "fok"} and not order.terminal:
            self._blotter.cancel_rest(order, self._blotter.moment(now))


def is_working(order: Order) -> bool:
    """Return whether the exchange may act on an order: accepted, or a stop held for a complete entry."""
    if order.waiting or (order.root is not None and not order.armed):
        return False
    return order.status in FILLABLE or (order.status == "held" and order.role == "stop_loss")


def is_triggered(stop: Order, price: Decimal) -> bool:
    """Return whether a price has reached a stop: at or below it for a sell, at or above it for a buy."""
    return stop.stop_price is not None and stop.sign * (price - stop.stop_price) >= 0


def is_reached(order: Order, price: Decimal) -> bool:
    """Return whether a price is as good as an order's limit, or better."""
    return order.limit_price is None or order.sign * (order.limit_price - price) >= 0


def calm_range(orders: Iterable[Order]) -> Calm:
    """Return the open interval of prices at which none of these orders would act."""
    low, high = LOWEST, HIGHEST
    for order in orders:
        if not is_working(order):
            continue
        is_waiting_stop = order.type in STOPS and not order.elected
        bound = order.stop_price if is_waiting_stop else order.limit_price
        if bound is None:
            return HIGHEST, LOWEST
        if (order.sign > 0) is is_waiting_stop:
            high = min(high, bound)
        else:
            low = max(low, bound)
        if order.type == "trailing_stop" and order.hwm is not None:
            low, high = (max(low, order.hwm), high) if order.sign > 0 else (low, min(high, order.hwm))
    return low, high
