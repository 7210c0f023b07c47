"""Whether ingest ends well at any moment: SIGTERM while it starts, recovers, records and writes, a thousand times.

A simulated broker emits events in bursts all the time. Ingest is started as in production and asked to end at a
moment that chance decides. Each time it must be gone within 5 s with exit code 0, without a traceback, and leave no
session, no open transaction and no lock in the database. At the end ingest catches up, and what the raw tables hold is
compared with the broker's truth by counts and checksums; then everything ends, and no process may be left. Exit 1 if
anything differs.

    python benchmarks/shutdown.py --rounds 1000
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median, quantiles

import anyio
import psycopg
from soak import Bench, compare_until_equal, opened_bench, until_emitted

LIMIT_S = 5.0
PATIENCE_S = 15.0
LIFE_S = (0.05, 4.0)  # from before it can be asked until it has recorded for a while
BURST = 100  # events of a round
LEFT = """
    select (select count(*) from pg_stat_activity where application_name like 'coldharbour/%'),
        (select count(*) from pg_stat_activity where state like 'idle in transaction%'),
        (select count(*) from pg_locks where locktype = 'advisory')
"""


@dataclass
class Record:
    """What the rounds of one run showed."""

    took_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, story: str, took_s: float, code: int | None, left: Sequence[int]) -> None:
        """Take in one round: how long the end took, its exit code, and the sessions, transactions and locks left."""
        self.took_s.append(took_s)
        if took_s > LIMIT_S:
            self.faults.append(f"{story}: ended after {took_s:.1f} s")
        if code not in (0, -signal.SIGTERM):  # the signal itself, before Python could take it over
            self.faults.append(f"{story}: exit code {code}")
        if any(left):
            self.faults.append(f"{story}: left {left[0]} sessions, {left[1]} open transactions, {left[2]} locks")

    def __str__(self) -> str:
        p99_s = quantiles(self.took_s, n=100, method="inclusive")[98]
        figures = f"p50 {median(self.took_s):.2f} s, p99 {p99_s:.2f} s, max {max(self.took_s):.2f} s"
        return f"{len(self.took_s)} ends: {figures}, limit {LIMIT_S:g} s"


async def end_at_any_moment(bench: Bench, chance: Random, record: Record, rounds: int) -> None:
    """Start ingest and ask it to end, so many times, while events come."""
    for number in range(rounds):
        life_s = chance.uniform(*LIFE_S)
        ingest = await bench.start("run", "--service", "ingest")
        await anyio.sleep(chance.uniform(0, life_s))
        await bench.burst(BURST)
        await anyio.sleep(chance.uniform(0, life_s))
        began = time.monotonic()
        ingest.terminate()
        with anyio.move_on_after(PATIENCE_S):
            await ingest.wait()
        took_s = time.monotonic() - began
        record.add(f"round {number}, after {life_s:.2f} s", took_s, ingest.returncode, await left_behind(bench))
        if ingest.returncode is None:
            ingest.kill()
            await ingest.wait()
        if (number + 1) % 100 == 0:
            print(record, flush=True)


async def left_behind(bench: Bench) -> tuple[int, int, int]:
    """Return how many sessions, open transactions and advisory locks are left; the server may take a moment to see."""
    deadline = time.monotonic() + 1
    while True:
        async with await psycopg.AsyncConnection.connect(bench.conninfo) as conn:
            [(sessions, transactions, locks)] = await (await conn.execute(LEFT)).fetchall()
        if not (sessions or transactions or locks) or time.monotonic() > deadline:
            return sessions, transactions, locks
        await anyio.sleep(0.02)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of the processes that have to do with a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            home = str((process / "cwd").readlink())
        except OSError:  # it ended meanwhile
            continue
        if line and (str(folder) in line or home.startswith(str(folder))):
            found.append(line.strip())
    return found


async def run(rounds: int, seed: int) -> list[str]:
    """Run all rounds, print the figures, and return what went wrong."""
    record = Record()
    async with opened_bench(seed) as bench:
        await end_at_any_moment(bench, Random(seed), record, rounds)
        await until_emitted(bench)
        record.faults += [f"a traceback in {log.name}" for log in bench.folder.glob("run.log") if _has_traceback(log)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.keep_ingest_running)
            ours, truth = await compare_until_equal(bench)
            bench.stopped = True
            bench.kill_ingest()
    verdict = "equal to the truth" if ours == truth else f"DIFFERENT: {ours} is not {truth}"
    print(f"{record}; {truth['events']} events: {verdict}")
    if ours != truth:
        record.faults.append("the tables differ from the truth")
    return record.faults + [f"still running: {line}" for line in processes_of(bench.folder)]


def _has_traceback(log: Path) -> bool:
    return "Traceback" in log.read_text(errors="replace")


def main() -> int:
    """Run and print what went wrong; return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=1000, help="how many times ingest is ended")
    arguments.add_argument("--seed", type=int, default=1, help="the seed of the moments")
    given = arguments.parse_args()
    faults = anyio.run(run, given.rounds, given.seed)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
