"""How many ticks a second go through decode, filter and the valuation of 1,000 lots, beside a bare drain loop.

Ours: a publisher in a process of its own sends trades over a socket; the subscriber receives, decodes, filters and
keeps them, and every batch interval the lots of what moved are valued and what is due is picked, as the prices worker
does it. The floor: the same messages over the same socket, each received by a non-blocking call and decoded, nothing
else. One trade in five may set no price. Last, the memory of this process, which has loaded every plugin as the
product's own processes do.

    python benchmarks/ticks.py --ticks 500000 --lots 1000
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as wall_time
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median

import anyio
import msgspec
import zmq

from coldharbour.clock import SystemClock
from coldharbour.feed.model import decode
from coldharbour.feed.watch import Watch
from coldharbour.feed.zmq import OPTIONS, subscribed_prices
from coldharbour.live.marks.book import MarkBook
from coldharbour.live.marks.lot import Hearing
from coldharbour.live.marks.model import HeldLot, StoredLot
from coldharbour.live.model import Side
from coldharbour.loader import load_plugins
from coldharbour.sections import FeedSettings
from coldharbour.sessions import Schedule, session_of
from coldharbour.settings import load

CONFIGURATION = Path(__file__).parents[1] / "config" / "demo.toml"
GOAL, MEMORY_GOAL_MB = 0.4, 200
BATCH_S = 0.05
THRESHOLD_PCT = 0.01
NOW = datetime.now(UTC)


@dataclass
class Valuing:
    """The prices worker's part between the price book and the database."""

    book: MarkBook
    watch: Watch
    lots: int = 0

    async def run(self, hearing: Callable[[], Hearing]) -> None:
        """Value whatever moved, once per batch interval, until cancelled."""
        while True:
            await self.watch.wait()
            began = time.perf_counter()
            self.book.move(self.watch.take())
            due = self.book.due(flush=False)
            self.book.written([mark for lot in due if (mark := lot.mark(hearing()))])
            self.book.told(due)
            self.lots += len(due)
            await SystemClock().sleep(BATCH_S - (time.perf_counter() - began))


async def ours(endpoint: str, ticks: int, lots: int, go: Callable[[], None]) -> tuple[float, int]:
    """Return the seconds of the product's own way, and how many valuations were due meanwhile."""
    book = MarkBook(THRESHOLD_PCT)
    book.take_over(held_lots(lots), None, NOW)
    async with subscribed_prices(FeedSettings(endpoint=endpoint), SystemClock()) as prices:
        with prices.watch() as watch:
            valuing = Valuing(book, watch)
            watch.sessions = Schedule([session_of(NOW.date(), wall_time(0, 0), wall_time(23, 59))])
            watch.follow(book.symbols)
            for symbol in book.symbols:
                prices.seed(symbol, Decimal(100), NOW - timedelta(days=1))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(valuing.run, lambda: Hearing(prices.hearing_since, prices.heard_at))
                await anyio.sleep(0.5)  # the socket connects
                go()
                began = time.perf_counter()
                while True:
                    await anyio.sleep(0.002)
                    if prices.counts.taken + prices.counts.rejected >= ticks:
                        break
                took_s = time.perf_counter() - began
                tasks.cancel_scope.cancel()
    return took_s, valuing.lots


