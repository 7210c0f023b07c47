"""The budget never grants more than the broker allows, and always keeps something for the urgent."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime

import pytest
from broker_payloads import NOON, Skipper
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.broker import Priority, RateBudget
from coldharbour.broker.budget import retry_after_s
from coldharbour.clock import VirtualClock

pytestmark = pytest.mark.anyio


class WouldWait(Exception):
    """The budget asked for a pause."""


class Impatient(VirtualClock):
    """A clock on which nobody sleeps: the first pause is an exception that names its length."""

    async def sleep(self, delay_s: float) -> None:
        raise WouldWait(delay_s)


async def granted_at_once(budget: RateBudget, priority: Priority) -> int:
    granted = 0
    with suppress(WouldWait):
        while granted < 1000:
            await budget.take(priority)
            granted += 1
    return granted


async def test_bulk_work_leaves_a_reserve_for_healing_and_healing_one_for_changes() -> None:
    budget = RateBudget(Impatient(NOON), requests_per_min=200)

    assert await granted_at_once(budget, Priority.BULK) == 150
    assert await granted_at_once(budget, Priority.HEAL) == 30
    assert await granted_at_once(budget, Priority.WRITE) == 20


async def test_the_smallest_limit_still_lets_everyone_through() -> None:
    budget = RateBudget(Skipper(), requests_per_min=1)

    for priority in Priority:
        await budget.take(priority)


@given(gaps_s=st.lists(st.floats(0, 20), max_size=120), limit=st.integers(1, 20))
async def test_no_minute_ever_holds_more_grants_than_the_limit(gaps_s: list[float], limit: int) -> None:
    clock = Skipper()
    budget = RateBudget(clock, requests_per_min=limit)
    granted_at = []

    for gap_s in gaps_s:
        clock.advance(gap_s)
        await budget.take(Priority.WRITE)
        granted_at.append(clock.monotonic())

    for first, over in zip(granted_at, granted_at[limit:], strict=False):
        assert over - first >= 60 - 1e-6


async def test_what_the_broker_counts_for_other_processes_is_spent_here_too() -> None:
    clock = Impatient(NOON)
    budget = RateBudget(clock)

    budget.learn(rate_headers(remaining=25))

    assert await granted_at_once(budget, Priority.BULK) == 0
    assert await granted_at_once(budget, Priority.HEAL) == 5
    assert await granted_at_once(budget, Priority.WRITE) == 20


async def test_an_answer_that_was_late_never_gives_requests_back() -> None:
    budget = RateBudget(Impatient(NOON))
    budget.learn(rate_headers(remaining=3))

    budget.learn(rate_headers(remaining=9))

    assert await granted_at_once(budget, Priority.WRITE) == 3


async def test_the_brokers_count_ends_with_its_window() -> None:
    clock = Impatient(NOON)
    budget = RateBudget(clock)
    budget.learn(rate_headers(remaining=0))

    with pytest.raises(WouldWait) as waited:
        await budget.take(Priority.WRITE)
    clock.advance(30)

    assert waited.value.args == (pytest.approx(30),)
    assert await granted_at_once(budget, Priority.WRITE) == 200


async def test_a_higher_limit_of_the_account_is_used() -> None:
    budget = RateBudget(Impatient(NOON))

    budget.learn(rate_headers(limit=1000, remaining=1000))

    assert await granted_at_once(budget, Priority.BULK) == 750


async def test_the_end_of_the_window_is_read_on_the_brokers_clock() -> None:
    budget = RateBudget(Impatient(NOON - timedelta(minutes=10)))

    budget.learn(rate_headers(remaining=0) | {"date": format_datetime(NOON, usegmt=True)})

    with pytest.raises(WouldWait) as waited:
        await budget.take(Priority.WRITE)
    assert waited.value.args == (pytest.approx(30),)


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-limit": "soon"}, {"x-ratelimit-remaining": "-1"}])
async def test_answers_without_counts_change_nothing(headers: dict[str, str]) -> None:
    budget = RateBudget(Impatient(NOON))

    budget.learn(headers)

    assert await granted_at_once(budget, Priority.WRITE) == 200


async def test_a_pause_holds_even_changes_back() -> None:
    clock = Skipper()
    budget = RateBudget(clock)

    budget.pause(7)
    await budget.take(Priority.WRITE)

    assert clock.slept_s == [7]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "-2"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": format_datetime(NOON + timedelta(seconds=9), usegmt=True)}, 9.0),
    ],
)
async def test_retry_after_is_a_number_or_a_date(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers, NOON) == wait_s


def rate_headers(*, limit: int = 200, remaining: int) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": str(int(NOON.timestamp()) + 30),
    }
