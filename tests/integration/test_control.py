"""Operators' control of workers: a pause holds, outlives restarts and other processes, and a cycle comes at once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskStatus
from fakes.harbour import PATIENCE_S, Harbour, Rhythm, open_harbour
from psycopg.conninfo import conninfo_to_dict

from coldharbour import requests
from coldharbour.accounts import AccountContext
from coldharbour.errors import NeedsOperator
from coldharbour.lanes import Paused
from coldharbour.requests import Action
from coldharbour.requests.store import RequestRow, request_by_id
from coldharbour.sessions import REGULAR_HOURS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def harbour(database_url: str, tmp_path: Path) -> AsyncIterator[Harbour]:
    async with open_harbour(database_url, tmp_path) as opened:
        yield opened


class Cycles:
    """A periodic worker that counts its cycles and can be held in the middle of one."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.may_end = anyio.Event()
        self.may_end.set()
        self.moved = anyio.Event()

    async def __call__(self, _ctx: AccountContext, _cfg: Rhythm) -> None:
        self.begun += 1
        self._move()
        await self.may_end.wait()
        self.ended += 1
        self._move()

    def _move(self) -> None:
        self.moved.set()
        self.moved = anyio.Event()

    async def until(self, *, begun: int, ended: int) -> None:
        with anyio.fail_after(PATIENCE_S):
            while (self.begun, self.ended) != (begun, ended):
                await self.moved.wait()


async def asked(harbour: Harbour, action: Action) -> RequestRow:
    """Ask something of the worker and return the request once it is settled."""
    async with harbour.db.transaction() as conn:
        request = await requests.ask(
            conn, destination="paper", worker="probe", action=action, asked_by="anna", now=datetime.now(UTC)
        )
    await requests.announce(harbour.db, "paper")
    return await settled(harbour, request)


async def settled(harbour: Harbour, request: RequestRow) -> RequestRow:
    """Return a request once its outcome is on record."""
    async with harbour.db.listener() as listener, listener.subscribe("request_channel_paper") as notes:
        with anyio.fail_after(PATIENCE_S):
            async for _ in notes:
                async with harbour.db.transaction() as conn:
                    row = await request_by_id(conn, "paper", request.id)
                if row is not None and row.outcome is not None:
                    return row
    raise AssertionError("the listener ended")


async def test_a_paused_worker_runs_no_cycle_until_it_is_resumed(harbour: Harbour) -> None:
    cycles = Cycles()
    async with harbour.running(harbour.assign(cycles)):
        await harbour.until_state("ready")

        paused = await asked(harbour, Action.PAUSE)
        row = await harbour.until_state("paused")
        refused = await asked(harbour, Action.CYCLE)
        at_rest = cycles.begun
        resumed = await asked(harbour, Action.RESUME)
        await harbour.until_state("ready")
        await cycles.until(begun=2, ended=2)

    assert (paused.outcome, resumed.outcome, row.detail) == ("done", "done", "by anna")
    assert (refused.outcome, refused.detail) == ("refused", "it is paused by anna: resume it first")
    assert at_rest == 1


async def test_a_pause_outlives_a_restart(harbour: Harbour) -> None:
    cycles = Cycles()
    async with harbour.running(harbour.assign(cycles)):
        await harbour.until_state("ready")
        await asked(harbour, Action.PAUSE)
        await harbour.until_state("paused")

    async with harbour.running(harbour.assign(cycles)):
        await harbour.until_state("paused")
    kernel = await harbour.kernel(harbour.assign(cycles))
    with pytest.raises(Paused, match="probe of paper is paused by anna"):
        await kernel.run_one_cycle()

    assert cycles.begun == 1


async def test_a_cycle_that_runs_is_finished_before_the_pause_begins(harbour: Harbour) -> None:
    cycles = Cycles()
    cycles.may_end = anyio.Event()
    async with harbour.running(harbour.assign(cycles)):
        await cycles.until(begun=1, ended=0)
        await asked(harbour, Action.PAUSE)

        cycles.may_end.set()
        await harbour.until_state("paused")

    assert (cycles.begun, cycles.ended) == (1, 1)


