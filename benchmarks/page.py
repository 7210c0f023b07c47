"""How long a told price takes to the changed pixel in a real browser, and how long the server takes for a page.

The web process serves an account with many open lots from an embedded PostgreSQL; this process tells prices as the
prices worker does, and a headless Chromium notes when the frame with each change was done. A page that polls every
250 ms is the peer: on average half of that goes by before it even asks.

    python benchmarks/page.py --lots 1000 --rate 200 --seconds 20
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

import anyio
import anyio.to_thread
import httpx
from playwright.async_api import Page, async_playwright

from coldharbour.db import Database, notify, open_database
from coldharbour.embedded import embedded_server
from coldharbour.schema import upgrade

PIXEL_GOAL_MS, SERVER_GOAL_MS, POLLING_MS = 100, 50, 250
SLUG = "paper"
BATCH_S = 0.05
CONFIG = """
[database]
url = "{conninfo}"
[log]
level = "warning"
[web]
port = {port}
max_streams = 1000
[simulator]
[destinations.paper]
simulated = true
"""
LOTS = """
    insert into accounts.open_trades (destination, parent_id, symbol, side, qty, entry_qty, avg_fill, avg_px_symbol,
        buy_value, entry_time, last_fill_time, initial_stop, sl_px, stop_order_id, tp_px, mkt_px, mkt_at, mkt_value,
        profit_loss, profit_loss_lot, tp_sl_reach_pct, r_multiple, high_px, low_px)
    select %s, 'lot' || n, 'S' || n, 'Long', 100, 100, 50, 50, 5000, now(), now(), 48, 48, 'stop', 56, 51, now(), 5100,
        100, 100, 16.6667, 0.5, 52, 49
    from generate_series(0, %s - 1) as n
