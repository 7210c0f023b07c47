"""How long the order stream stays blind: six ways to break its websocket, from the break to the last row healed.

Per seed, six accounts are recorded by the real workers under the real kernel, each behind a cable of its own. Trading
goes on while each of the six breaks in its own way at a moment, byte and for a time that the seed decides. It is healed
when the lake holds exactly what the broker has and no gap is open.

Waits in which nothing can happen are skipped: the clock jumps to the next timer when no socket has anything to say and
no query is under way. Work takes as long as it takes. Exit 1 if a 99th percentile exceeds the limit.

    python benchmarks/blind.py --seeds 50
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import selectors
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import anyio
import anyio.to_thread
import httpx
import psycopg
import structlog
from coldharbour_plugins.simulator.account import SimulatedAccount
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.proxy import ByteProxy, byte_proxy
from coldharbour_plugins.simulator.server import running_simulator
from psycopg import sql, waiting
from psycopg.conninfo import make_conninfo
from soak import open_folder

from coldharbour import loader, settings
from coldharbour.databases import bring_up_to_date
from coldharbour.db import open_database
from coldharbour.embedded import embedded_server
from coldharbour.kernel import Kernel
from coldharbour.sections import SimulatorSettings

LIMIT_S = 30.0
WORKERS = ("stream", "backfill", "healing")
QUIET_S = 0.001  # real: sockets of one process need less to pass on what was said
LOOK_EVERY_S = 0.25
PATIENCE_S = 90.0
ACCOUNT = """
[destinations.{slug}]
base_url = "http://127.0.0.1:{port}"
data_url = "http://127.0.0.1:{port}"
allow_custom_broker = true
disable_session_sleep = true
requests_per_min = 100000
"""
# The lines of the simulator's truth, written a second time, from the tables.
OURS = """
    with orders as (
        select concat_ws('|', id, status, trim_scale(filled_qty), coalesce(trim_scale(filled_avg_price)::text, ''),
            coalesce(trim_scale(limit_price)::text, ''), coalesce(trim_scale(stop_price)::text, ''),
            coalesce(trim_scale(qty)::text, ''), coalesce(replaces::text, ''), coalesce(replaced_by::text, '')
        ) collate "C" as line
        from account_activities.raw_orders where destination = %(slug)s
    ), activities as (
        select concat_ws('|', id, activity_type, coalesce(trim_scale(qty)::text, ''),
            coalesce(trim_scale(price)::text, ''), trim_scale(net_amount), coalesce(order_id::text, ''),
            coalesce(side, '')) collate "C" as line
        from account_activities.raw_activities where destination = %(slug)s
    )
    select (select md5(coalesce(string_agg(line, E'\n' order by line), '')) from orders),
        (select md5(coalesce(string_agg(line, E'\n' order by line), '')) from activities),
        (select count(*) from account_activities.gaps where destination = %(slug)s and healed_at is null),
        (select count(*) from accounts.worker_status
         where destination = %(slug)s and kind = any(%(workers)s) and state = 'ready')
