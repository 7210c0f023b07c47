"""How long a fill takes from the lake to the open trades: the row and the notification that names the lot.

Ours: frames of the simulated broker's stream are written to the lake at a steady rate; a process of its own follows
it as the `snapshot` worker does. The time counts from the insert of the raw row, its commit included, to the arrival
of `{"op":"lot"}` for the new lot. The floor: a bare NOTIFY and its arrival, on the same connections.

    python benchmarks/structure.py --events 2000 --rate 100
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

import anyio
import msgspec
from coldharbour_plugins.simulator.broker import SimulatedBroker

from coldharbour.broker import Frame, translate
from coldharbour.clock import SystemClock
from coldharbour.db import Database, Listener, notify, open_database
from coldharbour.embedded import embedded_server
from coldharbour.lake.writer import Lake
from coldharbour.live.following import FollowedBook, wakeups
from coldharbour.live.open_trades import OpenTrades
from coldharbour.schema import upgrade

SLUG, MARKET = "bench", "simulated"
GOAL_MS = 50.0
WARM_UP = 0.1  # of the events: connections, caches and prepared statements are not what is measured


def percentile(times_ms: list[float], place: int) -> float:
    """Return the value that so many percent do not exceed, the warm-up left out."""
    return quantiles(times_ms[int(len(times_ms) * WARM_UP) :], n=100)[place - 1]


def frames(count: int) -> list[Frame]:
    """Return what the simulated broker's stream says while it trades brackets."""
    broker = SimulatedBroker(
        seed=7, accounts={SLUG: Decimal(10_000_000)}, clock=SystemClock(), history_days=5, trading=False
    )
    told: list[bytes] = []
    broker.accounts[SLUG].listen(
        lambda data: told.append(msgspec.json.encode({"stream": "trade_updates", "data": data}))
    )
    broker.accounts[SLUG].burst(count)
    connection, now = str(uuid4()), datetime.now(UTC)
    return [
        Frame(received_at=now, connection=connection, raw=raw, update=translate.trade_update(raw), problem=None)
        for raw in told
    ]


async def write(lake: Lake, events: list[Frame], rate: float) -> None:
    """Write the frames one by one, evenly."""
    began = time.perf_counter()
    for number, frame in enumerate(events):
        await anyio.sleep(max(began + number / rate - time.perf_counter(), 0))
        await lake.write_frames([frame])


async def ours(db: Database, lake: Lake, listener: Listener, events: list[Frame], rate: float) -> list[float]:
    """Return the milliseconds from each entry's first fill in the lake to the word of its lot, in order."""
    heard: dict[str, datetime] = {}

    async def hear() -> None:
        async for note in listener.subscribe(f"pos_channel_{SLUG}"):
            told = msgspec.json.decode(note.payload or b"{}")
            if told.get("op") == "lot":
                heard.setdefault(told["parent_id"], datetime.now(UTC))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear)
        await anyio.sleep(0.5)
        await write(lake, events, rate)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    async with db.transaction() as conn:
        cursor = await conn.execute(
            "select order_id::text, min(ingested_at) from account_activities.raw_activities"
            " where destination = %s group by 1 order by 2",
            [SLUG],
        )
        inserted = await cursor.fetchall()
    return [(heard[order_id] - at).total_seconds() * 1000 for order_id, at in inserted if order_id in heard]


async def floor(db: Database, listener: Listener, count: int, rate: float) -> list[float]:
    """Return the milliseconds from a bare NOTIFY to its arrival."""
    times_ms: list[float] = []
    async with listener.subscribe("bare") as notes:
        await anext(notes)
        for _ in range(count):
            await anyio.sleep(1 / rate)
            sent = time.perf_counter()
            await notify(db, "bare", "{}")
            await anext(notes)
            times_ms.append((time.perf_counter() - sent) * 1000)
    return times_ms


@asynccontextmanager
async def opened_lake(folder: Path) -> AsyncIterator[tuple[str, Database]]:
    """Lend an empty lake on a database server of its own, with fsync as in production."""
    async with embedded_server(folder / "postgres") as conninfo:
        await anyio.to_thread.run_sync(upgrade, conninfo, (), [SLUG])
        async with open_database(conninfo, name="bench", clock=SystemClock()) as db:
            yield conninfo, db


@contextmanager
def following(conninfo: str) -> Iterator[None]:
    """Keep the open trades in a process of its own for the length of the block."""
    near, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_follow, args=(far, conninfo), daemon=True)
    process.start()
    try:
        near.recv()
        yield
    finally:
        process.terminate()
        process.join()


def _follow(pipe: Connection, conninfo: str) -> None:
    anyio.run(_keep_open_trades, pipe, conninfo, backend_options={"use_uvloop": True})


async def _keep_open_trades(pipe: Connection, conninfo: str) -> None:
    async with open_database(conninfo, name="follow", clock=SystemClock()) as db:
        followed = FollowedBook(db, SLUG, MARKET, SystemClock())
        trades = OpenTrades(db, followed)
        async with wakeups(db, f"raw_channel_{SLUG}", poll_s=5) as wait:
            await followed.load()
            await trades.write_all()
            pipe.send("ready")
            while True:
                await wait()
                await trades.write(await followed.catch_up())


async def main() -> int:
    """Measure both, print the figures and the ratio; exit 1 above the goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=2000, help="stream events to write")
    arguments.add_argument("--rate", type=float, default=100, help="events a second")
    given = arguments.parse_args()
    events = frames(given.events)
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - before anything runs; the database's own user must get in
        async with opened_lake(Path(folder)) as (conninfo, db), db.listener() as listener:
            with following(conninfo):
                lots = await ours(db, Lake(SLUG, db, SystemClock()), listener, events, given.rate)
            bare = await floor(db, listener, len(lots), given.rate)
    p50, p99, bare_p50, bare_p99 = (percentile(times, place) for times in (lots, bare) for place in (50, 99))
    print(f"fill in the lake to word of its lot: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(lots)} lots at "
          f"{given.rate:g} events/s; floor (NOTIFY): p50 {bare_p50:.1f} ms, p99 {bare_p99:.1f} ms; ratio of p50 "
          f"{p50 / bare_p50:.1f}, goal p99 {GOAL_MS:g} ms")  # fmt: skip
    return 0 if p99 <= GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
