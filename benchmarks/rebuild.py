"""How long a rebuild takes: an account's whole ledger read, matched and written, and how much of it is matching.

A year of the simulated broker's brackets is put into the lake first; that is not measured. Then the live tables are
made from nothing, and once more when they stand already, which must change nothing.

    python benchmarks/rebuild.py --fills 100000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import msgspec
from coldharbour_plugins.simulator.activities import activity_json
from coldharbour_plugins.simulator.broker import SimulatedBroker
from pydantic import SecretStr

from coldharbour.broker import translate
from coldharbour.clock import SystemClock
from coldharbour.db import Database, open_database
from coldharbour.destinations import Destination
from coldharbour.embedded import embedded_server
from coldharbour.lake.writer import Lake
from coldharbour.live.book import Book
from coldharbour.live.ledger.reader import LedgerReader
from coldharbour.live.rebuild import rebuild_live
from coldharbour.schema import upgrade

SLUG = "bench"
GOAL_S = 30.0
PAGE = 500
BURST = 5_000  # events at a time
DESTINATION = Destination(
    key=SLUG, name=SLUG, slug=SLUG, base_url="", data_url="", key_id=SecretStr(""), secret=SecretStr(""),
    initial_deposit=Decimal(0), disable_session_sleep=True, armed=False, simulated=True, requests_per_min=200,
)  # fmt: skip


async def fill_lake(lake: Lake, fills: int) -> None:
    """Bring a busy account's orders and fills into the lake."""
    broker = SimulatedBroker(
        seed=7, accounts={SLUG: Decimal(10_000_000)}, clock=SystemClock(), history_days=5, trading=False
    )
    account = broker.accounts[SLUG]
    while account.blotter.ledger.fill_count < fills:
        account.burst(BURST)
    for page in _pages(_everything(account)):
        await lake.write_orders([translate.order(msgspec.json.encode(row)) for row in page])
    activities = sorted(account.blotter.ledger.everything(), key=lambda activity: activity.id)
    for page in _pages(map(activity_json, activities)):
        await lake.write_activities([translate.activity(msgspec.json.encode(row)) for row in page])


def _everything(account: Any) -> Iterable[dict[str, object]]:
    last = None
    while page := account.orders(status="all", limit=500, direction="asc", nested=True, after_order_id=last):
        yield from page
        last = page[-1]["id"]


def _pages(rows: Iterable[dict[str, object]]) -> Iterable[list[dict[str, object]]]:
    page: list[dict[str, object]] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE:
            yield page
            page = []
    yield page


async def matching(db: Database) -> tuple[int, float, float]:
    """Return how many fills there are, and the seconds that reading them and matching them takes."""
    began = time.perf_counter()
    reading = await LedgerReader(db, SLUG, DESTINATION.market).whole()
    read_s = time.perf_counter() - began
    began = time.perf_counter()
    Book().apply(orders=reading.orders, fills=reading.fills, moves=reading.moves)
    return len(reading.fills), read_s, time.perf_counter() - began


async def rebuild(db: Database) -> float:
    """Return the seconds of one rebuild."""
    began = time.perf_counter()
    await rebuild_live(db, DESTINATION, SystemClock(), lambda share, detail: None)
    return time.perf_counter() - began


@asynccontextmanager
async def opened_lake() -> AsyncIterator[Lake]:
    """Lend an empty lake on a database server of its own, with fsync as in production."""
    with tempfile.TemporaryDirectory(prefix="coldharbour-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - before anything runs
        async with embedded_server(Path(folder, "postgres")) as conninfo:
            await anyio.to_thread.run_sync(upgrade, conninfo, (), [SLUG])
            async with open_database(conninfo, name="bench", clock=SystemClock()) as db:
                yield Lake(SLUG, db, SystemClock())


async def main() -> int:
    """Measure, print the figures; exit 1 above the goal."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--fills", type=int, default=100_000, help="fills of the history")
    given = arguments.parse_args()
    async with opened_lake() as lake:
        await fill_lake(lake, given.fills)
        fills, read_s, match_s = await matching(lake.db)
        first_s, again_s = await rebuild(lake.db), await rebuild(lake.db)
    print(f"rebuild of {fills:,} fills: {first_s:.1f} s, again {again_s:.1f} s; reading alone {read_s:.1f} s, matching "
          f"alone {match_s:.1f} s ({match_s / first_s:.0%} of it); goal {GOAL_S:g} s")  # fmt: skip
    return 0 if first_s <= GOAL_S * max(fills / 100_000, 1) else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
