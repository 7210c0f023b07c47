"""Alpaca's trading API as methods: account, positions, calendar, orders, activities; never a rule about trading.

Reads are retried and spend from a budget shared by the account; changes are sent once. How a request ends is
`exchange`'s business, how a list is walked is `pages`'.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import quote

from coldharbour.broker import translate
from coldharbour.broker.budget import Priority
from coldharbour.broker.exchange import Exchange, MaySend
from coldharbour.broker.model import Account, CalendarDay, EquityPoint, MarketClock, Order, Position
from coldharbour.broker.pages import ActivitiesPage, OrdersPage, walk_activities, walk_orders
from coldharbour.broker.parameters import flag, given, stamp
from coldharbour.broker.refusals import UnreadableAnswer

T = TypeVar("T")

ORDERS_LIMIT: Final = 500
ACTIVITIES_LIMIT: Final = 100
MAX_LEGS: Final = 4


class TradingApi:
    """The calls to the trading host, through an exchange.

    Every read raises BrokerUnavailable (Transient) after its last try, and BrokerRefused for a definite no.
    """

    _trading: Exchange

    async def account(self, *, priority: Priority = Priority.HEAL) -> Account:
        """Return the account's balances."""
        return await self._trading.read("/v2/account", translate.account, priority=priority)

    async def positions(self, *, priority: Priority = Priority.HEAL) -> tuple[Position, ...]:
        """Return every open position; an answer that cannot be read raises, and never looks like flat."""
        return await self._trading.read("/v2/positions", _each(translate.position), priority=priority)

    async def position(self, symbol: str, *, priority: Priority = Priority.HEAL) -> Position:
        """Return one position. Raises NotFound when flat."""
        path = f"/v2/positions/{quote(symbol, safe='')}"
        return await self._trading.read(path, translate.position, priority=priority)

    async def clock(self, *, priority: Priority = Priority.HEAL) -> MarketClock:
        """Return the broker's time and the bounds of its session."""
        return await self._trading.read("/v2/clock", translate.market_clock, priority=priority)

    async def calendar(self, start: date, end: date, *, priority: Priority = Priority.BULK) -> tuple[CalendarDay, ...]:
        """Return the trading days from start to end, both included."""
        params = {"start": start.isoformat(), "end": end.isoformat()}
        return await self._trading.read("/v2/calendar", _each(translate.calendar_day), params, priority=priority)

    async def portfolio_history(
        self, *, period: str = "1A", timeframe: str = "1D", priority: Priority = Priority.BULK
    ) -> tuple[EquityPoint, ...]:
        """Return the broker's own equity curve, oldest first."""
        params = {"period": period, "timeframe": timeframe}
        path = "/v2/account/portfolio/history"
        return await self._trading.read(path, translate.equity_history, params, priority=priority)

    async def order(self, order_id: str, *, nested: bool = True, priority: Priority = Priority.HEAL) -> Order:
        """Return one order with its legs. Raises NotFound."""
        path, params = _order_path(order_id), {"nested": flag(nested)}
        return await self._trading.read(path, translate.order, params, priority=priority)

    async def order_by_client_id(self, client_order_id: str, *, priority: Priority = Priority.HEAL) -> Order:
        """Return the order that was sent with this client_order_id. Raises NotFound."""
        params = {"client_order_id": client_order_id}
        path = "/v2/orders:by_client_order_id"
        return await self._trading.read(path, translate.order, params, priority=priority)

    async def open_orders(self, *, priority: Priority = Priority.HEAL) -> tuple[Order, ...]:
        """Return every order that the broker lists as open, legs as rows of their own.

        Held legs are not among them, though they protect a position: read those through their parent.
        Raises UnreadableAnswer (Transient) if any row cannot be read: a short list would mislead.
        """
        found: list[Order] = []
        async for page in self._walk(None, None, status="open", nested=False, priority=priority):
            for problem in page.malformed:
                raise UnreadableAnswer(f"an open order that cannot be read: {problem.reason}") from problem
            found.extend(page.orders)
        return tuple(found)

    async def orders_page(
        self,
        *,
        status: str = "all",
        after: datetime | None = None,
        until: datetime | None = None,
        after_order_id: str | None = None,
        nested: bool = True,
        page_limit: int = ORDERS_LIMIT,
        priority: Priority = Priority.BULK,
    ) -> list[bytes]:
        """Return one ascending page of orders, each the exact JSON text; both bounds are exclusive."""
        params = {"status": status, "direction": "asc", "limit": str(page_limit), "nested": flag(nested)}
        if after_order_id is not None:
            params["after_order_id"] = after_order_id
        else:
            params |= _bounds(after, until)
        return await self._trading.read("/v2/orders", translate.rows, params, priority=priority)

    def walk_orders(
        self,
        after: datetime | None,
        until: datetime | None = None,
        *,
        nested: bool = True,
        page_limit: int = ORDERS_LIMIT,
        margin_s: float = 1.0,
        priority: Priority = Priority.BULK,
    ) -> AsyncIterator[OrdersPage]:
        """Yield pages of all orders submitted between the bounds, ascending, each order once.

        after=None starts at the first order. margin_s: how far each page reaches back over the one before;
        above 0, since bounds are exclusive and stamps are rounded. Raises StuckWalk (Transient) if the list
        does not go on.
        """
        return self._walk(after, until, nested=nested, page_limit=page_limit, margin_s=margin_s, priority=priority)

    def walk_activities(
        self,
        after: datetime | None,
        until: datetime | None = None,
        *,
        page_token: str | None = None,
        types: Sequence[str] | None = None,
        category: str | None = None,
        priority: Priority = Priority.BULK,
    ) -> AsyncIterator[ActivitiesPage]:
        """Yield pages of the account's activities, ascending, each activity once.

        page_token: the `next_token` of an earlier page, to go on behind it. types: such as FILL or DIV; all
        by default. category: trade_activity or non_trade_activity, never together with types: the broker
        takes one of them. Raises StuckWalk (Transient) on a token that repeats.
        """
        fixed = {"direction": "asc", "page_size": str(ACTIVITIES_LIMIT), **_bounds(after, until)}
        if types:
            fixed["activity_types"] = ",".join(types)
        if category:
            fixed["category"] = category

        async def fetch(token: str | None) -> list[bytes]:
            params = fixed | ({"page_token": token} if token else {})
            return await self._trading.read("/v2/account/activities", translate.rows, params, priority=priority)

        return walk_activities(fetch, page_token=page_token)

    async def place_order(self, request: Mapping[str, Any], *, may_send: MaySend | None = None) -> Order:
        """Send an order once and return it. Give a client_order_id: it is the way back after OutcomeUnknown.

        may_send: asked at the last moment; it raises NotSent to keep the request back. Raises BrokerRefused (no
        order), NotSent (no order), or OutcomeUnknown.
        """
        return await self._trading.change("POST", "/v2/orders", translate.order, dict(request), may_send=may_send)

    async def replace_order(self, order_id: str, *, may_send: MaySend | None = None, **changes: Any) -> Order:
        """Send a replacement once and return the new order; its answer is no proof that it took effect.

        may_send: asked at the last moment; it raises NotSent to keep the request back. Raises BrokerRefused (the
        old order stands), NotSent, or OutcomeUnknown.
        """
        return await self._trading.change("PATCH", _order_path(order_id), translate.order, changes, may_send=may_send)

    async def cancel_order(self, order_id: str, *, may_send: MaySend | None = None) -> None:
        """Ask once for a cancel; the broker takes the request, a fill may still win.

        may_send: asked at the last moment; it raises NotSent to keep the request back. Raises BrokerRefused, NotSent,
        or OutcomeUnknown.
        """
        await self._trading.change("DELETE", _order_path(order_id), _nothing, may_send=may_send)

    def _walk(
        self,
        after: datetime | None,
        until: datetime | None,
        *,
        status: str = "all",
        nested: bool,
        page_limit: int = ORDERS_LIMIT,
        margin_s: float = 1.0,
        priority: Priority,
    ) -> AsyncIterator[OrdersPage]:
        if margin_s <= 0:
            raise ValueError(f"margin_s must be above 0, not {margin_s}: bounds are exclusive")

        async def fetch(since: datetime | None, after_order_id: str | None) -> list[bytes]:
            return await self.orders_page(
                status=status,
                after=since,
                until=until,
                after_order_id=after_order_id,
                nested=nested,
                page_limit=page_limit,
                priority=priority,
            )

        # Nobody says whether the limit counts legs: a nested page may be full with a fifth of the rows.
        full_at = max(page_limit // (1 + MAX_LEGS), 1) if nested else page_limit
        margin = timedelta(seconds=margin_s)
        return walk_orders(fetch, after=after, until=until, full_at=full_at, margin=margin)


def _each(read: Callable[[bytes], T]) -> Callable[[bytes], tuple[T, ...]]:
    return lambda body: tuple(read(row) for row in translate.rows(body))


def _nothing(_: bytes) -> None:
    """Read an answer that has no body worth reading."""


def _order_path(order_id: str) -> str:
    return f"/v2/orders/{quote(order_id, safe='')}"


def _bounds(after: datetime | None, until: datetime | None) -> dict[str, str]:
    return given(after=stamp(after), until=stamp(until))
