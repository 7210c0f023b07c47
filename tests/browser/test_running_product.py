"""The product as people run it, and a browser: what happens at the broker reaches the open page, whatever is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fakes.installation import Installation, Running, eventually
from playwright.async_api import Locator, Page, expect

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SLUG = "paper"
KEYS = {"APCA-API-KEY-ID": f"SIM-{SLUG}", "APCA-API-SECRET-KEY": "simulator"}
PATIENT_MS = 60_000


@dataclass
class Broker:
    """The simulated broker as its customer and its operator see it, with one symbol that nobody trades."""

    http: httpx.AsyncClient
    symbol: str = ""
    price: Decimal = Decimal(0)

    async def calm(self) -> None:
        """Let nobody else trade, and choose a symbol of which nothing is held or ordered."""
        await self._send("PUT", "/sim/trader", {"on": False})
        prices = await self._send("GET", "/sim/prices")
        busy = await self._send("GET", "/v2/positions") + await self._send("GET", "/v2/orders")
        self.symbol = min(prices.keys() - {row["symbol"] for row in busy})
        self.price = round(Decimal(prices[self.symbol]), 1)

    async def trade_at(self, share: str) -> str:
        """Have the symbol trade at this share of its first price from now on; return that price."""
        price = self._at(share)
        await self._send("PUT", "/sim/prices", {self.symbol: price})
        return price

    async def buy(self, *, stop: str, target: str) -> str:
        """Buy ten shares with a stop and a target; return the id of the stop's order."""
        exits = {"stop_loss": {"stop_price": self._at(stop)}, "take_profit": {"limit_price": self._at(target)}}
        order = {"symbol": self.symbol, "side": "buy", "qty": "10", "type": "market", "time_in_force": "gtc"}
        placed = await self._send("POST", "/v2/orders", order | exits | {"order_class": "bracket"})
        return next(str(leg["id"]) for leg in placed["legs"] if leg["type"] == "stop")

    async def move_stop(self, stop_order: str, share: str) -> str:
        """Move a stop; return its new price."""
        price = self._at(share)
        await self._send("PATCH", f"/v2/orders/{stop_order}", {"stop_price": price})
        return price

    def _at(self, share: str) -> str:
        return f"{self.price * Decimal(share):.2f}"

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return (await self.http.request(method, path, json=body)).raise_for_status().json()


@pytest.fixture
def demo(open_folder: Path) -> Installation:
    """The demo with its embedded server, in a folder of its own."""
    return Installation(open_folder)


@pytest.fixture
async def broker(demo: Installation) -> AsyncIterator[Broker]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{demo.broker_port}", headers=KEYS, timeout=60) as http:
        yield Broker(http)


async def ready(demo: Installation, running: Running) -> None:
    """Return once every worker is well."""
    await anyio.to_thread.run_sync(eventually, demo.is_ready, PATIENT_MS / 1000, running.said)


def kill_database(demo: Installation) -> None:
    postmaster = (demo.folder / "postgres/server/data/postmaster.pid").read_text().split()[0]
    os.kill(int(postmaster), signal.SIGKILL)


async def shows(cell: Locator, text: str) -> None:
    await expect(cell).to_have_text(text, timeout=PATIENT_MS)


async def test_fill_price_stop_and_close_reach_the_open_page_though_web_and_database_are_killed(
    page: Page, demo: Installation, broker: Broker
) -> None:
    with demo.started("run") as running:
        await ready(demo, running)
        await broker.calm()
        await broker.trade_at("1")
        await page.goto(f"http://127.0.0.1:{demo.web_port}/{SLUG}/")
        await page.evaluate("window.isTheSamePage = true")
        row = page.locator(f"#sheet-open-{SLUG} tbody tr", has_text=broker.symbol)

        stop_order = await broker.buy(stop="0.97", target="1.02")
        await shows(row.locator("[data-cell=qty]"), "10")
        await shows(row.locator("[data-cell=market]"), await broker.trade_at("1.01"))

        os.kill(demo.service("web"), signal.SIGKILL)
        await shows(row.locator("[data-cell=stop]"), await broker.move_stop(stop_order, "0.98"))

        kill_database(demo)
        await broker.trade_at("1.03")
        closed = page.locator(f"#sheet-closed-{SLUG} tbody tr", has_text=broker.symbol).first
        await shows(closed.locator("[data-cell=by]"), "TP")
        await expect(row).to_have_count(0, timeout=PATIENT_MS)
        assert await page.evaluate("window.isTheSamePage")
