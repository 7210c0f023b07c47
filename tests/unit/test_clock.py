"""The virtual clock: it moves only when told, and wakes sleepers in the order of their deadlines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from coldharbour.clock import Clock, SystemClock, VirtualClock

pytestmark = pytest.mark.anyio

START = datetime(2026, 3, 8, 6, 59, tzinfo=UTC)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


async def test_it_stands_still_until_it_is_advanced(clock: VirtualClock) -> None:
    before = clock.now(), clock.monotonic()
    await checkpoint()

    assert (clock.now(), clock.monotonic()) == before == (START, 0.0)


async def test_both_readings_move_together(clock: VirtualClock) -> None:
    clock.advance(90.5)

    assert clock.now() == START + timedelta(seconds=90.5)
    assert clock.monotonic() == 90.5


async def test_a_sleeper_wakes_at_its_deadline_and_not_before(clock: VirtualClock) -> None:
    woken: list[float] = []

    async def sleep(delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append(delay_s)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep, 2.0)
        tasks.start_soon(sleep, 1.0)
        await wait_all_tasks_blocked()

        clock.advance(0.999)
        await wait_all_tasks_blocked()
        assert woken == []

        clock.advance(0.001)
        await wait_all_tasks_blocked()
        assert woken == [1.0]

        clock.advance(5)
    assert woken == [1.0, 2.0]


async def test_one_long_step_wakes_everyone_in_the_order_of_their_deadlines(clock: VirtualClock) -> None:
    woken: list[str] = []

    async def sleep(name: str, delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        for name, delay_s in (("late", 3.0), ("early", 1.0), ("twin one", 2.0), ("twin two", 2.0)):
            tasks.start_soon(sleep, name, delay_s)
            await wait_all_tasks_blocked()
        clock.advance(10)

    assert woken == ["early", "twin one", "twin two", "late"]


@pytest.mark.parametrize("delay_s", [0.0, -1.0])
async def test_no_delay_is_no_wait_on_either_clock(clock: VirtualClock, delay_s: float) -> None:
    for each in (clock, SystemClock()):
        with anyio.fail_after(1):
            await each.sleep(delay_s)


async def test_a_cancelled_sleeper_leaves_the_others_alone(clock: VirtualClock) -> None:
    with anyio.move_on_after(0):
        await clock.sleep(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 1)
        await wait_all_tasks_blocked()
        clock.advance(1)


async def test_the_machines_clock_is_aware_and_in_utc() -> None:
    clock: Clock = SystemClock()

    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()
