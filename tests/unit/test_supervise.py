"""Supervision: the class of a failure decides what happens next, and nothing happens in silence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import anyio
import pytest
import structlog
from anyio import wait_all_tasks_blocked
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import LogCapture

from coldharbour.clock import VirtualClock
from coldharbour.errors import BadConfig, NeedsOperator, Transient
from coldharbour.events import Event, WorkerFailed, WorkerGaveUp, WorkerParked
from coldharbour.supervise import (
    Backoff,
    LeaseLost,
    RestartPolicy,
    Stalled,
    State,
    Status,
    Supervisor,
    decisive,
    describe,
)

pytestmark = pytest.mark.anyio

START = datetime(2026, 7, 1, 12, tzinfo=UTC)
FINE = None


class LongestWait(Random):
    """Chance at its worst, so that waits are known."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@dataclass
class Bench:
    """A supervisor under a virtual clock; its worker does what `script` says, one entry per attempt."""

    script: list[BaseException | None]
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START))
    started_s: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    logged: LogCapture = field(default_factory=LogCapture)
    has_ended: bool = False

    def __post_init__(self) -> None:
        self.status = Status(self.clock.now, lambda: None)
        self.supervisor = Supervisor(
            name="probe", attempt=self.attempt, status=self.status, backoff=Backoff(LongestWait()), clock=self.clock,
            log=structlog.wrap_logger(None, processors=[self.logged]), emit=self.events.append,
            policy=RestartPolicy(limit=3, window_s=60),
        )  # fmt: skip

    async def attempt(self) -> None:
        self.started_s.append(self.clock.monotonic())
        if not self.script:
            self.status.enter(State.READY)
            await anyio.sleep_forever()
        step = self.script.pop(0)
        if step is not None:
            raise step

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            await wait_all_tasks_blocked()
            yield
            tasks.cancel_scope.cancel()

    async def _run(self) -> None:
        await self.supervisor.run()
        self.has_ended = True

    async def wait(self, seconds: int, *, step_s: int = 1) -> None:
        """Let time pass in steps, so that whoever wakes can sleep again."""
        for _ in range(0, seconds, step_s):
            self.clock.advance(step_s)
            await wait_all_tasks_blocked()

    def lines(self, event: str) -> list[Any]:
        return [line for line in self.logged.entries if line["event"] == event]


class TestTransient:
    async def test_is_tried_again_after_waits_that_grow(self) -> None:
        bench = Bench([Transient("away")] * 8)

        async with bench.running():
            await bench.wait(150)

        assert bench.started_s == [0, 1, 3, 7, 15, 31, 61, 91, 121]
        assert bench.status.state is State.READY

    async def test_waits_start_small_again_once_it_worked(self) -> None:
        bench = Bench([Transient("away")] * 4 + [FINE, Transient("away")])

        async with bench.running():
            await bench.wait(20)

        assert bench.started_s == [0, 1, 3, 7, 15, 15, 16]

    async def test_waits_at_least_as_long_as_the_other_side_asked_for(self) -> None:
        bench = Bench([Transient("too many requests", retry_after_s=17)])

        async with bench.running():
            await bench.wait(20)

        assert bench.started_s == [0, 17]

    async def test_is_shown_as_retrying_with_its_reason_since_the_first_loss(self) -> None:
        bench = Bench([Transient("away")] * 3)

        async with bench.running():
            await bench.wait(5)

            assert bench.status.state is State.RETRYING
            assert bench.status.detail == bench.status.last_error == "away"
            assert bench.status.since == START
            assert bench.status.restarts == 0

    async def test_makes_one_line_on_loss_and_no_event(self) -> None:
        bench = Bench([Transient("away")] * 5)

        async with bench.running():
            await bench.wait(60)

        assert [line["log_level"] for line in bench.lines("worker.retrying")] == ["warning"] + ["debug"] * 4
        assert bench.events == []

    async def test_a_wake_ends_the_wait(self) -> None:
        bench = Bench([Transient("away", retry_after_s=3600)])

        async with bench.running():
            await bench.wait(5)
            bench.supervisor.wake()
            await wait_all_tasks_blocked()

            assert bench.started_s == [0, 5]