def floor(endpoint: str, ticks: int, go: Callable[[], None]) -> float:
    """Return the seconds of a bare loop: receive without waiting, decode, count."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        for option, value in OPTIONS.items():
            socket.setsockopt(option, value)
        socket.subscribe(b"")
        socket.connect(endpoint)
        time.sleep(0.5)  # it connects
        go()
        began, left = time.perf_counter(), ticks
        while left:
            socket.poll()
            try:
                while True:
                    decode(socket.recv(zmq.NOBLOCK))
                    left -= 1
            except zmq.Again:
                continue
        return time.perf_counter() - began


def held_lots(count: int) -> list[StoredLot]:
    """Return so many lots, each of a symbol of its own."""
    entered = NOW - timedelta(hours=1)
    return [
        StoredLot(
            HeldLot(
                parent_id=f"lot {number}", symbol=f"S{number}", side=Side.LONG if number % 3 else Side.SHORT,
                qty=Decimal(100 if number % 3 else -100), entry_qty=Decimal(100), avg_fill=Decimal("99.87"),
                avg_px_symbol=Decimal("99.91"), entry_time=entered, last_fill_time=entered,
                initial_stop=Decimal("98.50" if number % 3 else "101.50"), version=1, stop_order_id="stop",
                stop_price=Decimal("98.50" if number % 3 else "101.50"),
                take_price=Decimal("103.00" if number % 3 else "97.00"),
            )
        )
        for number in range(count)
    ]  # fmt: skip


def messages(ticks: int, symbols: int) -> list[bytes]:
    """Return trades of all symbols by turns, as the publisher of the market writes them."""
    chance, encode = Random(7), msgspec.msgpack.Encoder().encode
    prices = [100.0] * symbols
    found = []
    for number in range(ticks):
        place = chance.randrange(symbols)
        prices[place] = round(prices[place] * (1 + chance.uniform(-0.0005, 0.0005)), 2)
        at = NOW + timedelta(microseconds=10 * number)
        found.append(
            encode({
                "trade": {
                    "symbol": f"S{place}", "price": prices[place], "size": 100, "timestamp": at.isoformat(),
                    "conditions": ["@", "I"] if number % 5 == 0 else ["@"],
                }
            })
        )  # fmt: skip
    return found


@contextmanager
def publishing(ticks: int, symbols: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Lend a publisher in a process of its own: its endpoint, and the call that makes it send everything once."""
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        endpoint, (ours, theirs) = f"ipc://{folder}/prices", multiprocessing.Pipe()
        publisher = multiprocessing.get_context("spawn").Process(
            target=_publish, args=(endpoint, theirs, ticks, symbols), daemon=True
        )
        publisher.start()
        ours.recv()
        try:
            yield endpoint, lambda: ours.send(True)
        finally:
            publisher.terminate()
            publisher.join()


def _publish(endpoint: str, orders: Connection, ticks: int, symbols: int) -> None:
    ready = messages(ticks, symbols)
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.sndhwm = 0  # nothing is dropped: the count is fixed
        socket.linger = 0
        socket.bind(endpoint)
        orders.send(True)
        while orders.recv():
            for message in ready:
                socket.send(message)


async def main() -> int:
    """Measure both by turns, print the figures and the ratio; exit 1 below the goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--ticks", type=int, default=500_000, help="trades in one run")
    arguments.add_argument("--lots", type=int, default=1000, help="open lots, each of a symbol of its own")
    arguments.add_argument("--rounds", type=int, default=5, help="runs of each; the median counts")
    given = arguments.parse_args()
    rates: dict[str, list[float]] = {"ours": [], "floor": []}
    valued = 0
    load_plugins(load(CONFIGURATION, {}))
    with publishing(given.ticks, given.lots) as (endpoint, go):
        for _ in range(given.rounds):
            rates["floor"].append(given.ticks / floor(endpoint, given.ticks, go))
            took_s, due = await ours(endpoint, given.ticks, given.lots, go)
            rates["ours"].append(given.ticks / took_s)
            valued += due
    measured, bare = median(rates["ours"]), median(rates["floor"])
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{measured:,.0f} ticks/s with {given.lots} lots, {valued / given.rounds:,.0f} valuations due in a run; "
        f"floor {bare:,.0f} ticks/s; ratio {measured / bare:.2f}, goal {GOAL}; "
        f"this process {memory_mb:.0f} MB, goal {MEMORY_GOAL_MB} MB"
    )
    return 0 if measured >= GOAL * bare and memory_mb <= MEMORY_GOAL_MB else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
