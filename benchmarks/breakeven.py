"""How long a cycle of break-even takes over 1,000 brackets, how soon a touch asks the broker, how fast 50 stops move.

A simulated broker holds the brackets; history is in the lake and the lots are in the open trades, as the product's own
workers put them there. A cycle reads the lots, decides about each and records why. Then symbols are touched one after
the other: from the tick to the moment at which the broker has the first request. Last, 50 stops move at once; the floor
is the same number of bare requests to the same broker. Real accounts have 200 requests a minute.

    python benchmarks/breakeven.py --brackets 1000 --moves 50
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as wall_time
from decimal import Decimal
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import structlog
from coldharbour_plugins.breakeven import BreakevenSettings, stop_keeper
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.server import running_simulator
from psycopg.rows import dict_row

from coldharbour import schema
from coldharbour.accounts import AccountContext
from coldharbour.broker import Broker
from coldharbour.clock import SystemClock
from coldharbour.db import Database, open_database
from coldharbour.embedded import embedded_server
from coldharbour.feed.prices import Prices
from coldharbour.lake.pull import Puller
from coldharbour.lake.writer import Lake
from coldharbour.leases import LeaseKeeper
from coldharbour.live.rebuild import rebuild_live
from coldharbour.risk.keeper import StopKeeper
from coldharbour.sections import SimulatorSettings
from coldharbour.sessions import Phase, session_of
from coldharbour.settings import load
from coldharbour.store import save_sessions

SLUG, MARKET = "paper", "us_equity"
CYCLE_GOAL_S, TOUCH_GOAL_MS = 1.0, 100.0
CYCLES, TOUCHES = 5, 20
ENTRY, STOP, TARGET, TOUCH = Decimal(100), Decimal(98), Decimal(112), Decimal(105)
CONFIGURATION = """
[destinations.paper]
base_url = "{url}"
data_url = "{url}"
allow_custom_broker = true
armed = true
requests_per_min = 1000000
"""


@dataclass
class Desk:
    """The account, its lots and the hand that moves prices."""

    db: Database
    broker: SimulatedBroker
    client: Broker
    keeper: StopKeeper
    prices: Prices
    entered: dict[str, list[str]]  # stops by symbol

    def tick(self, price: Decimal, *symbols: str, times: int = 1) -> datetime:
        """Print a price of some symbols, and have the broker agree; return when."""
        now = datetime.now(UTC)
        for symbol in symbols:
            self.broker.market.pin(symbol, price)
        self.broker.step()
        for number in range(times):
            stamp = (now + timedelta(microseconds=number)).isoformat()
            self.prices.take_in([_message(symbol, price, stamp) for symbol in symbols])
        return now

    async def moved(self, count: int) -> list[dict[str, Any]]:
        """Return the intents that moved their stop, once there are so many."""
        while True:
            async with self.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
                await cursor.execute("select * from accounts.stop_intents where state = 'MOVED' order by planned_at")
                found = await cursor.fetchall()
            if len(found) >= count:
                return found
            await anyio.sleep(0.01)


def _message(symbol: str, price: Decimal, stamp: str) -> bytes:
    trade = {"symbol": symbol, "price": float(price), "size": 100, "conditions": ["@"], "timestamp": stamp}
    return msgspec.msgpack.encode({"trade": trade})


def enter(broker: SimulatedBroker, brackets: int, moves: int) -> dict[str, list[str]]:
    """Enter brackets at 100 in all symbols, `moves` of them in the first one; return their stops by symbol."""
    symbols = broker.market.symbols
    for symbol in symbols:
        broker.market.pin(symbol, ENTRY)
    broker.step()
    chosen = [symbols[0]] * moves + [symbols[1 + n % (len(symbols) - 1)] for n in range(brackets - moves)]
    request = {
        "qty": 1, "side": "buy", "type": "market", "time_in_force": "gtc", "order_class": "bracket",
        "take_profit": {"limit_price": str(TARGET)}, "stop_loss": {"stop_price": str(STOP)},
    }  # fmt: skip
    account = broker.accounts[SLUG]
    parents = {symbol: list[str]() for symbol in symbols}
    for symbol in chosen:
        parents[symbol].append(str(account.place({**request, "symbol": symbol})["id"]))
    while any(account.order(ids[0])["status"] != "filled" for ids in parents.values() if ids):
        time.sleep(0.02)
        broker.step()
    book = account.blotter.book
    return {symbol: [book.by_id[parent].legs[1] for parent in ids] for symbol, ids in parents.items()}


@asynccontextmanager
async def opened(folder: Path, brackets: int, moves: int) -> AsyncIterator[Desk]:
    """Lend an account with open brackets, and the keeper of its stops."""
    clock, random = SystemClock(), Random(1)
    broker = SimulatedBroker(
        seed=3, accounts={SLUG: Decimal(10_000_000)}, clock=clock, history_days=2, always_open=True, trading=False
    )
    at = SimulatorSettings.model_validate({"port": 0, "price_endpoint": "tcp://127.0.0.1:*"})
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(running_simulator(broker, at))
        entered = enter(broker, brackets, moves)
        file = folder / "breakeven.toml"
        file.write_text(CONFIGURATION.format(url=address.url), encoding="utf-8")
        destination = load(
            file, {"ALPACA_API_KEY_PAPER": f"SIM-{SLUG}", "ALPACA_SECRET_KEY_PAPER": "simulator"}
        ).destination(SLUG)
        conninfo = await stack.enter_async_context(embedded_server(folder / "postgres"))
        await anyio.to_thread.run_sync(schema.upgrade, conninfo, (), [SLUG])
        db = await stack.enter_async_context(open_database(conninfo, name="benchmark", max_size=8))
        client = await stack.enter_async_context(
            Broker(base_url=address.url, data_url=address.url, key_id=f"SIM-{SLUG}", secret=destination.secret,
                   clock=clock, random=random, slug=SLUG, requests_per_min=1_000_000)
        )  # fmt: skip
        puller = Puller(Lake(SLUG, db, clock), client, lambda: None)
        since = datetime.now(UTC) - timedelta(days=10)
        await puller.orders(since, nested=True)
        await puller.activities(since)
        await rebuild_live(db, destination, clock, lambda share, detail: None)
        await prepare(db)
        prices = Prices(clock, max_silence_s=1e6)
        lease = await stack.enter_async_context(LeaseKeeper(db).hold(SLUG, "breakeven"))
        ctx = AccountContext(
            db=db, clock=clock, random=random, log=structlog.get_logger(), emit=lambda event: None,
            alive=lambda: None, wake=lambda kind: None, lag=lambda seconds: None, destination=destination,
            broker=client, prices=prices, market_db=db, lease=lease, phase=lambda: Phase.REGULAR,
        )  # fmt: skip
        for number in range(3):
            prices.take_in([_message(symbol, ENTRY, (datetime.now(UTC) + timedelta(microseconds=number)).isoformat())
                            for symbol in broker.market.symbols])  # fmt: skip
        settings = BreakevenSettings(interval_s=1e6)
        keeper = await stack.enter_async_context(stop_keeper(ctx, settings))
        yield Desk(db, broker, client, keeper, prices, entered)
        keeper._tasks.cancel_scope.cancel()


async def prepare(db: Database) -> None:
    """Have somebody keep the open trades, and the market be open."""
    today = datetime.now(UTC).date()
    sessions = [session_of(today + timedelta(days=n), wall_time(0, 0), wall_time(23, 59, 59)) for n in range(-3, 2)]
    async with db.transaction() as conn:
        await save_sessions(conn, MARKET, "benchmark", sessions, today)
        await conn.execute(
            "insert into accounts.worker_status (destination, kind, service, state, since, host, pid, updated_at)"
            " values (%s, 'snapshot', 'manage', 'ready', now(), '', 0, now() + interval '1 day')", [SLUG]
        )  # fmt: skip


async def measure(folder: Path, brackets: int, moves: int) -> bool:
    """Print our figures; return whether they reach their goals."""
    async with opened(folder, brackets, moves) as desk:
        cycle_s, lots = await cycles(desk), len(desk.keeper.lots)
        print(f"cycle over {lots} brackets, nothing to move: {cycle_s:.3f} s (goal {CYCLE_GOAL_S:g} s)")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.keeper.run)
            await anyio.sleep(1)
            touch_ms = await touches(desk)
            print(
                f"tick to request, {len(touch_ms)} touches: median {median(touch_ms):.0f} ms,"
                f" most {max(touch_ms):.0f} ms (goal {TOUCH_GOAL_MS:g} ms)"
            )
            await together(desk, moves)
            tasks.cancel_scope.cancel()
        wrong = desk.broker.accounts[SLUG].replaces.wrong
        print(f"replaces judged wrong by the broker: {len(wrong)}")
    return cycle_s <= CYCLE_GOAL_S and median(touch_ms) <= TOUCH_GOAL_MS and not wrong


async def cycles(desk: Desk) -> float:
    """Return the median seconds of a cycle."""
    taken = []
    for _ in range(CYCLES):
        began = time.perf_counter()
        await desk.keeper.cycle()
        taken.append(time.perf_counter() - began)
    return median(taken)


async def touches(desk: Desk) -> Sequence[float]:
    """Return the milliseconds from a tick to the broker's first sight of a request, for each symbol touched."""
    book = desk.broker.accounts[SLUG].blotter.book.by_id
    taken, settled = list[float](), 0
    symbols = [symbol for symbol, stops in desk.entered.items() if stops][1 : 1 + TOUCHES]
    for symbol in symbols:
        known = settled
        ticked = desk.tick(TOUCH, symbol)
        settled += len(desk.entered[symbol])
        found = await desk.moved(settled)
        first_ns = min(book[row["new_order_id"]].submitted for row in found[known:])
        taken.append(first_ns / 1e6 - ticked.timestamp() * 1e3)
    return taken


async def together(desk: Desk, moves: int) -> None:
    """Move many stops at once, and print how that compares with bare requests."""
    symbol, stops = next(iter(desk.entered.items()))
    known = len(await desk.moved(0))
    before = time.perf_counter()
    desk.tick(TOUCH, symbol)
    await desk.moved(known + len(stops))
    taken = time.perf_counter() - before
    requests = 4 * len(stops) + 1  # the leg, the change, the old order and its heir; and the positions once
    began = time.perf_counter()
    for _ in range(requests):
        await desk.client.order(stops[0], nested=False)
    floor = time.perf_counter() - began
    print(
        f"{len(stops)} stops at once: {taken:.2f} s with {requests} requests or more; as many bare requests one by one:"
        f" {floor:.2f} s, ratio {floor / taken:.2f}; 200 requests a minute allow {200 // 4} such moves a minute"
    )


def main() -> int:
    """Measure, and return 1 unless the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brackets", type=int, default=1000)
    parser.add_argument("--moves", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coldharbour-breakeven-") as folder:
        Path(folder).chmod(0o755)
        return 0 if anyio.run(measure, Path(folder), arguments.brackets, arguments.moves) else 1


if __name__ == "__main__":
    sys.exit(main())
