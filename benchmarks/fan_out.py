"""How long a told price takes to every one of many open pages, and to the others while some never read.

The web process serves one account from an embedded PostgreSQL; this process tells prices, another one holds the
streams open and notes when each event came. The floor is a bare NOTIFY to a listener in this process.

    python benchmarks/fan_out.py --clients 500 --mute 100 --seconds 15
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median, quantiles
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from page import SLUG, Prices, served

from coldharbour.db import Database, notify

GOAL_MS, MUTE_GOAL_MS = 100, 250
RATE = 10  # told prices a second, each a frame of its own
LOTS = 100
PRICE = re.compile(rb'"(open-\w+-lot\d+)":\{[^{}]*"market":\["([\d,.]+)"')
REQUEST = f"GET /{SLUG}/stream/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()

Arrival = tuple[str, str, float]


@contextmanager
def streams(url: str, clients: int, mute: int) -> Iterator[Connection]:
    """Hold streams open in a process of its own; it says "ready", and answers "stop" with what came when."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(theirs, url, clients, mute))
    process.start()
    try:
        yield ours
    finally:
        process.terminate()
        process.join(10)


def _hold(pipe: Connection, url: str, clients: int, mute: int) -> None:
    asyncio.run(_listen(pipe, urlsplit(url).port or 80, clients, mute))


async def _listen(pipe: Connection, port: int, clients: int, mute: int) -> None:
    arrivals: list[Arrival] = []
    opened = [await _open(port) for _ in range(clients)]
    silent = [await _open(port) for _ in range(mute)]
    for _, writer in silent:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(_read(reader, arrivals)) for reader, _ in opened]
        await asyncio.sleep(3)  # what every page is sent first
        arrivals.clear()
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        pipe.send(arrivals)
        for task in reading:
            task.cancel()


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    return reader, writer


async def _read(reader: asyncio.StreamReader, arrivals: list[Arrival]) -> None:
    while piece := await reader.read(1 << 20):
        at = time.time() * 1000
        arrivals += [(row.decode(), text.decode(), at) for row, text in PRICE.findall(piece)]


async def delivery(prices: Prices, url: str, clients: int, mute: int, seconds: float) -> tuple[list[float], int]:
    """Return the milliseconds from each told price to each stream, and how many deliveries there should be."""
    prices.sent.clear()
    with streams(url, clients, mute) as pipe:
        await anyio.to_thread.run_sync(pipe.recv)
        await prices.tell(RATE, seconds)
        await anyio.sleep(1)
        pipe.send("stop")
        arrivals: list[Arrival] = await anyio.to_thread.run_sync(pipe.recv)
    times = [at - prices.sent[row, text] for row, text, at in arrivals if (row, text) in prices.sent]
    return times, len(prices.sent) * clients


async def floor(db: Database) -> list[float]:
    """Return the milliseconds from a bare NOTIFY to its arrival."""
    times = []
    async with db.listener() as listener, listener.subscribe("bare") as notes:
        await anext(notes)
        for _ in range(200):
            began = time.perf_counter()
            await notify(db, "bare", "{}")
            await anext(notes)
            times.append((time.perf_counter() - began) * 1000)
    return times


async def main() -> int:
    """Measure both and print the figures; exit 1 above a goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clients", type=int, default=500, help="open pages that read")
    arguments.add_argument("--mute", type=int, default=100, help="open pages that never read, in the second run")
    arguments.add_argument("--seconds", type=float, default=15, help="how long prices are told, in each run")
    given = arguments.parse_args()
    is_met = True
    async with served(LOTS) as (db, url):
        bare, prices = median(await floor(db)), Prices(db, LOTS)  # its numbers go on: no price is told twice
        for mute, goal in ((0, GOAL_MS), (given.mute, MUTE_GOAL_MS)):
            times, due = await delivery(prices, url, given.clients, mute, given.seconds)
            p99 = quantiles(times, n=100)[98]
            is_met &= p99 <= goal and len(times) == due
            print(f"{given.clients} pages and {mute} that never read: p50 {median(times):.0f} ms, p99 {p99:.0f} ms, "
                  f"{len(times)} of {due} deliveries; floor (NOTIFY): p50 {bare:.1f} ms, ratio of p50 "
                  f"{median(times) / bare:.0f}; goal p99 {goal} ms")  # fmt: skip
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main))
