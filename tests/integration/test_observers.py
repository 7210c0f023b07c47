"""Observers: they are told of every event once, in order, in their own process, and cannot harm it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.abc
import pytest
import structlog
from fakes.harbour import PATIENCE_S, Harbour, open_harbour

from coldharbour import store
from coldharbour.clock import SystemClock
from coldharbour.events import Event, WorkerFailed
from coldharbour.journal import OBSERVER_FAILURES, EventDispatcher, EventJournal, record
from coldharbour.registry import Plugin

pytestmark = pytest.mark.anyio

GULLS = """
import anyio
from coldharbour.hookspecs import hookimpl

heard = anyio.Event()

@hookimpl
def on_event(account, event):
    heard.set()
"""
NOON = datetime(2026, 7, 1, 16, tzinfo=UTC)


class LampLit(Event, frozen=True):
    """An event of a plugin that this process does not have."""

    lamp: str


class Watcher:
    """An observer that notes what it is told, and fails when told to."""

    def __init__(self, fail: Callable[[int], BaseException | None] = lambda _number: None) -> None:
        self.seen: list[tuple[str, Event]] = []
        self._fail = fail
        self._changed = anyio.Event()

    def on_event(self, account: str, event: Event) -> None:
        self.seen.append((account, event))
        self._changed.set()
        failure = self._fail(len(self.seen))
        if failure is not None:
            raise failure

    async def until(self, count: int) -> None:
        with anyio.fail_after(PATIENCE_S):
            while len(self.seen) < count:
                await self._changed.wait()
                self._changed = anyio.Event()


class EagerClock(SystemClock):
    """A clock whose sleepers come back soon; says when the first of them went to sleep."""

    def __init__(self) -> None:
        self.first_sleep = anyio.Event()

    async def sleep(self, delay_s: float) -> None:
        self.first_sleep.set()
        await super().sleep(min(delay_s, 0.02))


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def harbour(database_url: str, tmp_path: Path) -> AsyncIterator[Harbour]:
    async with open_harbour(database_url, tmp_path) as harbour:
        yield harbour


@pytest.fixture
async def journal(harbour: Harbour) -> EventJournal:
    return EventJournal(harbour.db)


async def follow(harbour: Harbour, tasks: anyio.abc.TaskGroup, *watchers: Watcher) -> None:
    """Start to hand out what is written from now on."""
    clock = EagerClock()
    observers = [(Plugin(f"watcher {n}", "a test", ModuleType("w"), built_in=False), watcher.on_event)
                 for n, watcher in enumerate(watchers)]  # fmt: skip
    tasks.start_soon(EventDispatcher(harbour.db, clock, observers).run)
    await clock.first_sleep.wait()


async def until_kept(harbour: Harbour) -> None:
    """Return when it is on record that an observer was told of something."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            async with harbour.db.transaction() as conn:
                if any(event_id for _, event_id in (await store.observer_marks(conn, ["watcher 0"])).values()):
                    return


def failed(number: int) -> WorkerFailed:
    return WorkerFailed(at=NOON, worker="probe", error=f"failure {number}")


async def write(journal: EventJournal, *events: Event) -> None:
    for event in events:
        journal.emit("paper", event)
    await journal.flush()


async def test_they_are_told_of_every_event_once_and_in_order(harbour: Harbour, journal: EventJournal) -> None:
    watcher, events = Watcher(), [failed(number) for number in range(1200)]
    await write(journal, failed(-1))

    async with anyio.create_task_group() as tasks:
        await follow(harbour, tasks, watcher)
        await write(journal, *events)
        await watcher.until(len(events))
        tasks.cancel_scope.cancel()

    assert watcher.seen == [("paper", event) for event in events]


async def test_what_happens_while_their_process_is_away_is_told_when_it_is_back(
    harbour: Harbour, journal: EventJournal
) -> None:
    before, after = Watcher(), Watcher()
    async with anyio.create_task_group() as tasks:
        await follow(harbour, tasks, before)
        await write(journal, failed(1))
        await before.until(1)
        await until_kept(harbour)
        tasks.cancel_scope.cancel()
    await write(journal, failed(2))

    async with anyio.create_task_group() as tasks:
        await follow(harbour, tasks, after)
        await after.until(1)
        tasks.cancel_scope.cancel()

    assert (before.seen, after.seen) == ([("paper", failed(1))], [("paper", failed(2))])


async def test_an_event_whose_transaction_ends_late_is_told_before_those_that_came_after_it(
    harbour: Harbour, journal: EventJournal
) -> None:
    watcher = Watcher()

    async with anyio.create_task_group() as tasks:
        await follow(harbour, tasks, watcher)
        async with harbour.db.transaction() as conn:
            await record(conn, "paper", [failed(1)])
            await write(journal, failed(2))
            async with harbour.db.transaction() as other:
                assert await store.events_after(other, (0, 0)) == []
        await watcher.until(2)
        tasks.cancel_scope.cancel()

    assert watcher.seen == [("paper", failed(1)), ("paper", failed(2))]


async def test_an_event_of_a_plugin_that_is_not_here_is_passed_over(harbour: Harbour, journal: EventJournal) -> None:
    watcher = Watcher()

    async with anyio.create_task_group() as tasks:
        await follow(harbour, tasks, watcher)
        await write(journal, LampLit(at=NOON, lamp="red"), failed(1))
        await watcher.until(1)
        tasks.cancel_scope.cancel()

    assert watcher.seen == [("paper", failed(1))]


@pytest.mark.parametrize("failure", [ZeroDivisionError("x"), SystemExit(3)])
async def test_one_that_fails_now_and_then_is_told_on_and_harms_no_other(
    harbour: Harbour, journal: EventJournal, logged: list[Any], failure: BaseException
) -> None:
    moody, steady = Watcher(lambda number: failure if number == 1 else None), Watcher()

    async with anyio.create_task_group() as tasks:
        await follow(harbour, tasks, moody, steady)
        await write(journal, failed(1), failed(2))
        await moody.until(2)
        await steady.until(2)
        tasks.cancel_scope.cancel()

    assert [line["plugin"] for line in logged if line["event"] == "observer.failed"] == ["watcher 0"]


async def test_one_that_always_fails_is_switched_off_loudly(
    harbour: Harbour, journal: EventJournal, logged: list[Any]
) -> None:
    broken, steady = Watcher(lambda _number: ZeroDivisionError("x")), Watcher()

    async with anyio.create_task_group() as tasks:
        await follow(harbour, tasks, broken, steady)
        await write(journal, *[failed(number) for number in range(OBSERVER_FAILURES + 5)])
        await steady.until(OBSERVER_FAILURES + 5)
        tasks.cancel_scope.cancel()

    assert len(broken.seen) == OBSERVER_FAILURES
    [line] = [line for line in logged if line["event"] == "observer.switched_off"]
    assert (line["log_level"], line["plugin"]) == ("critical", "watcher 0")


async def test_a_plugin_that_only_observes_has_a_process_that_runs_until_stopped(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "gulls.py").write_text(GULLS)
    clock = EagerClock()

    async with open_harbour(database_url, tmp_path, f"[plugins]\ndirectory = '{tmp_path}'\n") as harbour:
        assert "gulls" in harbour.registry.services()
        async with harbour.running([], services=["gulls"], clock=clock) as kernel:
            await clock.first_sleep.wait()
            gulls = sys.modules["coldharbour_dropin_gulls"]
            with anyio.fail_after(PATIENCE_S):
                while not gulls.heard.is_set():
                    kernel.journal.emit("paper", failed(1))
                    with anyio.move_on_after(0.1):
                        await gulls.heard.wait()
