"""All orders of one account: owns finding and listing them; never changes one."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from .index import MAX, SortedIndex
from .orders import OPEN, Order, listed_legs
from .quirks import BrokerQuirks
from .refusals import invalid, not_found
from .stamps import nanoseconds

PAGE_MAX = 500


class OrderBook:
    """Orders by id, by client id, by submission time and, while they live, by symbol.

    live: symbol -> id -> order that may still change. stirred: symbols whose live orders changed since the
    matching last looked. unwritten: orders changed since the journal last looked.
    """

    def __init__(self, quirks: BrokerQuirks) -> None:
        self.by_id: dict[str, Order] = {}
        self.live: defaultdict[str, dict[str, Order]] = defaultdict(dict)
        self.stirred: set[str] = set()
        self.unwritten: dict[str, Order] = {}
        self._quirks = quirks
        self._by_client_id: dict[str, str] = {}
        self._submitted: SortedIndex[Order] = SortedIndex()
        self._by_symbol: defaultdict[str, SortedIndex[Order]] = defaultdict(SortedIndex)
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    def keep(self, order: Order) -> None:
        """Take in an order that is new or has changed, and bring every index up to date."""
        place = self._places.get(order.id)
        if place != order.submitted or self.by_id[order.id] is not order:
            self._move(order, place)
        self.by_id[order.id] = order
        if order.terminal:
            self.live[order.symbol].pop(order.id, None)
        else:
            self.live[order.symbol][order.id] = order
        self.stirred.add(order.symbol)
        self.unwritten[order.id] = order

    def _move(self, order: Order, place: int | None) -> None:
        indexes = (self._submitted, self._by_symbol[order.symbol])
        if place is None:
            self._by_client_id[order.client_order_id] = order.id
        else:
            for index in indexes:
                index.remove(place, order.seq)
        for index in indexes:
            index.add(order.submitted, order.seq, order)
        self._places[order.id] = order.submitted

    def get(self, order_id: str) -> Order:
        """Return an order. Raises Refused 422 for an id that is no UUID, 404 for an unknown one."""
        order = self.by_id.get(order_id)
        if order is None:
            if not is_uuid(order_id):
                raise invalid("order_id is missing")
            raise not_found(f"order not found for {order_id}")
        return order

    def by_client_id(self, client_order_id: str) -> Order:
        """Return the order with this client id. Raises Refused 404."""
        order_id = self._by_client_id.get(client_order_id)
        if order_id is None:
            raise not_found(f"order not found for {client_order_id}")
        return self.by_id[order_id]

    def knows_client_id(self, client_order_id: str) -> bool:
        """Return whether any order, finished ones too, has used this client id."""
        return client_order_id in self._by_client_id

    def root_of(self, order: Order) -> Order:
        """Return the parent of a leg, or the order itself."""
        return order if order.root is None else self.by_id[order.root]

    def legs_of(self, order: Order) -> list[Order]:
        """Return the legs as the chosen layout lists them."""
        return listed_legs(order, self.by_id.__getitem__, self._quirks.replaced_leg_layout)

    def group(self, order: Order) -> list[Order]:
        """Return the orders of this group that may still change, the parent last, the stop first."""
        root = self.root_of(order)
        members = [self.by_id[leg_id] for leg_id in reversed(root.legs)] + [root]
        return [member for member in members if not member.terminal]

    def live_orders(self) -> list[Order]:
        """Return every order that may still change."""
        return [order for orders in self.live.values() for order in orders.values()]

    def newest(self, symbol: str) -> Iterator[Order]:
        """Yield a symbol's orders, newest submission first."""
        return self._by_symbol[symbol].walk(descending=True)

    def listing(
        self,
        *,
        status: str,
        limit: int,
        after: datetime | None,
        until: datetime | None,
        direction: str,
        nested: bool,
        symbols: Sequence[str],
        side: str | None,
        before_order_id: str | None,
        after_order_id: str | None,
    ) -> list[Order]:
        """Return a page of orders as GET /v2/orders does: at most 500, bounds exclusive on submission.

        Raises Refused for a parameter Alpaca would refuse.
        """
        _check_listing(status, limit, direction)
        _check_cursors(before_order_id, after_order_id, after, until)
        above = None if after is None else (nanoseconds(after), MAX)
        below = None if until is None else (nanoseconds(until), -1)
        if after_order_id is not None:
            above = _key(self.get(after_order_id))
        if before_order_id is not None:
            below = _key(self.get(before_order_id))
        rows = self._rows(status, symbols, above, below, descending=direction == "desc")
        page: list[Order] = []
        for order in rows:
            if (side is None or order.side == side) and not (nested and self._is_listed_leg(order)):
                page.append(order)
                if len(page) >= min(limit, PAGE_MAX):
                    break
        return page

    def _rows(
        self,
        status: str,
        symbols: Sequence[str],
        above: tuple[int, int] | None,
        below: tuple[int, int] | None,
        *,
        descending: bool,
    ) -> Iterable[Order]:
        if status == "open":
            chosen = [order for order in self.live_orders() if order.status in OPEN]
            rows: Iterable[Order] = sorted(
                (
                    order
                    for order in chosen
                    if (not symbols or order.symbol in symbols)
                    and (above is None or _key(order) > above)
                    and (below is None or _key(order) < below)
                ),
                key=_key,
                reverse=descending,
            )
            return rows
        indexes = [self._by_symbol[symbol] for symbol in symbols] if symbols else [self._submitted]
        walks = [index.walk(above=above, below=below, descending=descending) for index in indexes]
        rows = heapq.merge(*walks, key=_key, reverse=descending) if len(walks) > 1 else walks[0]
        return (order for order in rows if order.status not in OPEN) if status == "closed" else rows

    def _is_listed_leg(self, order: Order) -> bool:
        return order.root is not None and order in self.legs_of(self.by_id[order.root])


def is_uuid(text: str) -> bool:
    """Return whether a text has the shape of a UUID."""
    return len(text) == 36 and text.count("-") == 4 and all(c in "0123456789abcdefABCDEF-" for c in text)


def _key(order: Order) -> tuple[int, int]:
    return order.submitted, order.seq


def _check_listing(status: str, limit: int, direction: str) -> None:
    if status not in {"open", "closed", "all"}:
        raise invalid(f"invalid status: {status}")
    if direction not in {"asc", "desc"}:
        raise invalid(f"invalid direction: {direction}")
    if limit < 1:
        raise invalid("limit must be > 0")


def _check_cursors(
    before_order_id: str | None, after_order_id: str | None, after: datetime | None, until: datetime | None
) -> None:
    cursors = [cursor for cursor in (before_order_id, after_order_id) if cursor is not None]
    if len(cursors) > 1 or (cursors and (after is not None or until is not None)):
        raise invalid("only one of before_order_id, after_order_id and after/until is accepted")
