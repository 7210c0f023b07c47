"""The kernel: every failure of a worker ends where it should, in a state that people see, and harms no other."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
import structlog
from anyio.abc import TaskStatus
from coldharbour_plugins.simulator.pace import PacedClock
from fakes.harbour import PATIENCE_S, Harbour, Rhythm, open_harbour

from coldharbour import lanes, store
from coldharbour.accounts import AccountContext
from coldharbour.clock import SystemClock
from coldharbour.db import notify
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.events import WorkerFailed, WorkerGaveUp, WorkerParked
from coldharbour.lanes import Busy
from coldharbour.sessions import REGULAR_HOURS
from coldharbour.store import WorkerRow
from coldharbour.supervise import LeaseLost

pytestmark = pytest.mark.anyio

PACE = 30.0  # how much faster the kernel's clock runs where only its own waits are looked at


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """Every line that was logged, as facts."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def harbour(database_url: str, tmp_path: Path) -> AsyncIterator[Harbour]:
    async with open_harbour(database_url, tmp_path) as harbour:
        yield harbour


@pytest.fixture
def fast() -> PacedClock:
    return PacedClock(SystemClock(), PACE)


class Turns:
    """A periodic worker that fails as it is told, one failure per turn, and then works."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.taken: list[AccountContext] = []
        self.first, self.second = anyio.Event(), anyio.Event()

    async def __call__(self, ctx: AccountContext, _cfg: Rhythm) -> None:
        self.taken.append(ctx)
        (self.second if self.first.is_set() else self.first).set()
        if self.failures:
            raise self.failures.pop(0)

    @property
    def accounts(self) -> list[str]:
        return [ctx.destination.slug for ctx in self.taken]


def another_than(earlier: WorkerRow) -> Callable[[WorkerRow], bool]:
    """Return whether a worker succeeded again since."""
    return lambda row: row.last_success != earlier.last_success


async def fine(_ctx: AccountContext, _cfg: Rhythm) -> None:
    """A worker with nothing to do."""


class TestStates:
    async def test_a_worker_that_works_is_ready_and_says_where_it_runs(self, harbour: Harbour) -> None:
        async with harbour.running(harbour.assign(fine)):
            row = await harbour.until_state("ready")

        assert (row.service, row.host, row.pid) == ("test", socket.gethostname(), os.getpid())
        assert row.last_success is not None
        assert (row.last_error, row.restarts) == (None, 0)

    async def test_it_is_stopped_when_its_process_was_told_to_end(self, harbour: Harbour) -> None:
        async with harbour.running(harbour.assign(fine)):
            await harbour.until_state("ready")

        row = await harbour.row()
        assert row is not None
        assert row.state == "stopped"

    async def test_one_that_runs_until_stopped_is_ready_when_it_says_so(self, harbour: Harbour) -> None:
        may_start = anyio.Event()

        async def patient(_ctx: AccountContext, _cfg: Rhythm, *, task_status: TaskStatus[None]) -> None:
            await may_start.wait()
            task_status.started()
            await anyio.sleep_forever()

        async with harbour.running(harbour.assign(patient, every="")):
            row = await harbour.until_state("starting")
            assert row.last_success is None
            may_start.set()
            await harbour.until_state("ready")

    async def test_what_may_pass_is_retried_until_it_did(self, harbour: Harbour) -> None:
        turns = Turns(Transient("the broker is away"))

        async with harbour.running(harbour.assign(turns)):
            retrying = await harbour.until_state("retrying")
            ready = await harbour.until_state("ready")

        assert retrying.detail == retrying.last_error == "the broker is away"
        assert (ready.detail, ready.last_error, ready.restarts) == ("", "the broker is away", 0)
        assert len(turns.taken) == 2
        assert await harbour.journal() == []

    async def test_what_a_person_must_mend_is_parked_until_someone_says_it_is_done(self, harbour: Harbour) -> None:
        turns = Turns(NeedsOperator("the keys were refused", hint="make new ones"))

        async with harbour.running(harbour.assign(turns)) as kernel:
            parked = await harbour.until_state("parked")
            assert parked.detail == "the keys were refused"
            kernel.wake("paper", "probe")
            await harbour.until_state("ready")

        [(account, event)] = await harbour.journal()
        assert account == "paper"
        assert isinstance(event, WorkerParked)
        assert (event.worker, event.error) == ("probe", "the keys were refused")

    async def test_a_bug_is_counted_and_the_worker_is_started_again(self, harbour: Harbour) -> None:
        async with harbour.running(harbour.assign(Turns(ZeroDivisionError("division by zero")))):
            row = await harbour.until(lambda row: row.state == "ready" and row.restarts == 1)

        assert row.last_error == "ZeroDivisionError: division by zero"
        [(_, event)] = await harbour.journal()
        assert isinstance(event, WorkerFailed)

    async def test_too_many_bugs_end_it_for_good_and_the_kernel_says_so(
        self, harbour: Harbour, fast: PacedClock
    ) -> None:
        turns = Turns(*[ZeroDivisionError("again")] * 99)
        kernel = await harbour.kernel(harbour.assign(turns), clock=fast)

        with anyio.fail_after(PATIENCE_S):
            assert await kernel.run() is True

        row = await harbour.row()
        assert row is not None
        assert (row.state, row.restarts, len(turns.taken)) == ("gave_up", 6, 6)
        events = [event for _, event in await harbour.journal()]
        assert [type(event) for event in events] == [WorkerFailed] * 5 + [WorkerGaveUp]

    async def test_one_that_comes_back_although_it_should_not_has_a_bug(self, harbour: Harbour) -> None:
        async def brief(_ctx: AccountContext, _cfg: Rhythm, *, task_status: TaskStatus[None]) -> None:
            task_status.started()

        async with harbour.running(harbour.assign(brief, every="")):
            row = await harbour.until(lambda row: row.restarts == 1)

        assert row.last_error == "Returned: worker probe ended by itself"

    async def test_how_far_it_is_behind_is_shown(self, harbour: Harbour) -> None:
        async def late(ctx: AccountContext, _cfg: Rhythm) -> None:
            ctx.lag(1.5)

        async with harbour.running(harbour.assign(late)):
            row = await harbour.until_state("ready")

        assert row.lag_s == 1.5


class TestContainment:
    async def test_a_cycle_without_a_sign_of_life_is_cancelled_and_counted(
        self, harbour: Harbour, fast: PacedClock
    ) -> None:
        ended: list[str] = []

        async def hang(_ctx: AccountContext, _cfg: Rhythm) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("cancelled")

        async with harbour.running(harbour.assign(hang, stall_s=5), clock=fast):
            row = await harbour.until(lambda row: row.restarts >= 1)

        assert (row.last_error or "").startswith("Stalled: no sign of life for ")
        assert ended

    async def test_a_worker_that_never_becomes_ready_is_cancelled_and_counted(
        self, harbour: Harbour, fast: PacedClock
    ) -> None:
        async def never(_ctx: AccountContext, _cfg: Rhythm, *, task_status: TaskStatus[None]) -> None:
            await anyio.sleep_forever()

        async with harbour.running(harbour.assign(never, every="", stall_s=5), clock=fast):
            row = await harbour.until(lambda row: row.restarts >= 1)

        assert (row.last_error or "").startswith("Stalled: ")

    async def test_long_work_that_says_it_is_alive_is_left_alone(self, harbour: Harbour, fast: PacedClock) -> None:
        async def long(ctx: AccountContext, _cfg: Rhythm) -> None:
            for _ in range(20):
                await ctx.clock.sleep(2)
                ctx.alive()

        async with harbour.running(harbour.assign(long, stall_s=5), clock=fast):
            row = await harbour.until_state("ready")

        assert row.restarts == 0

    async def test_sys_exit_in_a_cycle_harms_only_that_worker(self, harbour: Harbour) -> None:
        workers = [*harbour.assign(Turns(SystemExit(7))), *harbour.assign(fine, kind="bystander")]

        async with harbour.running(workers):
            row = await harbour.until(lambda row: row.restarts == 1)
            assert (await harbour.until_state("ready", "bystander")).restarts == 0
            await harbour.until_state("ready")

        assert row.last_error == "SystemExit: 7"

    async def test_sys_exit_in_a_worker_that_runs_until_stopped_harms_only_that_worker(self, harbour: Harbour) -> None:
        async def leave(_ctx: AccountContext, _cfg: Rhythm, *, task_status: TaskStatus[None]) -> None:
            task_status.started()
            raise SystemExit(7)

        async with harbour.running([*harbour.assign(leave, every=""), *harbour.assign(fine, kind="bystander")]):
            row = await harbour.until(lambda row: row.restarts == 1)
            assert (await harbour.until_state("ready", "bystander")).restarts == 0

        assert row.last_error == "Exited: worker probe called sys.exit(7)"

    async def test_the_failure_of_one_account_never_touches_another(self, harbour: Harbour, fast: PacedClock) -> None:
        async def fail_on_paper(ctx: AccountContext, _cfg: Rhythm) -> None:
            if ctx.destination.slug == "paper":
                raise ZeroDivisionError("only here")

        async with harbour.running(harbour.assign(fail_on_paper, to=("paper", "swing")), clock=fast):
            await harbour.until_state("gave_up", slug="paper")
            swing = await harbour.until_state("ready", slug="swing")

        assert (swing.restarts, swing.last_error) == (0, None)
        assert {account for account, _ in await harbour.journal()} == {"paper"}

    async def test_a_single_cycle_of_every_account_is_run_although_one_fails(self, harbour: Harbour) -> None:
        turns = Turns(NeedsOperator("the keys were refused"))
        kernel = await harbour.kernel(harbour.assign(turns, to=("paper", "swing")))

        with pytest.raises(NeedsOperator, match="the keys were refused"):
            await kernel.run_one_cycle()

        assert turns.accounts == ["paper", "swing"]

    async def test_a_single_cycle_never_runs_beside_another_process(
        self, harbour: Harbour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lanes, "CYCLE_WAITS_S", 0.5)
        async with harbour.running(harbour.assign(fine)):
            await harbour.until_state("ready")
            kernel = await harbour.kernel(harbour.assign(fine))

            with pytest.raises(Busy, match="probe of paper is already running elsewhere"):
                await kernel.run_one_cycle()


class TestPhases:
    async def test_a_worker_sleeps_outside_its_phases_and_works_within_them(
        self, harbour: Harbour, fast: PacedClock
    ) -> None:
        turns = Turns()
        opens = fast.now() + timedelta(seconds=2 * PACE)
        await harbour.open_market(opens, opens + timedelta(seconds=2 * PACE))

        async with harbour.running(harbour.assign(turns, phases=REGULAR_HOURS), clock=fast):
            sleeping = await harbour.until_state("sleeping")
            assert (sleeping.detail, turns.taken) == ("runs in regular", [])

            ready = await harbour.until_state("ready")
            assert ready.since >= opens
            assert turns.accounts == ["paper"]

            await harbour.until_state("sleeping")

    async def test_it_is_cancelled_in_its_work_when_its_phase_ends(self, harbour: Harbour, fast: PacedClock) -> None:
        now = fast.now()
        await harbour.open_market(now - timedelta(hours=1), now + timedelta(seconds=2 * PACE))
        started = anyio.Event()

        async def hang(_ctx: AccountContext, _cfg: Rhythm) -> None:
            started.set()
            await anyio.sleep_forever()

        workers = harbour.assign(hang, phases=REGULAR_HOURS, stall_s=1e6)
        async with harbour.running(workers, clock=fast):
            await started.wait()
            row = await harbour.until_state("sleeping")

        assert row.restarts == 0

    async def test_while_no_calendar_is_known_only_what_always_runs_runs(self, harbour: Harbour) -> None:
        workers = [*harbour.assign(fine, phases=REGULAR_HOURS), *harbour.assign(fine, kind="always")]

        async with harbour.running(workers):
            await harbour.until_state("sleeping")
            await harbour.until_state("ready", "always")


class TestWaking:
    async def test_a_worker_wakes_another_in_its_own_process(self, harbour: Harbour) -> None:
        turns, ring = Turns(), anyio.Event()

        async def caller(ctx: AccountContext, _cfg: Rhythm) -> None:
            await ring.wait()
            ctx.wake("probe")

        async with harbour.running([*harbour.assign(turns), *harbour.assign(caller, kind="caller")]):
            first = await harbour.until_state("ready")
            ring.set()
            await harbour.until(lambda row: row.last_success != first.last_success)

        assert turns.accounts == ["paper", "paper"]

    async def test_a_worker_wakes_another_in_whatever_process_it_lives(self, harbour: Harbour) -> None:
        turns = Turns()

        async def caller(ctx: AccountContext, _cfg: Rhythm) -> None:
            ctx.wake("probe")

        async with harbour.running(harbour.assign(turns, to=("paper", "swing"))):
            first = await harbour.until_state("ready")
            await harbour.until_state("ready", slug="swing")
            async with harbour.running(harbour.assign(caller, kind="caller")):
                await harbour.until(lambda row: row.last_success != first.last_success)

        assert sorted(turns.accounts) == ["paper", "paper", "swing"]

    async def test_it_is_the_one_that_runs_and_not_the_one_on_standby(self, harbour: Harbour) -> None:
        turns = Turns()

        async def caller(ctx: AccountContext, _cfg: Rhythm) -> None:
            ctx.wake("probe")

        async with harbour.running(harbour.assign(turns)):
            first = await harbour.until_state("ready")
            async with harbour.running([*harbour.assign(turns), *harbour.assign(caller, kind="caller")]):
                await harbour.until(lambda row: row.last_success != first.last_success)

    async def test_a_note_on_a_channel_that_it_follows_wakes_it(self, harbour: Harbour) -> None:
        turns, others = Turns(), Turns()
        workers = [*harbour.assign(turns, wake_on=("raw_channel",), to=("paper", "swing"))]

        async def wake_paper() -> None:
            begun = turns.accounts.count("paper")
            await notify(harbour.db, "raw_channel_paper", "{}")
            await harbour.until(lambda _: turns.accounts.count("paper") > begun)

        async with harbour.running([*workers, *harbour.assign(others, kind="deaf")]):
            await harbour.until_state("ready")
            await harbour.until_state("ready", slug="swing")
            await harbour.until_state("ready", "deaf")
            for _ in range(3):
                await wake_paper()

        assert turns.accounts.count("swing") <= 2  # its start, and perhaps once when listening began
        assert others.accounts == ["paper"]

    async def test_a_busy_channel_wakes_it_once_for_many_notes(self, harbour: Harbour) -> None:
        turns = Turns()

        async with harbour.running(harbour.assign(turns, wake_on=("raw_channel",))):
            first = await harbour.until_state("ready")
            await notify(harbour.db, "raw_channel_paper", *map(str, range(500)))
            await harbour.until(lambda row: row.last_success != first.last_success)

        assert len(turns.taken) < 10

    async def test_a_note_does_not_shorten_the_wait_after_a_failure(self, harbour: Harbour) -> None:
        turns = Turns(NeedsOperator("the keys are refused"))
        workers = [
            *harbour.assign(turns, wake_on=("raw_channel",)),
            *harbour.assign(fine, kind="neighbour", wake_on=("raw_channel",)),
        ]

        async with harbour.running(workers):
            await harbour.until_state("parked")
            for _ in range(2):
                first = await harbour.until_state("ready", "neighbour")
                await notify(harbour.db, "raw_channel_paper", "{}")
                await harbour.until(another_than(first), "neighbour")

        assert turns.accounts == ["paper"]

    async def test_a_call_during_a_cycle_makes_another_one(self, harbour: Harbour) -> None:
        begun, may_end, cycles = anyio.Event(), anyio.Event(), []

        async def slow(_ctx: AccountContext, _cfg: Rhythm) -> None:
            cycles.append("cycle")
            begun.set()
            await may_end.wait()

        async with harbour.running(harbour.assign(slow)) as kernel:
            await begun.wait()
            kernel.wake("paper", "probe")
            may_end.set()
            await harbour.until(lambda row: row.state == "ready" and len(cycles) == 2)


class TestLeases:
    async def test_of_two_kernels_one_runs_the_worker_and_the_other_takes_over(self, harbour: Harbour) -> None:
        first, second, may_leave = Turns(), Turns(), anyio.Event()

        async def run_first() -> None:
            async with harbour.running(harbour.assign(first), name="first"):
                await may_leave.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_first)
            await first.first.wait()
            async with harbour.running(harbour.assign(second), name="second") as standby:
                await harbour.until(lambda _row: bool(standby.lanes) and standby.lanes[0].standby)
                assert second.taken == []

                may_leave.set()
                with anyio.fail_after(PATIENCE_S):
                    await second.first.wait()
                stopped = await harbour.until(lambda row: row.state == "stopped" or not standby.lanes[0].standby)
                await harbour.until(lambda row: row.state == "ready" and row.updated_at > stopped.updated_at)

    async def test_the_other_takes_over_when_the_first_is_cut_off(self, harbour: Harbour, postgres: str) -> None:
        turns = Turns()

        async with harbour.running(harbour.assign(turns), name="first"):
            await turns.first.wait()
            async with harbour.running(harbour.assign(turns), name="second"):
                cut_off(postgres, "coldharbour/first/leases")
                with anyio.fail_after(PATIENCE_S):
                    await turns.second.wait()

                old, new = (ctx.lease for ctx in turns.taken)
                assert old is not None
                assert new is not None
                async with harbour.db.transaction() as conn:
                    await new.check(conn)
                    with pytest.raises(LeaseLost, match=r"probe of paper is run by .* since epoch 2"):
                        await old.check(conn)

    async def test_a_holder_that_lost_its_session_stops_within_seconds(self, harbour: Harbour, postgres: str) -> None:
        begun, ended = anyio.Event(), anyio.Event()

        async def work(_ctx: AccountContext, _cfg: Rhythm) -> None:
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()

        async with harbour.running(harbour.assign(work), name="first"):
            await begun.wait()
            cut_off(postgres, "coldharbour/first/leases")
            with anyio.fail_after(8):
                await ended.wait()

    async def test_one_that_gave_its_worker_away_no_longer_speaks_for_it(self, harbour: Harbour) -> None:
        async with harbour.running(harbour.assign(Turns(NeedsOperator("keys"))), name="first"):
            await harbour.until_state("parked")
            async with harbour.running(harbour.assign(fine), name="second"):
                ready = await harbour.until_state("ready")
                later = await harbour.until(lambda row: row.updated_at > ready.updated_at + timedelta(seconds=5))

        assert later.state == "ready"

    async def test_an_epoch_stands_still_while_an_action_it_protects_is_under_way(self, harbour: Harbour) -> None:
        async with harbour.db.transaction() as conn:
            await store.next_epoch(conn, "paper", "probe", "first")

        async with harbour.db.transaction() as acting:
            assert await store.current_epoch(acting, "paper", "probe") == (1, "first")
            with pytest.raises(Transient), anyio.fail_after(PATIENCE_S):
                async with harbour.db.transaction(timeout_s=0.5) as usurper:
                    await store.next_epoch(usurper, "paper", "probe", "second")
            assert await store.current_epoch(acting, "paper", "probe") == (1, "first")


def cut_off(superuser: str, application: str) -> None:
    """End one session as a network or an operator might, and no other."""
    with psycopg.connect(superuser, autocommit=True) as admin:
        ended = admin.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s", [application]
        ).fetchone()
    assert ended == (1,)
