"""One account's connections to Alpaca's REST hosts: keys, clients, budgets; which calls there are, the APIs say."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Final, Self

import httpx
from pydantic import SecretStr

from coldharbour.broker.address import is_loopback, user_agent
from coldharbour.broker.budget import RateBudget
from coldharbour.broker.exchange import CONNECT_S, TOTAL_S, Exchange
from coldharbour.broker.market_data import MarketDataApi
from coldharbour.broker.trading import TradingApi
from coldharbour.clock import Clock

JSON: Final = "application/json"


class AlpacaRest(TradingApi, MarketDataApi):
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
