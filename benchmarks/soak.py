"""The full proof that nothing is lost and nothing is twice: ingest and database are killed, the broker misbehaves.

Per seed: a simulated broker emits events in bursts; ingest runs as in production, is killed with SIGKILL and
started again, and so is the database server; the stream drops, falls mute, repeats and shuffles; REST refuses, fails
and breaks off. Then the faults end, ingest may catch up, and what the raw tables hold is compared with the broker's
truth: counts and checksums of orders and activities. Exit 1 if any seed differs.

    python benchmarks/soak.py --events 100000 --kills 100 --database-kills 10 --seeds 5
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, TextIO

import anyio
import anyio.abc
import httpx
import psycopg
from psycopg.rows import dict_row

from coldharbour.embedded import embedded_server

SLUG = "soak"
BURST_RATE = 2000  # events a second within a burst
LIFE_S = (0.3, 4.0)  # how long ingest lives between two kills: many lives end before it listens
CATCH_UP_S = 120
FAULTS = {
    "stream_duplicate_rate": 0.05,
    "stream_duplicate_max": 3,
    "stream_reorder_window": 50,
    "stream_drop_every": 2500,
    "rest_429_rate": 0.01,
    "rest_error_rate": 0.01,
    "rest_error_status": 503,
    "rest_cut_rate": 0.01,
}
CONFIGURATION = """
[database]
data_dir = "{folder}/postgres"
[simulator]
port = {port}
price_endpoint = "tcp://127.0.0.1:*"
seed = {seed}
history_days = 10
state_dir = "{folder}/simulator"
[workers.stream]
probe_idle_s = 2
[workers.healing]
interval_s = 5
blind_interval_s = 2
[workers.backfill]
interval_s = 30
[destinations.soak]
simulated = true
disable_session_sleep = true
initial_deposit = 1000000
requests_per_min = 100000
"""
ORDERS = """select id::text, status, filled_qty, filled_avg_price, limit_price, stop_price, qty, replaces::text,
    replaced_by::text from account_activities.raw_orders where destination = %s"""
ACTIVITIES = """select id, activity_type, qty, price, net_amount, order_id::text, side
    from account_activities.raw_activities where destination = %s"""
RECORDED = """select
    (select count(*) from account_activities.raw_events) as frames,
    (select count(distinct connection) from account_activities.raw_events) as connections,
    (select count(*) from account_activities.gaps) as gaps,
    (select count(*) from account_activities.gaps where healed_at is null) as open_gaps,
    (select count(*) from account_activities.quarantine) as quarantined"""


@dataclass
class Outcome:
    """What one seed ended with."""

    seed: int
    ours: dict[str, object]
    truth: dict[str, object]
    killed: int
    database_killed: int
    recorded: dict[str, int]
    emit_s: float
    catch_up_s: float

    @property
    def holds(self) -> bool:
        """Whether nothing is missing, nothing is twice, and no gap was left open."""
        return self.ours == self.truth and not self.recorded["open_gaps"]

    def __str__(self) -> str:
        counts = f"{self.ours['orders']} orders, {self.ours['activities']} activities"
        verdict = "equal to the truth" if self.holds else f"DIFFERENT: {self.ours} is not {self.truth}"
        return (
            f"seed {self.seed}: {self.truth['events']} events, {self.killed} kills, {self.database_killed} of the"
            f" database: {counts}: {verdict}"
            f" ({self.recorded['frames']} frames over {self.recorded['connections']} connections,"
            f" {self.recorded['gaps']} gaps, {self.recorded['open_gaps']} still open,"
            f" {self.recorded['quarantined']} messages in quarantine;"
            f" events took {self.emit_s:.0f} s, catching up {self.catch_up_s:.0f} s)"
        )


@dataclass
class Bench:
    """The processes of one seed: the simulated broker, ingest, and the database server's."""

    folder: Path
    config: Path
    conninfo: str
    http: httpx.AsyncClient
    ingest: anyio.abc.Process | None = None
    stopped: bool = False
    logs: list[TextIO] = field(default_factory=list)

    async def start(self, *arguments: str) -> anyio.abc.Process:
        """Start a command of the product; what it says goes into a file."""
        log = (self.folder / f"{arguments[0]}.log").open("a")
        self.logs.append(log)
        command = [sys.executable, "-m", "coldharbour", *arguments, "--config", str(self.config)]
        return await anyio.open_process(command, stdout=log, stderr=log, env=_environment())

    async def keep_ingest_running(self) -> None:
        """Start ingest, and start it again whenever it ends."""
        while not self.stopped:
            self.ingest = await self.start("run", "--service", "ingest")
            if self.stopped:  # while it was starting
                self.kill_ingest()
            await self.ingest.wait()

    def kill_ingest(self) -> None:
        """End ingest as a power cut would."""
        if self.ingest is not None and self.ingest.returncode is None:
            self.ingest.kill()

    def kill_database(self) -> None:
        """End the database server as a power cut would; its keeper starts it again."""
        lines = (self.folder / "postgres/server/data/postmaster.pid").read_text().splitlines()
        if lines:  # none while the server that follows the last kill is just starting
            os.kill(int(lines[0]), signal.SIGKILL)

    async def set(self, **faults: object) -> None:
        """Set these faults, and end all others."""
        (await self.http.put("/sim/faults", json=faults)).raise_for_status()

    async def burst(self, events: int) -> None:
        """Have the broker emit events, in the background."""
        order = {"account": SLUG, "events": events, "rate": BURST_RATE}
        (await self.http.post("/sim/burst", json=order)).raise_for_status()

    async def truth(self) -> dict[str, Any]:
        """Return the broker's own counts and checksums."""
        found: dict[str, Any] = (await self.http.get("/sim/truth")).raise_for_status().json()["accounts"][SLUG]
        return {name: found[name] for name in ("orders", "orders_md5", "activities", "activities_md5", "events")}

    async def ours(self) -> dict[str, object]:
        """Return the same figures as the raw tables have them."""
        async with await psycopg.AsyncConnection.connect(self.conninfo) as conn:
            orders = await (await conn.execute(ORDERS, [SLUG])).fetchall()
            activities = await (await conn.execute(ACTIVITIES, [SLUG])).fetchall()
        return {
            "orders": len(orders), "orders_md5": checksum(orders),
            "activities": len(activities), "activities_md5": checksum(activities),
        }  # fmt: skip

    async def recorded(self) -> dict[str, int]:
        """Return what ingest went through."""
        async with (
            await psycopg.AsyncConnection.connect(self.conninfo) as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(RECORDED)
            return await cursor.fetchone() or {}


def checksum(rows: Iterable[Sequence[object]]) -> str:
    """Return the MD5 of the rows' sorted lines, written as the simulator writes its own."""
    lines = sorted("|".join(map(_word, row)) for row in rows)
    return hashlib.md5("\n".join(lines).encode(), usedforsecurity=False).hexdigest()


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)


