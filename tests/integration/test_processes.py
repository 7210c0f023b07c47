"""Processes: they stop in time and leave nothing behind, come back when they die, and supervisord commands them."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from fakes.installation import Installation, Running, eventually

ROOT = Path(__file__).parents[2]
STOPS_WITHIN_S = 5.0
ROUNDS = 4
FLAW = """
from coldharbour.hookspecs import WorkerSpec, hookimpl
from pydantic import BaseModel

class FlawSettings(BaseModel, frozen=True, extra="forbid"):
    interval_s: float = 60

async def fail(ctx, cfg):
    raise ZeroDivisionError("a flaw")

@hookimpl
def register_workers():
    return [WorkerSpec(kind="flaw", settings=FlawSettings, run=fail, every="interval_s", per_account=False)]
"""


@pytest.fixture
def demo(open_folder: Path) -> Installation:
    """The demo with its embedded server, in a folder of its own."""
    return Installation(open_folder)


def stop(demo: Installation, running: Running, how: signal.Signals) -> float:
    """Return the seconds until nothing of the installation was left."""
    began = time.monotonic()
    running.process.send_signal(how)
    running.process.wait(3 * STOPS_WITHIN_S)
    eventually(lambda: not demo.processes(), STOPS_WITHIN_S, demo.processes)
    return time.monotonic() - began


class TestStopping:
    @pytest.mark.timed
    @pytest.mark.parametrize("number", range(ROUNDS))
    def test_a_signal_at_any_moment_ends_all_of_it_in_time(
        self, demo: Installation, number: int, record_property: Callable[[str, object], None]
    ) -> None:
        seed = int(os.environ.get("COLDHARBOUR_TEST_SEED", random.randrange(10**6)))
        chance = random.Random(seed + number)
        delay_s, how = chance.uniform(0.3, 7), (signal.SIGTERM, signal.SIGINT)[number % 2]
        record_property("seed", seed)
        story = f"seed {seed}, round {number}: {how.name} after {delay_s:.2f} s"

        with demo.started("run") as running:
            time.sleep(delay_s)  # the moment is the point
            took_s = stop(demo, running, how)

            report = f"{story}\n{running.said()}"
            assert running.process.returncode in (0, 130, -how), report
            assert took_s <= STOPS_WITHIN_S, report
            assert "Traceback" not in report
            assert "process.killed" not in report

    @pytest.mark.timed
    def test_no_session_is_left_in_a_transaction(self, demo: Installation, database_url: str, postgres: str) -> None:
        demo.database = database_url
        demo.write(demo.demo())

        with demo.started("run") as running:
            eventually(demo.is_ready, what=running.said)
            assert stop(demo, running, signal.SIGTERM) <= STOPS_WITHIN_S

        with psycopg.connect(postgres) as admin:
            left = admin.execute(
                "select pid, state, query from pg_stat_activity where application_name like 'coldharbour/%'"
            ).fetchall()
        assert left == []

    @pytest.mark.parametrize("delay_s", [0.4, 1.2, 8.0])
    def test_the_children_end_when_their_parent_is_killed(self, demo: Installation, delay_s: float) -> None:
        with demo.started("run") as running:
            time.sleep(delay_s)  # the moment is the point
            running.process.kill()
            running.process.wait()

            eventually(lambda: not demo.processes(), 3 * STOPS_WITHIN_S, demo.processes)


class TestComingBack:
    def test_a_process_that_is_killed_comes_back(self, demo: Installation) -> None:
        with demo.started("run") as running:
            eventually(demo.is_ready, what=running.said)
            killed = demo.service("ingest")

            os.kill(killed, signal.SIGKILL)
            eventually(lambda: demo.service("ingest") != killed)
            eventually(demo.is_ready, what=lambda: (demo.page("/readyz").text, running.said()))

            assert '"event": "process.ended"' in running.said()
            assert '"service": "ingest"' in running.said()

    def test_a_standby_records_on_when_the_first_node_is_killed(self, demo: Installation) -> None:
        with (
            demo.started("run", "--service", "sim"),
            demo.started("run", "--service", "ingest") as first,
        ):
            conninfo = demo.call("db", "url").stdout.strip()
            eventually(lambda: recorder(conninfo) == first.process.pid, what=first.said)
            with demo.started("run", "--service", "ingest") as second:
                eventually(lambda: lease_sessions(conninfo) == 2, what=second.said)

                first.process.kill()
                eventually(lambda: recorder(conninfo) == second.process.pid, 15, second.said)
                before = recorded_frames(demo, conninfo)
                demo.trade(events=50)

                eventually(lambda: recorded_frames(demo, conninfo) >= before + 50, what=second.said)

    def test_a_process_whose_workers_all_gave_up_ends_with_3(self, demo: Installation) -> None:
        plugins = demo.folder / "plugins"
        plugins.mkdir()
        (plugins / "flaw.py").write_text(FLAW)
        demo.more = f"[plugins]\ndirectory = '{plugins}'"
        demo.write(demo.demo())

        with demo.started("run", "--worker", "flaw") as running:
            assert running.process.wait(60) == 3

            last = running.said().splitlines()[-2:]
            assert last == [
                "error: a worker failed too often and was stopped",
                "hint: its last error is above and on the page",
            ]
            assert '"event": "worker.gave_up"' in running.said()


class Supervisord:
    """supervisord with the project's own configuration, moved to an installation's folder."""

    def __init__(self, demo: Installation) -> None:
        self.demo = demo
        text = (ROOT / "supervisord.conf").read_text()
        text = text.replace(".venv/bin/coldharbour", f'"{sys.executable}" -m coldharbour').replace(
            "%(here)s", str(ROOT)
        )
        self.conf = demo.folder / "supervisord.conf"
        self.conf.write_text(re.sub(r"\bvar/|(?<== )var$", f"{demo.folder}/", text, flags=re.MULTILINE))

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.conf)]
        with (self.demo.folder / "output.log").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=self.demo.environment())
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)
            self.demo.kill_rest()

    def ctl(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.conf), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    def states(self) -> dict[str, str]:
        """Return the state of every program, by name."""
        lines = (line.split() for line in self.ctl("status").splitlines())
        return {words[0]: words[1] for words in lines if len(words) > 1}

    def pid(self, program: str) -> int:
        return int(self.ctl("pid", program))


def recorded_frames(demo: Installation, conninfo: str) -> int:
    with psycopg.connect(conninfo) as conn:
        [count] = conn.execute("select count(*) from account_activities.raw_events_paper").fetchone() or [0]
    return int(count)


def recorder(conninfo: str) -> int | None:
    """Return the pid of the process whose stream worker is ready."""
    query = "select pid from accounts.worker_status where (destination, kind, state) = ('paper', 'stream', 'ready')"
    with psycopg.connect(conninfo) as conn:
        try:
            row = conn.execute(query).fetchone()
        except psycopg.errors.UndefinedTable:  # the node has not made them yet
            return None
    return row[0] if row else None


def lease_sessions(conninfo: str) -> int:
    """Return how many processes hold leases, or wait for them."""
    query = "select count(*) from pg_stat_activity where application_name like 'coldharbour/%leases'"
    with psycopg.connect(conninfo) as conn:
        [count] = conn.execute(query).fetchone() or [0]
    return int(count)


class TestSupervisord:
    def test_it_commands_every_program_and_the_lake_needs_none_of_the_others(self, demo: Installation) -> None:
        supervisord = Supervisord(demo)
        with supervisord.running():
            eventually(demo.is_ready, what=supervisord.states)
            off = {"notify": "EXITED", "tunnel": "STOPPED"}  # the configuration has no use for either
            running = dict.fromkeys(("ingest", "manage", "risk", "web", "sim"), "RUNNING")
            eventually(lambda: supervisord.states() == running | off, what=supervisord.states)
            conninfo = demo.call("db", "url").stdout.strip()

            supervisord.ctl("stop", "web", "manage", "risk")
            stopped = dict.fromkeys(("web", "manage", "risk"), "STOPPED")
            assert supervisord.states() == running | stopped | off
            before = recorded_frames(demo, conninfo)
            demo.trade(events=50)
            eventually(lambda: recorded_frames(demo, conninfo) >= before + 50)

            killed = supervisord.pid("ingest")
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: supervisord.states()["ingest"] == "RUNNING" and supervisord.pid("ingest") != killed)

            supervisord.ctl("start", "web", "manage", "risk")
            eventually(demo.is_ready, what=supervisord.states)
            restarted = supervisord.pid("web")
            supervisord.ctl("restart", "web")
            assert supervisord.pid("web") != restarted
            eventually(demo.is_ready, what=supervisord.states)

        eventually(lambda: not demo.processes(), STOPS_WITHIN_S, demo.processes)
