"""How fast history enters the lake: rows a second through the real write path, beside COPY of the same rows.

Ours: REST pages as text, translated, written with their cursor, one transaction a page. The floor: psycopg's COPY of
the finished rows into tables of the same shape, keys and indexes, in one transaction each.

    python benchmarks/backfill.py --orders 20000
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import anyio
import msgspec
import psycopg
from coldharbour_plugins.simulator.activities import activity_json
from coldharbour_plugins.simulator.broker import SimulatedBroker
from psycopg import sql
from pydantic import SecretStr

from coldharbour.broker import ActivitiesPage, Broker, OrdersPage, translate
from coldharbour.broker.pages import slices
from coldharbour.clock import SystemClock
from coldharbour.db import open_database
from coldharbour.embedded import embedded_server
from coldharbour.lake.pull import Puller, catch_up_activities, catch_up_orders
from coldharbour.lake.writer import Lake
from coldharbour.schema import upgrade

SLUG = "bench"
ORDERS_PAGE, ACTIVITIES_PAGE = 500, 100  # the broker's own limits
TABLES = ("raw_orders", "raw_activities")
REACH = 0.5


def pages_of(rows: Sequence[bytes], size: int) -> list[list[bytes]]:
    """Return rows in pages of a size."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def history(orders: int) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """Return the pages of orders, nested, and of activities that REST would serve of a busy account."""
    broker = SimulatedBroker(
        seed=7, accounts={SLUG: Decimal(10_000_000)}, clock=SystemClock(), history_days=5, trading=False
    )
    account = broker.accounts[SLUG]
    account.burst(orders * 3)
    rows = [msgspec.json.encode(row) for row in _everything(account)]
    activities = sorted(account.blotter.ledger.everything(), key=lambda activity: activity.id)
    fills = [msgspec.json.encode(activity_json(activity)) for activity in activities]
    return pages_of(rows, ORDERS_PAGE), pages_of(fills, ACTIVITIES_PAGE)


def _everything(account: Any) -> Iterable[dict[str, object]]:
    last = None
    while page := account.orders(status="all", limit=500, direction="asc", nested=True, after_order_id=last):
        yield from page
        last = page[-1]["id"]


class Served(Broker):
    """A broker whose pages lie ready in memory: what is measured is our side of a walk."""

    orders_pages: list[list[bytes]]
    activities_pages: list[list[bytes]]

    async def walk_orders(self, *_: object, **__: object) -> AsyncIterator[OrdersPage]:
        """Yield the pages, each translated as it is asked for, in slices as a real walk does it."""
        for page in self.orders_pages:
            rows = tuple([translate.order(raw) async for part in slices(page) for raw in part])
            yield OrdersPage(orders=rows, malformed=(), resume_after=rows[-1].submitted_at, complete=False)
        yield OrdersPage(orders=(), malformed=(), resume_after=None, complete=True)

    async def walk_activities(self, *_: object, **__: object) -> AsyncIterator[ActivitiesPage]:
        """Yield the pages, each translated as it is asked for, in slices as a real walk does it."""
        for page in self.activities_pages:
            rows = tuple([translate.activity(raw) async for part in slices(page) for raw in part])
            yield ActivitiesPage(activities=rows, malformed=(), next_token=rows[-1].id, complete=False)
        yield ActivitiesPage(activities=(), malformed=(), next_token=None, complete=True)


async def ours(lake: Lake, orders: list[list[bytes]], activities: list[list[bytes]]) -> float:
    """Return the seconds it takes to bring everything into the lake."""
    url, nothing = "http://127.0.0.1:1", SecretStr("none is asked")
    broker = Served(
        base_url=url, data_url=url, key_id="none", secret=nothing, clock=lake.clock, random=Random(7), slug=SLUG
    )
    broker.orders_pages, broker.activities_pages = orders, activities
    puller, now = Puller(lake, broker, lambda: None), lake.clock.now()
    began = time.perf_counter()
    await catch_up_orders(puller, started_at=now, on_page=lambda *_: None)
    await catch_up_activities(puller, started_at=now, overlap_from=lambda at: at, on_page=lambda *_: None)
    return time.perf_counter() - began


async def floor(conn: psycopg.AsyncConnection, table: str) -> tuple[int, float]:
    """Return how many rows were copied into a table like this one, and in how many seconds."""
    source, copy = sql.Identifier("account_activities", f"{table}_{SLUG}"), sql.Identifier(f"copy_of_{table}")
    await conn.execute(sql.SQL("create table {} (like {} including all)").format(copy, source))
    columns = sql.SQL("select column_name from information_schema.columns where table_name = %s order by 1")
    names = [row[0] for row in await (await conn.execute(columns, [f"{table}_{SLUG}"])).fetchall()]
    listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    rows = await (await conn.execute(sql.SQL("select {} from {}").format(listed, source))).fetchall()
    await conn.commit()
    began = time.perf_counter()
    into = sql.SQL("copy {} ({}) from stdin").format(copy, sql.SQL(", ").join(map(sql.Identifier, names)))
    async with conn.cursor() as cursor, cursor.copy(into) as copying:
        for row in rows:
            await copying.write_row(row)
    await conn.commit()
    return len(rows), time.perf_counter() - began


@asynccontextmanager
async def opened_lake() -> AsyncIterator[tuple[str, Lake]]:
    """Lend an empty lake on a database server of its own, with fsync as in production."""
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - before anything runs
        async with embedded_server(Path(folder, "postgres")) as conninfo:
            await anyio.to_thread.run_sync(upgrade, conninfo, (), [SLUG])
            async with open_database(conninfo, name="bench", clock=SystemClock()) as db:
                yield conninfo, Lake(SLUG, db, SystemClock())


async def once(orders: list[list[bytes]], activities: list[list[bytes]]) -> tuple[int, float, float]:
    """Return how many rows there are, and the seconds that we and the floor take for them."""
    async with opened_lake() as (conninfo, lake):
        took_s = await ours(lake, orders, activities)
        async with await psycopg.AsyncConnection.connect(conninfo) as conn:
            copied = [await floor(conn, table) for table in TABLES]
    return sum(rows for rows, _ in copied), took_s, sum(seconds for _, seconds in copied)


async def main() -> int:
    """Measure both in turns, print the medians and their ratio; exit 1 below the goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=20_000, help="orders of the history, legs included")
    arguments.add_argument("--rounds", type=int, default=5, help="how often both are measured, each time anew")
    given = arguments.parse_args()
    pages = history(given.orders)
    gc.collect()
    gc.freeze()  # what the benchmark holds is no part of what is measured
    rounds = [await once(*pages) for _ in range(given.rounds)]
    rows = rounds[0][0]
    ours_per_s, floor_per_s = (rows / median(seconds) for seconds in list(zip(*rounds, strict=True))[1:])
    ratio = ours_per_s / floor_per_s
    print(f"backfill: {ours_per_s:,.0f} rows/s of {rows:,}; floor (COPY): {floor_per_s:,.0f} rows/s; "
          f"ratio {ratio:.0%}, goal {REACH:.0%}; medians of {given.rounds} rounds")  # fmt: skip
    return 0 if ratio >= REACH else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
