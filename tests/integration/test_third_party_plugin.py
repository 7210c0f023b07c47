"""A third party's plugin: everything it offers is there, and whatever it does, the recording goes on beside it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psycopg
import pytest
from fakes.installation import PATIENCE_S, Installation, Running, eventually
from psycopg.rows import dict_row

LIGHTHOUSE = Path(__file__).parents[1] / "fakes" / "lighthouse"
RECOVERS_WITHIN_S = 30.0
LAG_LIMIT_S = 1.0  # from the broker's event to where everyone can read it, 99th percentile
PAGE_LIMIT_S = 0.25  # 99th percentile
EVENTS_PER_S = 100
TRADING_S = 300  # more than all of these tests take
LOOK_EVERY_S = 0.02
ASK_EVERY_S = 0.1
EXIT_CODE = 7
LEAK_BYTES = 200_000_000
NEW_FRAMES = """
    select id, extract(epoch from clock_timestamp() - (convert_from(frame, 'UTF8')::json #>> '{data,at}')::timestamptz)
    from account_activities.raw_events_paper where id > %s and event is not null order by id
"""


@dataclass
class Harbour:
    """The whole demo with the plugin installed, running."""

    demo: Installation
    running: Running
    conninfo: str

    def row(self, query: str, *values: object) -> dict[str, Any]:
        with psycopg.connect(self.conninfo, row_factory=dict_row) as conn:
            return conn.execute(query.encode(), values).fetchone() or {}

    def worker(self, kind: str, slug: str = "paper") -> dict[str, Any]:
        return self.row("select * from accounts.worker_status where destination = %s and kind = %s", slug, kind)

    def lamp(self) -> dict[str, Any]:
        return self.row("select * from accounts.lighthouse where destination = 'paper'")

    @contextmanager
    def watched(self) -> Iterator[Lateness]:
        """Look from outside, for as long as the block lasts, at how late the lake and the pages are."""
        seen, over = Lateness(), threading.Event()
        watchers = [threading.Thread(target=watch, args=[seen, over]) for watch in (self._watch_lake, self._watch_page)]
        for watcher in watchers:
            watcher.start()
        try:
            yield seen
        finally:
            over.set()
            for watcher in watchers:
                watcher.join()

    def _watch_lake(self, seen: Lateness, over: threading.Event) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            newest = conn.execute("select coalesce(max(id), 0) from account_activities.raw_events_paper").fetchall()
            while not over.wait(LOOK_EVERY_S):
                rows = conn.execute(NEW_FRAMES, newest[0][:1]).fetchall()
                seen.events_s += [float(late_s) for _, late_s in rows]
                newest = rows[-1:] or newest

    def _watch_page(self, seen: Lateness, over: threading.Event) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.demo.web_port}", timeout=PATIENCE_S) as browser:
            while not over.wait(ASK_EVERY_S):
                asked = time.monotonic()
                browser.get("/").raise_for_status()
                seen.pages_s.append(time.monotonic() - asked)

    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self.worker('lighthouse')['pid']}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@dataclass
class Lateness:
    """How late events could be read in the lake, and how long the page took to answer."""

    events_s: list[float] = field(default_factory=list)
    pages_s: list[float] = field(default_factory=list)


def p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the plugin, as it would anywhere."""
    source, target = tmp_path_factory.mktemp("source") / "lighthouse", tmp_path_factory.mktemp("site")
    shutil.copytree(LIGHTHOUSE, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
           "--no-build-isolation", "--target", str(target), str(source)]  # fmt: skip
    subprocess.run(pip, check=True, timeout=60, capture_output=True)
    return target


@pytest.fixture(scope="module")
def demo(site: Path) -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="coldharbour-test-"))
    folder.chmod(0o711)  # the embedded server's user passes through
    yield Installation(folder, environ={"PYTHONPATH": str(site)})
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def harbour(demo: Installation) -> Iterator[Harbour]:
    with demo.started("run") as running:
        eventually(demo.is_ready, what=running.said)
        yield Harbour(demo, running, demo.call("db", "url").stdout.strip())


@pytest.fixture(scope="module")
def trading(harbour: Harbour) -> Harbour:
    """The same, while the broker has news all the time."""
    harbour.demo.trade(events=EVENTS_PER_S * TRADING_S, per_s=EVENTS_PER_S)
    return harbour


