"""How much an open page grows in a browser over twelve hours of a busy account, told at many times their speed.

The web worker runs in this process by a clock that is as much faster, so that its rhythm is that of twelve hours. Per
second of its day, two batches of prices come, with a change for 10 of 300 open lots in each; every 20 seconds an order
is filled, every minute a lot is closed and another one opened, a minute of equity comes, and key figures every 5
seconds. What a headless Chromium holds after a collection of its garbage is compared after a first half hour, when
every table is as long as it gets, and at the end.

    python benchmarks/page_memory.py --hours 12 --speed 60
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import anyio
import structlog
from page import CONFIG, LOTS, SLUG, Prices, free_port
from playwright.async_api import CDPSession, Page, async_playwright
from pydantic import BaseModel

from coldharbour import loader, settings
from coldharbour.accounts import SystemContext
from coldharbour.databases import bring_up_to_date
from coldharbour.db import Database, notify, open_database
from coldharbour.embedded import embedded_server
from coldharbour.metrics.kpis import FORMULAS
from coldharbour.web.app import serve_web

GOAL_MB = 20.0
HELD, PRICED = 300, 250  # lots; those without prices come and go
BATCHES_PER_S, LOTS_PER_BATCH = 2, 10
MINUTES_OF_WARMTH = 30
DAY = """
    insert into accounts.equity_full (destination, session_date, cash, market_value, deposit, net_flows, daily_return,
        cumulative_return, drawdown, complete, provisional)
    select %s, current_date - n, 0, 0, 100000 - n, 0, 0, 0.5 - n / 1000.0, -0.01, true, false
    from generate_series(1, 300) as n
"""
CLOSED = """
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    select %s, 'old' || n, 'exit', 'OLD', 'Long', 100, now(), 50, now(), 56, 'TP', 600, 500, 100, 12, 60
    from generate_series(1, 1000) as n
"""
MINUTE = """
    insert into accounts.equity_intraday (destination, session_date, at, equity, profit, flows, cumulative_return,
        complete, source) values (%s, %s, %s, %s, %s, 0, 0.01, true, 'live')
"""
FIGURES = """
    insert into accounts.account_metrics (destination, document, updated_at) values (%s, %s, now())
    on conflict (destination, id) do update set document = excluded.document, updated_at = now()
"""
ORDER = """
    insert into account_activities.raw_orders (destination, id, client_order_id, status, symbol, side, order_type, qty,
        filled_qty, updated_at, submitted_at, raw_json, source)
    values (%(slug)s, %(id)s::uuid, %(id)s::text, 'filled', 'S1', 'buy', 'limit', 1, 1, now(), now(), '{}', 'stream')
"""
EVENT = """
    insert into account_activities.raw_events (destination, received_at, connection, event, order_id, frame)
    values (%(slug)s, now(), %(id)s::uuid, 'fill', %(id)s::uuid, '')
"""
CLOSING = """
    with gone as (
        delete from accounts.open_trades where destination = %(slug)s and parent_id = %(old)s returning *
    )
    insert into accounts.closed_trades (destination, entry_lot_id, exit_order_id, symbol, side, qty, entry_time,
        entry_price, exit_time, exit_price, exit_type, pnl_cash, pnl_cash_fifo, diff_pnl, return_pct, duration_sec)
    select destination, parent_id, 'exit', symbol, side, qty, entry_time, 50, now(), 56, 'TP', 600, 500, 100, 12, 60
    from gone
"""
OPENING = """
    insert into accounts.open_trades (destination, parent_id, symbol, side, qty, entry_qty, avg_fill, avg_px_symbol,
        buy_value, entry_time, last_fill_time, initial_stop, sl_px, stop_order_id, tp_px)
    values (%(slug)s, %(new)s, 'NEW', 'Long', 100, 100, 50, 50, 5000, now(), now(), 48, 48, 'stop', 56)
"""
COUNT_BATCHES = 'window.batches = 0; document.addEventListener("px", () => { window.batches += 1; });'


class NoSettings(BaseModel):
    """The web worker's own table is empty."""


def ignore(*_: object) -> None:
    """Nobody else listens to the web worker here."""


class FastClock:
    """The machine's clock, so many times faster."""

    def __init__(self, speed: float) -> None:
        self._speed, self._began, self._began_s = speed, datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return (time.monotonic() - self._began_s) * self._speed

    async def sleep(self, delay_s: float) -> None:
        await anyio.sleep(max(delay_s, 0) / self._speed)