async def soak(seed: int, *, events: int, kills: int, database_kills: int) -> Outcome:
    """Run one seed to its end and return what it ended with."""
    async with opened_bench(seed) as bench:
        began = time.monotonic()
        chance = Random(seed)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.keep_ingest_running)
            await bench.set(**FAULTS)
            await _torment(bench, chance, events=events, kills=kills, database_kills=database_kills)
            emit_s = time.monotonic() - began
            await bench.set()
            began = time.monotonic()
            ours, truth = await compare_until_equal(bench)
            outcome = Outcome(
                seed, ours, truth, kills, database_kills, await bench.recorded(),
                emit_s, time.monotonic() - began,
            )  # fmt: skip
            bench.stopped = True
            bench.kill_ingest()
        return outcome


async def _torment(bench: Bench, chance: Random, *, events: int, kills: int, database_kills: int) -> None:
    """Emit all events in as many rounds as there are kills; each round is one life of ingest.

    The burst of a round begins anywhere in it: while ingest starts, recovers, or listens, or as it dies.
    """
    database_rounds = set(chance.sample(range(kills), min(database_kills, kills)))
    for number in range(kills):
        life_s = chance.uniform(*LIFE_S)
        burst_at_s = chance.uniform(0, life_s)
        await anyio.sleep(burst_at_s)
        await bench.burst(events // kills)
        if number in database_rounds:
            bench.kill_database()
        if chance.random() < 0.1:
            await bench.set(**FAULTS, stream_mute_now=True)
        await anyio.sleep(life_s - burst_at_s)
        bench.kill_ingest()
    await until_emitted(bench)


async def until_emitted(bench: Bench) -> None:
    while True:
        jobs = (await bench.http.get("/sim/burst")).json()["bursts"]
        if all(job["state"] == "done" for job in jobs):
            return
        await anyio.sleep(0.2)


async def compare_until_equal(bench: Bench) -> tuple[dict[str, object], dict[str, object]]:
    """Return both sides as soon as they are equal, or as they are when patience ends."""
    truth = await bench.truth()
    deadline = time.monotonic() + CATCH_UP_S
    while True:
        try:
            ours: dict[str, object] = {**await bench.ours(), "events": truth["events"]}
            is_healed = (await bench.recorded())["open_gaps"] == 0
        except psycopg.OperationalError:
            ours, is_healed = {}, False  # killed a moment ago, and on its way back
        if (ours == truth and is_healed) or (ours and time.monotonic() > deadline):
            return ours, truth
        await anyio.sleep(0.5)


@asynccontextmanager
async def opened_bench(seed: int) -> AsyncIterator[Bench]:
    """Lend a database, a simulated broker and a configuration, all in a folder of their own."""
    async with AsyncExitStack() as stack:
        folder, port = stack.enter_context(open_folder()), _free_port()
        config = folder / "soak.toml"
        config.write_text(CONFIGURATION.format(folder=folder, port=port, seed=seed))
        conninfo = await stack.enter_async_context(embedded_server(folder / "postgres"))
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
        bench = Bench(folder, config, conninfo, await stack.enter_async_context(client))
        stack.callback(lambda: [log.close() for log in bench.logs])
        simulator = await bench.start("sim")
        stack.push_async_callback(_end, simulator)
        await _until_answering(bench.http)
        (await bench.http.put("/sim/trader", json={"on": False})).raise_for_status()
        yield bench


async def _until_answering(http: httpx.AsyncClient) -> None:
    with anyio.fail_after(30):
        while True:
            try:
                await http.get("/sim/trader")
            except httpx.TransportError:
                await anyio.sleep(0.1)
            else:
                return


async def _end(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        process.terminate()
        await process.wait()


@contextmanager
def open_folder() -> Iterator[Path]:
    """Lend a folder in which the database server's own user can reach its data."""
    folder = Path(tempfile.mkdtemp(prefix="coldharbour-bench-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COLDHARBOUR_")}


async def main() -> int:
    """Run every seed and print a line for each; return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=100_000, help="events of one seed")
    arguments.add_argument("--kills", type=int, default=100, help="kills of ingest within one seed")
    arguments.add_argument("--database-kills", type=int, default=10, help="kills of the database within one seed")
    arguments.add_argument("--seeds", type=int, default=5, help="how many seeds")
    arguments.add_argument("--first-seed", type=int, default=11, help="the first seed; the others follow it")
    given = arguments.parse_args()
    all_hold = True
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        outcome = await soak(seed, events=given.events, kills=given.kills, database_kills=given.database_kills)
        print(outcome, flush=True)
        all_hold &= outcome.holds
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main))
