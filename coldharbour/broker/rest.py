"""Alpaca's REST calls as methods: which path, which parameters, which value; never a rule about trading.

Reads are retried and spend from a budget shared by the account; changes are sent once. How a request ends is
`exchange`'s business, how a list is walked is `pages`'.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from random import Random
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from coldharbour.broker import translate
from coldharbour.broker.address import is_loopback, user_agent
from coldharbour.broker.budget import Priority, RateBudget
from coldharbour.broker.exchange import CONNECT_S, TOTAL_S, Exchange, MaySend
from coldharbour.broker.model import (
    Account,
    Bar,
    CalendarDay,
    CorporateAction,
    EquityPoint,
    LatestTrade,
    MarketClock,
    Order,
    Position,
)
from coldharbour.broker.pages import ActivitiesPage, OrdersPage, StuckWalk, walk_activities, walk_orders
from coldharbour.broker.refusals import UnreadableAnswer
from coldharbour.clock import Clock

T = TypeVar("T")

ORDERS_LIMIT: Final = 500
ACTIVITIES_LIMIT: Final = 100
BARS_LIMIT: Final = 10_000
SYMBOLS_LIMIT: Final = 500
ACTION_SYMBOLS_LIMIT: Final = 100
ACTIONS_LIMIT: Final = 1000
ACTION_TYPES: Final = (
    "reverse_split", "forward_split", "unit_split", "stock_dividend", "spin_off", "cash_merger", "stock_merger",
    "stock_and_cash_merger", "redemption", "name_change", "worthless_removal", "rights_distribution",
)  # fmt: skip
MAX_LEGS: Final = 4
JSON: Final = "application/json"


class AlpacaRest:
    """One account's REST calls, to be used as `async with`; the keys never appear in its repr or in a log.

    base_url, data_url: hosts of the trading and the market data API, checked by the settings. slug names the
    account in logs and in the hint about refused keys. total_s: limit of one request, with its connection.
    Every read raises BrokerUnavailable (Transient) after its last try, and BrokerRefused for a definite no.
    """

    def __init__(
        self,
        *,
        base_url: str,
        data_url: str,
        key_id: str,
        secret: SecretStr,
        clock: Clock,
        random: Random,
        slug: str,
        requests_per_min: int = 200,
        total_s: float = TOTAL_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url, self.data_url, self.slug = base_url, data_url, slug
        self._key_id, self._secret, self._clock = key_id, secret, clock
        self._open = AsyncExitStack()
        self._clients = [_client(url, _Keys(key_id, secret), total_s, transport) for url in (base_url, data_url)]
        self._trading, self._market = (
            Exchange(
                client,
                RateBudget(clock, requests_per_min=requests_per_min),
                clock=clock,
                random=random,
                slug=slug,
                total_s=total_s,
            )
            for client in self._clients
        )

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await self._open.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.slug} at {self.base_url}>"

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
        path, params = _order_path(order_id), {"nested": _flag(nested)}
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
        params = {"status": status, "direction": "asc", "limit": str(page_limit), "nested": _flag(nested)}
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

    async def latest_trades(
        self, symbols: Sequence[str], *, feed: str | None = None, priority: Priority = Priority.HEAL
    ) -> dict[str, LatestTrade]:
        """Return the latest trade by symbol; unknown symbols are missing from the result."""
        found: dict[str, LatestTrade] = {}
        for start in range(0, len(symbols), SYMBOLS_LIMIT):
            params = {"symbols": ",".join(symbols[start : start + SYMBOLS_LIMIT]), **_given(feed=feed)}
            found |= await self._market.read(
                "/v2/stocks/trades/latest", translate.latest_trades, params, priority=priority
            )
        return found

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        start: datetime,
        end: datetime | None = None,
        *,
        adjustment: str = "raw",
        feed: str | None = None,
        priority: Priority = Priority.BULK,
    ) -> dict[str, tuple[Bar, ...]]:
        """Return the bars by symbol, oldest first, bounds included, merged over all pages.

        timeframe: such as 1Min or 1Day. Raises StuckWalk (Transient) on a page token that repeats.
        """
        fixed = {
            "symbols": ",".join(symbols),
            "timeframe": timeframe,
            "adjustment": adjustment,
            "limit": str(BARS_LIMIT),
            **_given(start=_stamp(start), end=_stamp(end), feed=feed),
        }
        merged: dict[str, list[Bar]] = {}
        async for page in self._market_pages("/v2/stocks/bars", translate.bars_page, fixed, priority):
            for symbol, bars in page.items():
                merged.setdefault(symbol, []).extend(bars)
        return {symbol: tuple(bars) for symbol, bars in merged.items()}

    async def corporate_actions(
        self, symbols: Sequence[str], start: date, end: date, *, priority: Priority = Priority.BULK
    ) -> tuple[CorporateAction, ...]:
        """Return what is announced for symbols, cash dividends apart, and booked from start to end, both included.

        The broker promises neither that it knows of every action nor when. Raises StuckWalk (Transient) on a page token
        that repeats.
        """
        found: list[CorporateAction] = []
        for first in range(0, len(symbols), ACTION_SYMBOLS_LIMIT):
            fixed = {
                "symbols": ",".join(symbols[first : first + ACTION_SYMBOLS_LIMIT]),
                "types": ",".join(ACTION_TYPES),
                "start": start.isoformat(),
                "end": end.isoformat(),
                "limit": str(ACTIONS_LIMIT),
            }
            path = "/v1/corporate-actions"
            async for page in self._market_pages(path, translate.corporate_actions_page, fixed, priority):
                found.extend(page)
        return tuple(found)

    async def _market_pages(
        self, path: str, read: Callable[[bytes], tuple[T, str | None]], fixed: Mapping[str, str], priority: Priority
    ) -> AsyncIterator[T]:
        token: str | None = None
        used: set[str] = set()
        while True:
            page, token = await self._market.read(path, read, {**fixed, **_given(page_token=token)}, priority=priority)
            yield page
            if token is None:
                return
            if token in used:
                raise StuckWalk(path.rpartition("/")[2], token)
            used.add(token)

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


class _Keys(httpx.Auth):
    """Adds the keys at the last moment, so that no client, request argument or repr holds them."""

    def __init__(self, key_id: str, secret: SecretStr) -> None:
        self._key_id, self._secret = key_id, secret

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["APCA-API-KEY-ID"] = self._key_id
        request.headers["APCA-API-SECRET-KEY"] = self._secret.get_secret_value()
        yield request


def _client(url: str, keys: _Keys, total_s: float, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url,
        auth=keys,
        headers={"User-Agent": user_agent(), "Accept": JSON, "Content-Type": JSON},
        timeout=httpx.Timeout(total_s, connect=min(CONNECT_S, total_s)),
        limits=httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30),
        follow_redirects=False,
        trust_env=not is_loopback(url),
        transport=transport,
    )


def _each(read: Callable[[bytes], T]) -> Callable[[bytes], tuple[T, ...]]:
    return lambda body: tuple(read(row) for row in translate.rows(body))


def _nothing(_: bytes) -> None:
    """Read an answer that has no body worth reading."""


def _order_path(order_id: str) -> str:
    return f"/v2/orders/{quote(order_id, safe='')}"


def _bounds(after: datetime | None, until: datetime | None) -> dict[str, str]:
    return _given(after=_stamp(after), until=_stamp(until))


def _given(**params: str | None) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _flag(value: bool) -> str:
    return "true" if value else "false"