"""


class IdleSkipper(selectors.DefaultSelector):
    """Waits only for what can happen: with no socket ready and no query under way, time passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0
        self.queries = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= QUIET_S or self.queries:
            return super().select(timeout)
        ready = super().select(QUIET_S)
        if not ready:
            self.skipped_s += timeout - QUIET_S
        return ready

    @contextmanager
    def counting_queries(self) -> Iterator[None]:
        """Know of every wait for PostgreSQL, which works in processes of its own."""
        waits = {name: getattr(waiting, name) for name in ("wait_async", "wait_conn_async")}
        for name, wait in waits.items():
            setattr(waiting, name, self._counted(wait))
        try:
            yield
        finally:
            for name, wait in waits.items():
                setattr(waiting, name, wait)

    def _counted(self, wait: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any, **options: Any) -> Any:
            self.queries += 1
            try:
                return await wait(*arguments, **options)
            finally:
                self.queries -= 1

        return counted


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time includes what was skipped."""

    def __init__(self, skipper: IdleSkipper) -> None:
        super().__init__(skipper)
        self._skipper = skipper

    def time(self) -> float:
        return super().time() + self._skipper.skipped_s


class LoopClock:
    """The time of the running loop, as workers and brokers read it."""

    def __init__(self) -> None:
        self._began, self._began_s = datetime.now(UTC), anyio.current_time()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=anyio.current_time() - self._began_s)

    def monotonic(self) -> float:
        return anyio.current_time()

    async def sleep(self, delay_s: float) -> None:
        await anyio.sleep(max(delay_s, 0))


@dataclass
class Station:
    """One account being recorded: its broker's own view, its cable, and what the lake holds of it."""

    slug: str
    conninfo: str
    account: SimulatedAccount
    cable: ByteProxy
    broker_url: str
    chance: Random

    async def looks(self) -> tuple[str, str, int, int]:
        """Return the checksums of orders and activities, how many gaps are open, and how many workers are ready."""
        async with await psycopg.AsyncConnection.connect(self.conninfo) as conn:
            [found] = await (await conn.execute(OURS, {"slug": self.slug, "workers": [*WORKERS]})).fetchall()
        return found

    async def until_healed(self) -> None:
        """Return when nothing is missing and nobody looks for anything. Raises TimeoutError."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                truth = self.account.truth()
                if await self.looks() == (truth["orders_md5"], truth["activities_md5"], 0, len(WORKERS)):
                    return
                await anyio.sleep(LOOK_EVERY_S)

    async def until_noticed(self) -> None:
        """Return when the loss is known. Raises TimeoutError."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                if (await self.looks())[2]:
                    return
                await anyio.sleep(LOOK_EVERY_S)

    async def trade(self, for_s: float) -> None:
        """Have news at once, and now and then for a while."""
        ends = anyio.current_time() + for_s
        while True:
            self.account.burst(self.chance.randint(5, 40))
            if anyio.current_time() >= ends:
                return
            await anyio.sleep(self.chance.uniform(0.05, 1.0))

    async def switch(self, **faults: object) -> None:
        """Set fault switches of this account's broker."""
        async with httpx.AsyncClient(base_url=self.broker_url, verify=False) as http:  # noqa: S501 - there is no TLS
            (await http.patch("/sim/faults", json=faults)).raise_for_status()

    async def harmed(self, harm: Callable[[Station], Coroutine[Any, Any, None]]) -> float:
        """Return the seconds from the harm's beginning until all is healed."""
        await anyio.sleep(self.chance.uniform(0, 12))  # anywhere between two pings and two probes
        self.account.burst(self.chance.randint(0, 20))
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(harm, self)
            tasks.start_soon(self.trade, self.chance.uniform(0, 5))
        await self.until_healed()
        return anyio.current_time() - began


async def drop_in_a_frame(station: Station) -> None:
    """The connection ends somewhere within what is said next."""
    station.cable.add("limit_data", limit_bytes=station.chance.randint(1, 4000))
    station.account.burst(20)
    await station.until_noticed()
    station.cable.clear()


async def fall_silent(station: Station) -> None:
    """The cable swallows everything without a word, until somebody notices."""
    station.cable.add("timeout")
    await station.until_noticed()
    station.cable.clear()


async def answer_pings_only(station: Station) -> None:
    """The connection stands, and nothing is said on it any more."""
    await station.switch(stream_mute_now=True, stream_accounts=[station.slug])


async def drop_in_the_handshake(station: Station) -> None:
    """The connection ends, and for a while every new one before its greeting is over."""
    station.cable.add("limit_data", limit_bytes=station.chance.randint(1, 300))
    station.cable.cut()
    await anyio.sleep(station.chance.uniform(0.5, 6))
    station.cable.clear()


async def refuse_for_a_while(station: Station) -> None:
    """The broker drops us, and refuses us while we come back again and again."""
    status = station.chance.choice((429, 500, 503))
    # Until we say so: the simulator counts by a clock that skips nothing.
    await station.switch(stream_drop_now=True, stream_refuse_s=3600, stream_refuse_status=status)
    await anyio.sleep(station.chance.uniform(1, 8))
    await station.switch(stream_refuse_s=0)


async def repeat_and_shuffle(station: Station) -> None:
    """Everything comes in another order, and much of it more than once."""
    await station.switch(stream_duplicate_rate=0.3, stream_duplicate_max=5, stream_reorder_window=50)


FAULTS = {
    "drop_in_a_frame": drop_in_a_frame, "silent_half_open": fall_silent, "mute": answer_pings_only,
    "drop_in_the_handshake": drop_in_the_handshake, "refused_while_backing_off": refuse_for_a_while,
    "duplicates_and_disorder": repeat_and_shuffle,
}  # fmt: skip


# A broker each, where a switch would hit the others as well.
BROKERS = (
    ("drop_in_a_frame", "silent_half_open", "mute", "drop_in_the_handshake"),
    ("refused_while_backing_off",),
    ("duplicates_and_disorder",),
)


async def blind_times(seed: int, conninfo: str, folder: Path) -> dict[str, float]:
    """Return the seconds from blind to healed of each fault, under one seed."""
    took_s: dict[str, float] = {}
    async with recorded(seed, conninfo, folder) as stations:

        async def measure(station: Station) -> None:
            took_s[station.slug] = await station.harmed(FAULTS[station.slug])

        async with anyio.create_task_group() as tasks:
            for station in stations:
                tasks.start_soon(measure, station)
    return took_s


