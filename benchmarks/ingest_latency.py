"""How long a stream event takes to become a committed row, beside a bare insert and commit of the same rows.

Ours: a process of its own sends the simulated broker's events evenly over a websocket, stamped as they leave; they are
read, translated and written as the stream worker does it; the time counts from that stamp to the return of the
commit. The floor: at the same rate, one plain INSERT of a finished row and one COMMIT per event.

    python benchmarks/ingest_latency.py --events 5000 --rate 500
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Any

import anyio
import msgspec
import psycopg
from coldharbour_plugins.simulator.broker import SimulatedBroker
from psycopg import sql
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from coldharbour.broker import open_trade_updates
from coldharbour.clock import SystemClock
from coldharbour.db import open_database
from coldharbour.embedded import embedded_server
from coldharbour.lake.writer import Lake
from coldharbour.schema import upgrade

SLUG = "bench"
GOAL_MS = 10.0
WARM_UP = 0.1  # of the events: connections, caches and prepared statements are not what is measured


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


async def ours(lake: Lake, port: int, events: int) -> Times:
    """Return the times from an event's leaving to its commit."""
    times = Times("stream event to committed row:")
    url, secret = f"ws://127.0.0.1:{port}/stream", SecretStr("simulator")
    async with open_trade_updates(url, f"SIM-{SLUG}", secret, clock=lake.clock, slug=SLUG) as updates:
        async for frames in updates.batches():
            await lake.write_frames(frames)
            committed_at = lake.clock.now()
            sent_at = [frame.update.at for frame in frames if frame.update and frame.update.at]
            times.each_ms += [(committed_at - at).total_seconds() * 1000 for at in sent_at]
            if len(times.each_ms) >= events:
                break
    return times


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
async def opened_lake(folder: Path) -> AsyncIterator[tuple[str, Lake]]:
    """Lend an empty lake on a database server of its own, with fsync as in production."""
    async with embedded_server(folder / "postgres") as conninfo:
        await anyio.to_thread.run_sync(upgrade, conninfo, (), [SLUG])
        async with open_database(conninfo, name="bench", clock=SystemClock()) as db:
            yield conninfo, Lake(SLUG, db, SystemClock())


@contextmanager
def sending(events: int, rate: float) -> Iterator[int]:
    """Send events from a process of its own, to whoever connects; yields its port."""
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.get_context("spawn").Process(target=_send, args=(theirs, events, rate), daemon=True)
    sender.start()
    theirs.close()  # else our own copy would keep the pipe open when the sender dies
    try:
        yield int(ours.recv())
    except EOFError:
        raise SystemExit("the sender ended before it could send: see its error above") from None
    finally:
        sender.terminate()
        sender.join()


def _send(pipe: Connection, events: int, rate: float) -> None:
    anyio.run(_serve, pipe, _events(events), rate)


def _events(count: int) -> list[dict[str, Any]]:
    """Return what the simulated broker's stream says while it trades brackets."""
    broker = SimulatedBroker(
        seed=7, accounts={SLUG: Decimal(10_000_000)}, clock=SystemClock(), history_days=5, trading=False
    )
    told: list[dict[str, Any]] = []
    broker.accounts[SLUG].listen(lambda event: told.append(dict(event)))
    broker.accounts[SLUG].burst(count)
    return told


async def _serve(pipe: Connection, events: list[dict[str, Any]], rate: float) -> None:
    async def talk(peer: ServerConnection) -> None:
        await peer.recv()
        await peer.send(b'{"stream":"authorization","data":{"status":"authorized","action":"authenticate"}}')
        await peer.recv()
        await peer.send(b'{"stream":"listening","data":{"streams":["trade_updates"]}}')
        began = time.perf_counter()
        with suppress(ConnectionClosed):  # the measuring side has what it wants
            for number, event in enumerate(events):
                await anyio.sleep(max(began + number / rate - time.perf_counter(), 0))
                event["at"] = datetime.now(UTC).isoformat()
                await peer.send(msgspec.json.encode({"stream": "trade_updates", "data": event}))
        await peer.wait_closed()

    quiet = logging.getLogger("websockets.server")
    quiet.setLevel(logging.CRITICAL)  # the measuring side hangs up while frames are on their way: no failure of ours
    async with serve(talk, "127.0.0.1", 0, compression=None, logger=quiet) as server:
        pipe.send(server.sockets[0].getsockname()[1])
        await anyio.sleep_forever()


async def main() -> int:
    """Measure both, print the figures and the ratio; exit 1 above the goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=5000, help="stream events to measure")
    arguments.add_argument("--rate", type=float, default=500, help="events a second")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - before anything runs; the database's own user must get in
        with sending(given.events, given.rate) as port:
            async with opened_lake(Path(folder)) as (conninfo, lake):
                measured = await ours(lake, port, given.events)
                bare = await floor(conninfo, given.rate)
    print(f"{measured}; {bare}; ratio of p99 {measured.percentile(99) / bare.percentile(99):.1f}, "
          f"at {given.rate:g} events/s, goal {GOAL_MS:g} ms")  # fmt: skip
    return 0 if measured.percentile(99) <= GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