@dataclass
class Day:
    """What happens to the account: told as its workers tell it, minute by minute of the fast clock."""

    db: Database
    clock: FastClock
    speed: float
    prices: Prices
    minute: int = 0
    newest: list[str] = field(default_factory=lambda: [f"lot{number}" for number in range(PRICED, HELD)])

    async def live(self, minutes: int) -> None:
        """Let so many minutes pass."""
        for _ in range(minutes):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._prices)
                tasks.start_soon(self._fills)
                tasks.start_soon(self._figures)
            await self._close_one()
            await self._value()
            self.minute += 1

    async def _prices(self) -> None:
        rate = BATCHES_PER_S * LOTS_PER_BATCH * self.speed
        await self.prices.tell(rate, 60 / self.speed, batch_s=1 / BATCHES_PER_S / self.speed)
        self.prices.sent.clear()

    async def _fills(self) -> None:
        for _ in range(3):
            await self.clock.sleep(18)
            async with self.db.transaction() as conn:
                facts = {"slug": SLUG, "id": str(uuid.uuid4())}
                await conn.execute(ORDER, facts)
                await conn.execute(EVENT, facts)
                await conn.execute(b"update accounts.open_trades set sl_px = sl_px + 0.01 where symbol = 'NEW'")
            await notify(self.db, f"raw_channel_{SLUG}", "{}")
            await notify(self.db, f"pos_channel_{SLUG}", '{"op":"lot"}')

    async def _figures(self) -> None:
        for number in range(11):
            await self.clock.sleep(5)
            document = {key: float(self.minute + number) for key in FORMULAS} | {"updated_at": None}
            async with self.db.transaction() as conn:
                await conn.execute(FIGURES, [SLUG, json.dumps(document)])
            await notify(self.db, f"metrics_channel_{SLUG}", "{}")

    async def _close_one(self) -> None:
        old, new = self.newest.pop(0), f"new{self.minute}"
        self.newest.append(new)
        async with self.db.transaction() as conn:
            await conn.execute(CLOSING, {"slug": SLUG, "old": old})
            await conn.execute(OPENING, {"slug": SLUG, "new": new})
        await notify(self.db, f"pos_channel_{SLUG}", f'{{"op":"lot","parent_id":"{new}"}}')
        await notify(self.db, f"closed_channel_{SLUG}", "{}")

    async def _value(self) -> None:
        at = self.clock.now().replace(second=0, microsecond=0)
        async with self.db.transaction() as conn:
            await conn.execute(MINUTE, [SLUG, at.date(), at, 100_000 + self.minute, self.minute])
        await notify(self.db, f"equity_channel_{SLUG}", "{}")


@dataclass(frozen=True)
class Held:
    """What a page holds after its garbage was collected."""

    heap_mb: float
    nodes: int
    listeners: int
    batches: int

    def __str__(self) -> str:
        return f"{self.heap_mb:.2f} MB of JavaScript, {self.nodes} nodes, {self.listeners} listeners"


async def held(page: Page, devtools: CDPSession) -> Held:
    """Collect a page's garbage, and return what is left."""
    await devtools.send("HeapProfiler.enable")
    for _ in range(3):  # what the first one releases is found by the next
        await devtools.send("HeapProfiler.collectGarbage")
    answer = await devtools.send("Performance.getMetrics")
    figures = {metric["name"]: metric["value"] for metric in answer["metrics"]}
    return Held(
        figures["JSHeapUsedSize"] / 1e6,
        int(figures["Nodes"]),
        int(figures["JSEventListeners"]),
        await page.evaluate("window.batches"),
    )


@asynccontextmanager
async def served(speed: float) -> AsyncIterator[tuple[Day, str]]:
    """Serve the pages by a fast clock; yields what may happen to the account, and its page's address."""
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - before anything runs; the database's own user must get in
        async with embedded_server(Path(folder) / "postgres") as conninfo:
            port, clock, config = free_port(), FastClock(speed), Path(folder, "bench.toml")
            config.write_text(CONFIG.format(conninfo=conninfo, port=port))  # noqa: ASYNC240 - as above
            configuration = settings.load(config, {})
            registry = loader.load_plugins(configuration)
            await bring_up_to_date(conninfo, configuration, registry)
            async with open_database(conninfo, name="bench") as db, open_database(conninfo, name="web") as pages_db:
                async with db.transaction() as conn:
                    await conn.execute(LOTS, [SLUG, HELD])
                    await conn.execute(DAY, [SLUG])
                    await conn.execute(CLOSED, [SLUG])
                web = SystemContext(
                    db=pages_db, clock=clock, random=Random(1), log=structlog.get_logger(), emit=ignore, alive=ignore,
                    wake=ignore, lag=ignore, configuration=configuration, registry=registry,
                )  # fmt: skip
                async with anyio.create_task_group() as tasks:
                    await tasks.start(serve_web, web, NoSettings())
                    yield Day(db, clock, speed, Prices(db, PRICED)), f"http://127.0.0.1:{port}/{SLUG}/"
                    tasks.cancel_scope.cancel()


async def main() -> int:
    """Let the hours pass and print what the page holds before and after; exit 1 above the goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--hours", type=int, default=12, help="hours between the two looks")
    arguments.add_argument("--speed", type=float, default=60, help="how much faster than real time they pass")
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    async with served(given.speed) as (day, url), async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.add_init_script(COUNT_BATCHES)
        await page.goto(url)
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Performance.enable")
        await day.live(MINUTES_OF_WARMTH)
        before = await held(page, devtools)
        print(f"after the first half hour: {before}", flush=True)
        for hour in range(given.hours):
            await day.live(60)
            after = await held(page, devtools)
            print(f"{hour + 1:>2} h later: {after}, {after.batches - before.batches} batches of prices", flush=True)
        await browser.close()
    grown_mb = after.heap_mb - before.heap_mb
    print(f"grown by {grown_mb:.2f} MB in {given.hours} hours; goal {GOAL_MB:g} MB")
    return 0 if grown_mb <= GOAL_MB else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main))