"""
# Two frames after the cells were written the first of them is on the screen.
NOTE_PIXELS = """() => {
    window.seen = [];
    document.addEventListener("px", (event) => {
        const rows = JSON.parse(event.detail.data);
        requestAnimationFrame(() => requestAnimationFrame(() => {
            const at = performance.timeOrigin + performance.now();
            for (const [id, cells] of Object.entries(rows)) {
                const shown = document.querySelector(`#${id} [data-cell="market"]`)?.textContent;
                if (cells.market && shown === cells.market[0]) window.seen.push([id, shown, at]);
            }
        }));
    });
}"""


@asynccontextmanager
async def served(lots: int) -> AsyncIterator[tuple[Database, str]]:
    """Serve the pages of an account with these lots in a process of their own; yields its database and address."""
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - before anything runs; the database's own user must get in
        async with embedded_server(Path(folder) / "postgres") as conninfo:
            await anyio.to_thread.run_sync(upgrade, conninfo, (), [SLUG])
            async with open_database(conninfo, name="bench") as db:
                async with db.transaction() as conn:
                    await conn.execute(LOTS, [SLUG, lots])
                port = free_port()
                config = Path(folder, "bench.toml")
                config.write_text(CONFIG.format(conninfo=conninfo, port=port))  # noqa: ASYNC240 - as above
                web = subprocess.Popen(  # noqa: ASYNC220, S603
                    [sys.executable, "-m", "coldharbour", "web", "--config", str(config)]
                )
                try:
                    url = f"http://127.0.0.1:{port}/{SLUG}/"
                    await _until_shown(url)
                    yield db, url
                finally:
                    web.terminate()
                    web.wait(timeout=10)


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


async def _until_shown(url: str) -> None:
    async with httpx.AsyncClient(timeout=10) as http:
        with anyio.fail_after(60):
            while True:
                try:
                    if f"open-{SLUG}-lot0" in (await http.get(url)).text:
                        return
                except httpx.TransportError:
                    pass
                await anyio.sleep(0.2)


class Prices:
    """Tells prices of lots at an even rate, in the batches of the prices worker; `sent` is when each was told."""

    def __init__(self, db: Database, lots: int) -> None:
        self.db, self.lots = db, lots
        self.sent: dict[tuple[str, str], float] = {}
        self._number = 0

    async def tell(self, rate: float, seconds: float, batch_s: float = BATCH_S) -> None:
        """Tell so many changes a second for so long."""
        first, began = self._number, time.monotonic()
        while time.monotonic() - began < seconds:
            due = first + int((time.monotonic() - began) * rate)
            notes = [self._note(number) for number in range(self._number, due)]
            self._number = due
            at = time.time() * 1000
            self.sent |= {key: at for key, _ in notes}
            await notify(self.db, f"pos_channel_{SLUG}", *(note for _, note in notes))
            await anyio.sleep(batch_s)

    def _note(self, number: int) -> tuple[tuple[str, str], str]:
        lot, price = f"lot{number * 37 % self.lots}", f"{50 + number % 90_000 / 100:.2f}"
        row = {
            "parent_id": lot, "version": 1, "side": "Long", "avg_fill": "50", "initial_stop": "48", "mkt_px": price,
            "mkt_at": datetime.now(UTC).isoformat(), "mkt_value": price, "profit_loss": str(number % 500 - 250),
            "profit_loss_lot": str(number % 500 - 250), "tp_sl_reach_pct": str(number % 200 - 100),
            "r_multiple": "0.5", "high_px": price, "low_px": "49",
        }  # fmt: skip
        return (f"open-{SLUG}-{lot}", price), json.dumps({"row": row})


async def pixels(page: Page, url: str, prices: Prices, rate: float, seconds: float) -> list[float]:
    """Return the milliseconds from each told price to the frame that shows it."""
    await page.goto(url)
    await page.locator("#connection").get_by_text("live").wait_for()
    await prices.tell(rate, 2)  # warm
    await page.evaluate(NOTE_PIXELS)
    prices.sent.clear()
    await prices.tell(rate, seconds)
    await anyio.sleep(1)
    seen: list[tuple[str, str, float]] = await page.evaluate("window.seen")
    return [at - prices.sent[row, text] for row, text, at in seen if (row, text) in prices.sent]


async def server_times(url: str, prices: Prices, rate: float) -> list[float]:
    """Return the milliseconds of 50 requests for the page while prices go on."""
    times = []
    async with anyio.create_task_group() as tasks, httpx.AsyncClient(timeout=30) as http:
        tasks.start_soon(prices.tell, rate, 30)
        for _ in range(50):
            await anyio.sleep(0.05)
            began = time.perf_counter()
            (await http.get(url)).raise_for_status()
            times.append((time.perf_counter() - began) * 1000)
        tasks.cancel_scope.cancel()
    return times


async def main() -> int:
    """Measure both and print the figures; exit 1 above a goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lots", type=int, default=1000, help="open lots on the page")
    arguments.add_argument("--rate", type=float, default=200, help="told prices a second")
    arguments.add_argument("--seconds", type=float, default=20, help="how long they are told")
    given = arguments.parse_args()
    async with served(given.lots) as (db, url), async_playwright() as playwright:
        prices = Prices(db, given.lots)
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        times = await pixels(page, url, prices, given.rate, given.seconds)
        told = len(prices.sent)
        await browser.close()
        server = await server_times(url, prices, given.rate)
    p99 = quantiles(times, n=100)[98]
    print(f"price to pixel: p50 {median(times):.0f} ms, p99 {p99:.0f} ms of {len(times)} changes seen out of "
          f"{told} told, {given.lots} lots, {given.rate:g} changes/s; polling every {POLLING_MS} ms waits "
          f"{POLLING_MS / 2:.0f} ms on average, {POLLING_MS / 2 / median(times):.1f} times as long; goal p99 "
          f"{PIXEL_GOAL_MS} ms")  # fmt: skip
    server_p99 = quantiles(server, n=100)[98]
    print(
        f"page of {given.lots} lots: p50 {median(server):.0f} ms, p99 {server_p99:.0f} ms, goal p50 {SERVER_GOAL_MS} ms"
    )
    return 0 if p99 <= PIXEL_GOAL_MS and median(server) <= SERVER_GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main))