def test_its_worker_runs_in_a_process_of_its_own(harbour: Harbour) -> None:
    lighthouse, stream = harbour.worker("lighthouse"), harbour.worker("stream")

    assert (lighthouse["service"], lighthouse["state"]) == ("lighthouse", "ready")
    assert lighthouse["pid"] == harbour.demo.service("lighthouse") == harbour.lamp()["pid"]
    assert stream["pid"] == harbour.demo.service("ingest") != lighthouse["pid"]


@pytest.mark.parametrize("slug", ["paper", "swing_short"])
def test_its_panel_is_on_the_page_of_every_account(harbour: Harbour, slug: str) -> None:
    eventually(lambda: "</span> beams" in harbour.demo.page(f"/{slug}/").text)
    text = harbour.demo.page(f"/{slug}/").text

    assert f'id="panel-lighthouse-{slug}"' in text
    assert "Lighthouse</h2>" in text


def test_its_observer_is_told_what_happens_in_other_processes(harbour: Harbour) -> None:
    harbour.demo.trade(events=20)

    eventually(lambda: harbour.lamp()["seen"] > 0, what=harbour.lamp)


def test_its_command_is_one_of_the_commands(harbour: Harbour) -> None:
    helped = harbour.demo.call("lighthouse", "--help")
    assert "Show the lighthouse of an account" in helped.stdout

    told = harbour.demo.call("lighthouse", "--destination", "paper")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("paper: ")


def test_it_is_listed_with_where_it_came_from(harbour: Harbour) -> None:
    listed = harbour.demo.call("plugins").stdout

    assert "lighthouse  (coldharbour-lighthouse 1.0.0, coldharbour_lighthouse)" in listed
    assert "worker: lighthouse, every interval_s, in process lighthouse" in listed


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("MODE", "explode", "workers.lighthouse.mode: input should be 'ok', 'raise', 'hang', 'block', 'leak' "
                            "or 'exit', got 'explode'"),
        ("INTERVAL_S", "0", "workers.lighthouse.interval_s: input should be greater than 0, got '0'"),
        ("COLOUR", "red", "workers.lighthouse.colour: unknown key: known are interval_s, mode"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(demo: Installation, variable: str, value: str, problem: str) -> None:
    checked = demo.call("check", **{f"COLDHARBOUR_WORKERS__LIGHTHOUSE__{variable}": value})

    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [f"{demo.config}: {problem}"]


def raised(harbour: Harbour) -> bool:
    return str(harbour.worker("lighthouse")["last_error"]) == "RuntimeError: the lamp is broken"


def hung(harbour: Harbour) -> bool:
    return str(harbour.worker("lighthouse")["last_error"]).startswith("Stalled: ")


def blocked(harbour: Harbour) -> bool:
    return '"event": "loop.dead"' in harbour.running.said() and '"task": "lighthouse@paper"' in harbour.running.said()


def leaked(harbour: Harbour) -> bool:
    return harbour.memory_bytes() > LEAK_BYTES


def exited(harbour: Harbour) -> bool:
    return f'"exit_code": {EXIT_CODE}' in harbour.running.said()


@pytest.mark.timed
@pytest.mark.parametrize(
    ("mode", "happened"),
    [("raise", raised), ("hang", hung), ("leak", leaked), ("block", blocked), ("exit", exited)],
    ids=["raise", "hang", "leak", "block", "exit"],
)
def test_whatever_it_does_the_lake_keeps_up_and_it_comes_back(
    trading: Harbour, mode: str, happened: Callable[[Harbour], bool]
) -> None:
    with trading.watched() as lateness:
        trading.demo.call("lighthouse", "--destination", "paper", "--signal", mode)
        began = time.monotonic()
        eventually(lambda: happened(trading), RECOVERS_WITHIN_S, lambda: trading.worker("lighthouse"))
        beams = trading.lamp()["beams"]
        eventually(
            lambda: trading.lamp()["beams"] > beams + 1 and trading.worker("lighthouse")["state"] == "ready",
            RECOVERS_WITHIN_S,
            lambda: (trading.worker("lighthouse"), trading.running.said()[-2000:]),
        )
        recovered_s = time.monotonic() - began

    assert recovered_s <= RECOVERS_WITHIN_S
    assert len(lateness.events_s) > EVENTS_PER_S
    assert p99(lateness.events_s) < LAG_LIMIT_S
    assert p99(lateness.pages_s) < PAGE_LIMIT_S
    assert trading.worker("stream")["state"] == "ready"
    assert trading.worker("stream")["restarts"] == 0
