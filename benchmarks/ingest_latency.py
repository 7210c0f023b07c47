"""How long a stream event takes to become a committed row, beside a bare insert and commit of the same rows.

Ours: the simulated broker in a process of its own emits events over its websocket; they are read, translated and
written as the stream worker does it; the time counts from the broker's own stamp of the event to the return of the
commit. The floor: at the same rate, one plain INSERT of the finished row and one COMMIT per event.

    python benchmarks/ingest_latency.py --events 5000 --rate 500
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import anyio
import httpx
import psycopg
from psycopg import sql
from pydantic import SecretStr

from coldharbour.broker import Frame, open_trade_updates
from coldharbour.clock import SystemClock
from coldharbour.db import open_database
from coldharbour.embedded import embedded_server
from coldharbour.lake.writer import Lake
from coldharbour.schema import upgrade

SLUG = "bench"
GOAL_MS = 10.0
WARM_UP = 0.1  # of the events: connections, caches and prepared statements are not what is measured
CONFIGURATION = """
[simulator]
port = {port}
price_endpoint = "tcp://127.0.0.1:*"
history_days = 5
state_dir = "{folder}/simulator"
[destinations.bench]
simulated = true
initial_deposit = 1000000
"""


@dataclass
class Times:
    """Durations in milliseconds, the warm-up left out."""

    name: str
    each_ms: list[float] = field(default_factory=list)

    def percentile(self, place: int) -> float:
        """Return the value that so many percent do not exceed."""
        settled = self.each_ms[int(len(self.each_ms) * WARM_UP) :]
        return quantiles(settled, n=100)[place - 1]

    def __str__(self) -> str:
        return f"{self.name} p50 {self.percentile(50):.2f} ms, p99 {self.percentile(99):.2f} ms"


async def ours(lake: Lake, port: int, events: int, rate: float) -> Times:
    """Return the times from the broker's stamp to the commit."""
    times = Times("stream event to committed row:")
    url, secret = f"ws://127.0.0.1:{port}/stream", SecretStr("simulator")
    async with open_trade_updates(url, f"SIM-{SLUG}", secret, clock=lake.clock, slug=SLUG) as updates:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            order = {"account": SLUG, "events": events, "rate": rate}
            (await http.post("/sim/burst", json=order)).raise_for_status()
        async for frames in updates.batches():
            await lake.write_frames(frames)
            committed_at = lake.clock.now()
            times.each_ms += [(committed_at - _stamp(frame)).total_seconds() * 1000 for frame in frames]
            if len(times.each_ms) >= events:
                return times
    return times


def _stamp(frame: Frame) -> datetime:
    assert frame.update is not None
    assert frame.update.timestamp is not None
    return frame.update.timestamp


async def floor(conninfo: str, rate: float) -> Times:
    """Return the times of plain inserts and commits, one row each, into tables of the same shape."""
    times = Times("floor, INSERT and COMMIT:")
    async with await psycopg.AsyncConnection.connect(conninfo) as conn:
        statements = [await _inserts(conn, table) for table in ("raw_orders", "raw_activities")]
        work = [(query, row) for query, rows in statements for row in rows]
        began = time.perf_counter()
        for number, (query, row) in enumerate(work):
            await anyio.sleep(max(began + number / rate - time.perf_counter(), 0))
            started = time.perf_counter()
            await conn.execute(query, row)
            await conn.commit()
            times.each_ms.append((time.perf_counter() - started) * 1000)
    return times


async def _inserts(conn: psycopg.AsyncConnection, table: str) -> tuple[sql.Composed, list[tuple[Any, ...]]]:
    source, copy = sql.Identifier("account_activities", f"{table}_{SLUG}"), sql.Identifier(f"copy_of_{table}")
    await conn.execute(sql.SQL("create table {} (like {} including all)").format(copy, source))
    columns = sql.SQL("select column_name from information_schema.columns where table_name = %s order by 1")
    names = [row[0] for row in await (await conn.execute(columns, [f"{table}_{SLUG}"])).fetchall()]
    listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    rows = await (await conn.execute(sql.SQL("select {} from {}").format(listed, source))).fetchall()
    await conn.commit()
    query = sql.SQL("insert into {} ({}) values ({})").format(
        copy, sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join([sql.Placeholder()] * len(names))
    )
    return query, rows


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[str, Lake, int]]:
    """Lend a lake on a server of its own, and a simulated broker that trades only when it is told to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "bench.toml"
    config.write_text(CONFIGURATION.format(folder=folder, port=port))
    async with embedded_server(folder / "postgres") as conninfo:
        await anyio.to_thread.run_sync(upgrade, conninfo, (), [SLUG])
        command = [sys.executable, "-m", "coldharbour", "sim", "--config", str(config)]
        async with (
            await anyio.open_process(command, stdout=None, stderr=None, env=dict(os.environ)) as simulator,
            open_database(conninfo, name="bench", clock=SystemClock()) as db,
        ):
            await _quiet(port)
            yield conninfo, Lake(SLUG, db, SystemClock()), port
            simulator.terminate()


async def _quiet(port: int) -> None:
    """Return when the simulator answers, its traders switched off."""
    with anyio.fail_after(30):
        while True:
            try:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                    (await http.put("/sim/trader", json={"on": False})).raise_for_status()
            except httpx.TransportError:
                await anyio.sleep(0.1)
            else:
                return


async def main() -> int:
    """Measure both, print the figures and the ratio; exit 1 above the goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=5000, help="stream events to measure")
    arguments.add_argument("--rate", type=float, default=500, help="events a second")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - before anything runs; the database's own user must get in
        async with opened(Path(folder)) as (conninfo, lake, port):
            measured = await ours(lake, port, given.events, given.rate)
            bare = await floor(conninfo, given.rate)
    print(f"{measured}; {bare}; ratio of p99 {measured.percentile(99) / bare.percentile(99):.1f}, "
          f"at {given.rate:g} events/s, goal {GOAL_MS:g} ms")  # fmt: skip
    return 0 if measured.percentile(99) <= GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