class TestNeedsOperator:
    @pytest.mark.parametrize("cause", [NeedsOperator("keys refused", hint="new keys"), BadConfig(["bad address"])])
    async def test_parks_the_worker_until_someone_wakes_it(self, cause: Exception) -> None:
        bench = Bench([cause])

        async with bench.running():
            await bench.wait(3600, step_s=3600)
            assert bench.status.state is State.PARKED
            assert bench.status.detail == str(cause)
            assert bench.started_s == [0]

            bench.supervisor.wake()
            await wait_all_tasks_blocked()
            assert bench.started_s == [0, 3600]

    async def test_is_told_once_with_the_remedy(self) -> None:
        bench = Bench([NeedsOperator("keys refused", hint="new keys")])

        async with bench.running():
            await bench.wait(60)

        assert bench.events == [WorkerParked(at=START, worker="probe", error="keys refused")]
        [line] = bench.lines("worker.parked")
        assert (line["log_level"], line["hint"]) == ("error", "new keys")

    async def test_a_wake_from_before_it_was_parked_does_not_count(self) -> None:
        bench = Bench([NeedsOperator("keys refused")])
        bench.supervisor.wake()

        async with bench.running():
            assert bench.status.state is State.PARKED


class TestBugs:
    async def test_are_logged_with_their_traceback_and_the_worker_is_started_again(self) -> None:
        bug = ZeroDivisionError("division by zero")
        bench = Bench([bug])

        async with bench.running():
            assert bench.status.state is State.RETRYING
            await bench.wait(1)

        assert bench.started_s == [0, 1]
        assert bench.status.restarts == 1
        assert bench.events == [WorkerFailed(at=START, worker="probe", error="ZeroDivisionError: division by zero")]
        [line] = bench.lines("worker.failed")
        assert line["exc_info"] is bug

    @pytest.mark.parametrize("bug", [SystemExit(4), Stalled("silent"), AssertionError(), MemoryError()])
    async def test_can_be_anything_a_worker_raises(self, bug: BaseException) -> None:
        bench = Bench([bug])

        async with bench.running():
            await bench.wait(1)

        assert bench.status.restarts == 1
        assert bench.status.state is State.READY

    async def test_too_many_in_a_window_end_it_loudly(self) -> None:
        bench = Bench([ZeroDivisionError("x")] * 9)

        async with bench.running():
            await bench.wait(60)
            assert bench.has_ended

        assert len(bench.started_s) == 3
        assert bench.status.state is State.GAVE_UP
        assert [type(event) for event in bench.events] == [WorkerFailed, WorkerFailed, WorkerGaveUp]
        [line] = bench.lines("worker.gave_up")
        assert (line["log_level"], line["failures"]) == ("critical", 3)

    async def test_far_apart_never_end_it(self) -> None:
        bench = Bench([Transient("long", retry_after_s=59), ZeroDivisionError("x")] * 9)

        async with bench.running():
            await bench.wait(1200)

        assert bench.status.restarts == 9
        assert bench.status.state is State.READY

    async def test_those_between_are_forgotten_when_the_window_has_passed(self) -> None:
        two, pause = [ZeroDivisionError("x")] * 2, Transient("long", retry_after_s=61)
        bench = Bench([*two, pause, *two, pause, *two])

        async with bench.running():
            await bench.wait(400)

        assert bench.status.restarts == 6
        assert not bench.has_ended


