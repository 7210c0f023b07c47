"""Prices from elsewhere than the stream: what is asked of whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import httpx
import pytest
from pydantic import SecretStr

from coldharbour.broker import Broker
from coldharbour.clock import VirtualClock
from coldharbour.db import open_database
from coldharbour.feed.prices import Prices
from coldharbour.feed.substitutes import Substitutes

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 10, 8, 16, tzinfo=UTC)


async def test_an_account_without_a_subscription_has_prices_of_the_free_feed_at_once(database_url: str) -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("feed"))
        if asked[-1] != "iex":
            return httpx.Response(403, json={"code": 42210000, "message": "subscription does not permit recent SIP"})
        return httpx.Response(200, json={"trades": {"KO": {"t": "2026-10-08T15:59:50Z", "p": 62.5, "s": 1}}})

    clock = VirtualClock(NOON)
    prices = Prices(clock)
    broker = Broker(
        base_url="http://broker", data_url="http://broker", key_id="key", secret=SecretStr("secret"), clock=clock,
        random=Random(1), slug="paper", transport=httpx.MockTransport(answer),
    )  # fmt: skip

    async with open_database(database_url, name="test") as db, broker:
        await Substitutes(prices, db, broker).seed(["KO"], NOON, timedelta(minutes=2))

    assert asked == [None, "iex"]
    last = prices.last("KO")
    assert last is not None
    assert (last.price, last.at) == (Decimal("62.5"), NOON - timedelta(seconds=10))