async def test_a_worker_that_runs_until_stopped_is_stopped_by_a_pause_and_started_again(harbour: Harbour) -> None:
    lives = []

    async def run(_ctx: AccountContext, _cfg: Rhythm, *, task_status: TaskStatus[None]) -> None:
        lives.append("began")
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            lives.append("ended")

    async with harbour.running(harbour.assign(run, every="")):
        await harbour.until_state("ready")
        await asked(harbour, Action.PAUSE)
        await harbour.until_state("paused")
        at_rest = [*lives]
        refused = await asked(harbour, Action.CYCLE)
        await asked(harbour, Action.RESUME)
        await harbour.until_state("ready")

    assert at_rest == ["began", "ended"]
    assert refused.detail == "it runs until stopped and has no cycles"
    assert lives == ["began", "ended", "began", "ended"]


async def test_a_pause_holds_in_the_process_that_would_take_over(harbour: Harbour) -> None:
    cycles = Cycles()
    async with harbour.running(harbour.assign(cycles), name="first"):
        await harbour.until_state("ready")
        async with harbour.running(harbour.assign(cycles), name="second") as second:
            await harbour.until(lambda _row: bool(second.lanes) and second.lanes[0].standby)

            await asked(harbour, Action.PAUSE)
            await harbour.until(lambda row: row.state == "paused" and second.lanes[0].status.state == "paused")
            at_rest = cycles.begun
            await asked(harbour, Action.RESUME)
            await harbour.until_state("ready")

    assert at_rest == 1


async def test_a_parked_worker_can_be_paused_and_tries_again_when_resumed(harbour: Harbour) -> None:
    failures = [NeedsOperator("the keys were refused")]

    async def run(_ctx: AccountContext, _cfg: Rhythm) -> None:
        if failures:
            raise failures.pop()

    async with harbour.running(harbour.assign(run)):
        await harbour.until_state("parked")
        await asked(harbour, Action.PAUSE)
        await harbour.until_state("paused")
        await asked(harbour, Action.RESUME)
        await harbour.until_state("ready")


async def test_a_cycle_that_is_asked_for_comes_at_once(harbour: Harbour) -> None:
    cycles = Cycles()
    async with harbour.running(harbour.assign(cycles)):
        await cycles.until(begun=1, ended=1)

        request = await asked(harbour, Action.CYCLE)
        await cycles.until(begun=2, ended=2)

    assert (request.outcome, request.detail) == ("done", "its next cycle begins at once")


async def test_a_sleeping_worker_is_not_woken_outside_its_phases(harbour: Harbour) -> None:
    cycles = Cycles()
    opens = datetime.now(UTC) + timedelta(hours=1)
    await harbour.open_market(opens, opens + timedelta(hours=1))
    async with harbour.running(harbour.assign(cycles, phases=REGULAR_HOURS)):
        await harbour.until_state("sleeping")

        request = await asked(harbour, Action.CYCLE)

    assert (request.outcome, request.detail, cycles.begun) == ("refused", "it sleeps: it runs in regular", 0)


async def test_what_nobody_took_in_time_is_settled_by_whoever_runs(harbour: Harbour) -> None:
    async with harbour.db.transaction() as conn:
        request = await requests.ask(
            conn, destination="paper", worker="elsewhere", action=Action.CYCLE, asked_by="anna",
            now=datetime.now(UTC) - timedelta(hours=1),
        )  # fmt: skip

    async with harbour.running(harbour.assign(Cycles())):
        row = await settled(harbour, request)

    assert row.outcome == "expired"


async def test_the_command_pauses_a_running_worker_and_says_what_became_of_it(
    database_url: str, tmp_path: Path
) -> None:
    parts = conninfo_to_dict(database_url)
    table = f"""[database]\nurl = "{" ".join(f"{key}='{value}'" for key, value in parts.items())}"\n"""

    async def run(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "coldharbour", "worker", *words, "--config", str(tmp_path / "harbour.toml")]
        done = await anyio.run_process(command, check=False)
        return done.returncode, done.stdout.decode()

    async with (
        open_harbour(database_url, tmp_path, table) as harbour,
        harbour.running(harbour.assign(Cycles(), kind="healing")),
    ):
        paused = await run("pause", "healing", "--destination", "paper")
        await harbour.until_state("paused", kind="healing")
        refused = await run("cycle", "healing", "--destination", "paper")

    assert paused == (0, "paper: healing: done: paused until resumed\n")
    assert refused[0] == 1
    assert refused[1].startswith("paper: healing: refused: it is paused by ")