class TestWaiting:
    async def test_a_wake_during_the_work_shortens_the_next_wait_and_no_other(self) -> None:
        bench = Bench([])
        bench.supervisor.wake()
        bench.supervisor.wake()

        with anyio.fail_after(1):
            await bench.supervisor.wait(3600)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.supervisor.wait, 3600)
            await wait_all_tasks_blocked()
            assert tasks.cancel_scope.cancel_called is False
            bench.clock.advance(3600)

    async def test_cancellation_is_never_taken_for_a_failure(self) -> None:
        bench = Bench([])

        async with bench.running():
            pass

        assert bench.status.state is State.READY
        assert (bench.events, bench.status.restarts) == ([], 0)

    async def test_ctrl_c_is_never_taken_for_a_failure(self) -> None:
        bench = Bench([BaseExceptionGroup("", [KeyboardInterrupt()])])

        with pytest.raises(BaseExceptionGroup):
            await bench.supervisor.run()

        assert bench.events == []


class TestStatus:
    def test_since_is_when_the_state_began_and_not_its_words(self) -> None:
        clock, changes = VirtualClock(START), []
        status = Status(clock.now, lambda: changes.append(status.state))

        clock.advance(5)
        status.enter(State.RETRYING, "one")
        clock.advance(5)
        status.enter(State.RETRYING, "two")
        status.enter(State.RETRYING, "two")

        assert status.since == START + timedelta(seconds=5)
        assert status.detail == "two"
        assert changes == [State.RETRYING, State.RETRYING]

    def test_success_is_dated(self) -> None:
        clock = VirtualClock(START)
        status = Status(clock.now, lambda: None)
        assert status.last_success is None

        clock.advance(5)
        status.succeeded()

        assert status.last_success == START + timedelta(seconds=5)


class TestBackoff:
    @given(st.randoms(use_true_random=False), st.integers(0, 200), st.floats(0, 1000))
    def test_every_wait_is_jittered_bounded_and_at_least_what_was_asked_for(
        self, random: Random, failures: int, asked_s: float
    ) -> None:
        backoff = Backoff(random, first_s=1, longest_s=30)
        waits_s = [backoff.next_s() for _ in range(failures)]

        for number, wait_s in enumerate(waits_s):
            span_s = min(30.0, 2.0**number)
            assert span_s / 2 <= wait_s <= span_s
        assert backoff.next_s(asked_s) >= asked_s

    def test_two_workers_do_not_come_back_in_step(self) -> None:
        one, other = Backoff(Random(1)), Backoff(Random(2))

        assert [one.next_s() for _ in range(5)] != [other.next_s() for _ in range(5)]


def leaves() -> st.SearchStrategy[BaseException]:
    return st.sampled_from([Transient("t"), LeaseLost("l"), NeedsOperator("n"), BadConfig(["c"]), ValueError("bug")])


def groups(inner: st.SearchStrategy[BaseException]) -> st.SearchStrategy[BaseException]:
    return st.lists(inner, min_size=1, max_size=4).map(lambda errors: BaseExceptionGroup("group", errors))


def flat(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from flat(inner)
    else:
        yield error


class TestDecisive:
    @given(st.recursive(leaves(), groups, max_leaves=8))
    def test_a_bug_outweighs_what_a_person_must_mend_which_outweighs_what_time_mends(
        self, error: BaseException
    ) -> None:
        kinds = {type(leaf) for leaf in flat(error)}

        cause = decisive(error)

        if ValueError in kinds:
            assert isinstance(cause, ValueError)
        elif kinds & {NeedsOperator, BadConfig}:
            assert isinstance(cause, NeedsOperator | BadConfig)
        else:
            assert isinstance(cause, Transient)

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (Transient("no answer\nfrom the broker"), "no answer from the broker"),
            (NeedsOperator("keys refused"), "keys refused"),
            (ValueError("bad\n  value"), "ValueError: bad value"),
            (KeyError(), "KeyError: "),
        ],
    )
    def test_a_failure_is_told_in_one_line(self, error: Exception, text: str) -> None:
        assert describe(error) == text
