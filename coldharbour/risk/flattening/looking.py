"""Looking at the broker before each step of a flatten: positions, orders that hold shares, our own orders by name.

Owns what is asked and when; judges nothing of it. A look in which any read failed is no look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from coldharbour.broker import Broker, NotFound, Order, Position, Priority
from coldharbour.db import Database
from coldharbour.live.model import ZERO
from coldharbour.risk.flattening import store
from coldharbour.risk.flattening.model import ENDED, Kind, Request, Sight


class Lookout:
    """Looks at one account."""

    def __init__(self, db: Database, broker: Broker, slug: str) -> None:
        self._db, self._broker, self._slug = db, broker, slug

    async def positions(self) -> dict[str, Position]:
        """Return all positions by symbol."""
        held = await self._broker.positions(priority=Priority.WRITE)
        return {position.symbol: position for position in held}

    async def position(self, symbol: str) -> Position | None:
        """Return one position, None when flat."""
        try:
            return await self._broker.position(symbol, priority=Priority.WRITE)
        except NotFound:
            return None

    async def look(self, symbols: Collection[str], requests: Sequence[Request]) -> Sight:
        """Return what the broker shows of some symbols, and of the requests that were made for them.

        Raises Transient and BrokerRefused.
        """
        closes = {request.name: request for request in requests if request.kind is Kind.CLOSE}
        listed = await self._broker.open_orders(priority=Priority.WRITE)
        ours = {order.client_order_id: order for order in listed if order.client_order_id in closes}
        closings = {name: ours.get(name) or await self._closing(request) for name, request in closes.items()}
        positions = await self._held(symbols)  # after the orders: what was filled meanwhile is gone from these
        orders = {
            order.id: order
            for order in listed
            if order.symbol in symbols and order.client_order_id not in closes and order.status not in ENDED
        }
        read = await self._unlisted(positions, orders, requests)
        ended = {order.id: order for order in read if order.status in ENDED}
        orders |= {order.id: order for order in read if order.status not in ENDED}
        return Sight(positions=positions, orders=orders, ended=ended, closings=closings)

    async def _closing(self, request: Request) -> Order | None:
        """Return a closing order that is not listed as open: by its name, else by the id that was promised."""
        try:
            return await self._broker.order_by_client_id(request.name, priority=Priority.WRITE)
        except NotFound:
            return await self._order(request.order_id) if request.order_id else None

    async def _held(self, symbols: Iterable[str]) -> dict[str, Position]:
        """Return the positions in symbols; one that the list leaves out is asked for alone before it counts as flat."""
        found = await self.positions()
        held = {symbol: found[symbol] for symbol in symbols if symbol in found}
        for symbol in symbols:
            if symbol not in held and (position := await self.position(symbol)) is not None:
                held[symbol] = position
        return held

    async def _unlisted(
        self, positions: dict[str, Position], orders: dict[str, Order], requests: Iterable[Request]
    ) -> list[Order]:
        """Read orders that are not listed as open: those that were to be canceled, and legs that are kept held."""
        wanted = [each.name for each in requests if each.kind is Kind.CANCEL and not each.is_final]
        busy = {order.symbol for order in orders.values()}
        reserved = [symbol for symbol, position in positions.items() if symbol not in busy and _is_reserved(position)]
        if reserved:
            async with self._db.transaction() as conn:
                wanted += await store.live_orders(conn, self._slug, reserved)
        names = {request.order_id for request in requests if request.kind is Kind.CLOSE}
        ids = [order_id for order_id in dict.fromkeys(wanted) if order_id not in orders and order_id not in names]
        return [order for order_id in ids if (order := await self._order(order_id)) is not None]

    async def _order(self, order_id: str) -> Order | None:
        try:
            return await self._broker.order(order_id, nested=False, priority=Priority.WRITE)
        except NotFound:
            return None


def _is_reserved(position: Position) -> bool:
    """Return whether orders hold shares of a position, or may: the broker does not always say."""
    available = position.qty_available
    return available is None or abs(available) < abs(position.qty) or position.qty == ZERO