@asynccontextmanager
async def recorded(seed: int, conninfo: str, folder: Path) -> AsyncIterator[Sequence[Station]]:
    """Record an account per fault with the real workers for the length of the block, from when all is in the lake."""
    clock = LoopClock()
    async with AsyncExitStack() as stack:
        stations = [station for slugs in BROKERS for station in await _stations(stack, slugs, seed, conninfo, clock)]
        file = folder / "blind.toml"
        file.write_text("".join(ACCOUNT.format(slug=station.slug, port=station.cable.port) for station in stations))
        keys = {f"ALPACA_API_KEY_{slug.upper()}": f"SIM-{slug}" for slug in FAULTS}
        secrets = {f"ALPACA_SECRET_KEY_{slug.upper()}": "simulator" for slug in FAULTS}
        configuration = settings.load(file, {**keys, **secrets})
        registry = loader.load_plugins(configuration)
        ours = [a for a in registry.assignments if a.worker.spec.kind in WORKERS and a.destination]
        await bring_up_to_date(conninfo, configuration, registry)
        db = await stack.enter_async_context(open_database(conninfo, name="ingest", clock=clock, max_size=8))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(Kernel(configuration, registry, ours, db=db, clock=clock, random=Random(seed)).run)
        for station in stations:
            await station.until_healed()
        yield stations
        tasks.cancel_scope.cancel()


async def _stations(
    stack: AsyncExitStack, slugs: Sequence[str], seed: int, conninfo: str, clock: LoopClock
) -> list[Station]:
    """Start one simulated broker with these accounts, and a cable to each."""
    broker = SimulatedBroker(
        seed=seed, accounts=dict.fromkeys(slugs, Decimal(1_000_000)), clock=clock, history_days=4, trading=False
    )
    stack.callback(broker.close)
    at = SimulatorSettings.model_validate({"port": 0, "price_endpoint": "tcp://127.0.0.1:*"})
    address = await stack.enter_async_context(running_simulator(broker, at))
    stations = []
    for slug in slugs:
        cable = await stack.enter_async_context(byte_proxy(("127.0.0.1", address.port), seed=seed))
        chance = Random(f"{seed}/{slug}")
        stations.append(Station(slug, conninfo, broker.accounts[slug], cable, address.url, chance))
    return stations


@asynccontextmanager
async def empty_database(server: str, name: str) -> AsyncIterator[str]:
    """Lend a new database of a server."""
    async with await psycopg.AsyncConnection.connect(server, user="postgres", autocommit=True) as admin:
        await admin.execute(sql.SQL("create database {} owner coldharbour").format(sql.Identifier(name)))
        yield make_conninfo(server, dbname=name)
        await admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile; of few values, their maximum."""
    return quantiles(values, n=100, method="inclusive")[98] if len(values) >= 100 else max(values)


def report(took_s: dict[str, list[float]], real_s: float) -> bool:
    """Print a line for each fault; return whether all keep the promise."""
    for fault, values in took_s.items():
        print(f"{fault}: {len(values)} seeds, blind to healed p50 {median(values):.1f} s, p99 {p99(values):.1f} s, "
              f"max {max(values):.1f} s")  # fmt: skip
    worst = max(map(p99, took_s.values()))
    print(f"p99 of the worst fault {worst:.1f} s, limit {LIMIT_S:g} s, in {real_s:.0f} s of real time")
    return worst <= LIMIT_S


async def run_seeds(seeds: Sequence[int], skipper: IdleSkipper) -> dict[str, list[float]]:
    """Return the seconds from blind to healed by fault; a seed that took too long is named at once."""
    took_s: dict[str, list[float]] = {fault: [] for fault in FAULTS}
    with open_folder() as folder, skipper.counting_queries():
        async with embedded_server(folder / "postgres", settings={"fsync": "off"}) as server:
            for seed in seeds:
                async with empty_database(server, f"seed_{seed}") as conninfo:
                    found = await blind_times(seed, conninfo, folder)
                for fault, value in found.items():
                    took_s[fault].append(value)
                    if value > LIMIT_S:
                        print(f"seed {seed}: {fault} took {value:.1f} s", flush=True)
    return took_s


def main() -> int:
    """Run every seed and print the times of each fault; return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=50, help="how many seeds")
    arguments.add_argument("--first-seed", type=int, default=1, help="the first seed; the others follow it")
    given = arguments.parse_args()
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began, skipper = time.monotonic(), IdleSkipper()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    took_s = anyio.run(run_seeds, seeds, skipper, backend_options={"loop_factory": lambda: SkippingLoop(skipper)})
    return 0 if report(took_s, time.monotonic() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
