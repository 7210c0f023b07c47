"""The ingest process's workers under the real kernel, against a simulated broker behind a cable one can cut."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from coldharbour_plugins.simulator.account import SimulatedAccount
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.proxy import ByteProxy, byte_proxy
from coldharbour_plugins.simulator.server import SimulatorAddress, running_simulator
from psycopg.rows import dict_row

from coldharbour import loader, settings
from coldharbour.clock import Clock, SystemClock
from coldharbour.databases import bring_up_to_date
from coldharbour.db import Database, open_database
from coldharbour.kernel import Kernel
from coldharbour.sections import SimulatorSettings
from coldharbour.settings import Configuration

WORKERS = ("stream", "backfill", "healing")
LOOK_EVERY_S = 0.05

# The canonical lines of the simulator's truth, written a second time, from the tables.
SUMMARY = """
    select (select count(*) from orders) as orders, (select md5(coalesce(string_agg(line, E'\n' order by line), ''))
            from orders) as orders_md5,
        (select count(*) from activities) as activities,
        (select md5(coalesce(string_agg(line, E'\n' order by line), '')) from activities) as activities_md5
"""
LINES = """
    with orders as (
        select concat_ws('|', id, status, trim_scale(filled_qty), coalesce(trim_scale(filled_avg_price)::text, ''),
            coalesce(trim_scale(limit_price)::text, ''), coalesce(trim_scale(stop_price)::text, ''),
            coalesce(trim_scale(qty)::text, ''), coalesce(replaces::text, ''), coalesce(replaced_by::text, '')
        ) collate "C" as line
        from account_activities.raw_orders where destination = %s
    ), activities as (
        select concat_ws('|', id, activity_type, coalesce(trim_scale(qty)::text, ''),
            coalesce(trim_scale(price)::text, ''), trim_scale(net_amount), coalesce(order_id::text, ''),
            coalesce(side, '')) collate "C" as line
        from account_activities.raw_activities where destination = %s
    )
"""


@asynccontextmanager
async def simulated(
    *slugs: str, clock: Clock | None = None, always_open: bool = True
) -> AsyncIterator[tuple[SimulatedBroker, SimulatorAddress]]:
    """Serve a simulated broker whose accounts trade only when they are told to."""
    broker = SimulatedBroker(
        seed=7,
        accounts=dict.fromkeys(slugs, Decimal(1_000_000)),
        clock=clock or SystemClock(),
        history_days=4,
        always_open=always_open,
        trading=False,
    )
    at = SimulatorSettings.model_validate({"port": 0, "price_endpoint": "tcp://127.0.0.1:*"})
    async with running_simulator(broker, at) as address:
        yield broker, address
    broker.close()


@dataclass
class Station:
    """One account being recorded, its cable, and the broker's own view of it."""

    slug: str
    db: Database
    account: SimulatedAccount
    cable: ByteProxy

    async def select(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Return what a query on the database finds."""
        async with self.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), parameters)
            return await cursor.fetchall()

    async def gaps(self) -> list[dict[str, Any]]:
        """Return the account's gaps, oldest first."""
        return await self.select("select * from account_activities.gaps where destination = %s order by id", self.slug)

    async def counts(self) -> dict[str, object]:
        """Return how many orders and activities the lake holds, and their checksums."""
        [found] = await self.select(LINES + SUMMARY, self.slug, self.slug)
        return found

    def truth(self) -> dict[str, object]:
        """Return the same figures as the broker has them."""
        truth = self.account.truth()
        return {name: truth[name] for name in ("orders", "orders_md5", "activities", "activities_md5")}

    async def until_complete(self, within_s: float = 60) -> float:
        """Return after how many seconds the lake holds exactly what the broker has. Raises TimeoutError."""
        began = time.monotonic()

        async def is_complete() -> bool:
            return await self.counts() == self.truth()

        try:
            await self.until(is_complete, within_s)
        except TimeoutError:
            raise TimeoutError(f"{self.slug}: {await self.counts()} is not {self.truth()}") from None
        return time.monotonic() - began

    async def until(self, holds: Callable[[], Any], within_s: float = 60) -> Any:
        """Return what `holds` returns once that is true. Raises TimeoutError."""
        with anyio.fail_after(within_s):
            while True:
                if found := await holds():
                    return found
                await anyio.sleep(LOOK_EVERY_S)

    async def state(self, kind: str) -> str:
        """Return the state of a worker as the page shows it."""
        query = "select state from accounts.worker_status where destination = %s and kind = %s"
        found = await self.select(query, self.slug, kind)
        return str(found[0]["state"]) if found else ""

    async def until_ready(self) -> None:
        """Return when history is in the lake and the stream listens."""

        async def is_ready() -> bool:
            return {await self.state(kind) for kind in WORKERS} == {"ready"}

        await self.until(is_ready)
        await self.until_complete()


def configuration_of(folder: Path, cables: Mapping[str, int], tables: str = "") -> Configuration:
    """Return a checked configuration whose accounts reach their broker at these ports."""
    file = folder / "ingest.toml"
    accounts = "".join(
        f'[destinations.{slug}]\nbase_url = "http://127.0.0.1:{port}"\ndata_url = "http://127.0.0.1:{port}"\n'
        "allow_custom_broker = true\ndisable_session_sleep = true\nrequests_per_min = 100000\n"
        for slug, port in cables.items()
    )
    file.write_text(accounts + tables)
    keys = {f"ALPACA_API_KEY_{slug.upper()}": f"SIM-{slug}" for slug in cables}
    secrets = {f"ALPACA_SECRET_KEY_{slug.upper()}": "simulator" for slug in cables}
    return settings.load(file, {**keys, **secrets})


@asynccontextmanager
async def recorded(
    database_url: str,
    folder: Path,
    accounts: Sequence[tuple[SimulatedAccount, SimulatorAddress]],
    tables: str = "",
    kinds: Sequence[str] = WORKERS,
    *,
    clock: Clock | None = None,
) -> AsyncIterator[list[Station]]:
    """Record accounts with the real kernel for the length of the block, each through its own cable."""
    async with AsyncExitStack() as stack:
        cables = {
            account.slug: await stack.enter_async_context(byte_proxy(("127.0.0.1", address.port)))
            for account, address in accounts
        }
        configuration = configuration_of(folder, {slug: cable.port for slug, cable in cables.items()}, tables)
        registry = await anyio.to_thread.run_sync(loader.load_plugins, configuration)
        assignments = [a for a in registry.assignments if a.worker.spec.kind in kinds and a.destination]
        await bring_up_to_date(database_url, configuration, registry)
        db = await stack.enter_async_context(open_database(database_url, name="ingest", clock=SystemClock()))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(Kernel(configuration, registry, assignments, db=db, clock=clock).run)
        watching = await stack.enter_async_context(open_database(database_url, name="test", clock=SystemClock()))
        yield [Station(account.slug, watching, account, cables[account.slug]) for account, _ in accounts]
        tasks.cancel_scope.cancel()


async def becomes(account: SimulatedAccount, order_id: object, status: str) -> None:
    """Return when an order has a status."""
    with anyio.fail_after(5):
        while True:
            if account.order(str(order_id))["status"] == status:
                return
            await anyio.sleep(0.01)
