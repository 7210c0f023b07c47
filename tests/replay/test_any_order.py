"""Whatever the order in which a history reaches the lake, and however often, the same rows stand there in the end.

`SOAK_EXAMPLES=1000 python -m pytest tests/replay/test_any_order.py` runs a thousand lives of fifty steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import zip_longest
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fakes.history import Evidence, Page, chunks, history
from fakes.lake import SLUG, UNORDERED, Json, frame, open_lake, rows
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from psycopg import sql

from coldharbour.broker import translate
from coldharbour.lake import store, writer
from coldharbour.lake.model import Harvest, combine, harvest_order, harvest_update
from coldharbour.lake.writer import Lake

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "40"))
STEPS = 50
HISTORIES = 25 if EXAMPLES < 1000 else 500
TABLES = ("raw_orders", "raw_activities")

evidence_of = cache(history)


class PowerCut(Exception):
    """Everything that was not committed is gone."""


class Recorder:
    """The real lake in a real database, used from a test that is not async."""

    def __init__(self, portal: BlockingPortal, lake: Lake) -> None:
        self.portal, self.lake = portal, lake
        self.ends: dict[int, dict[str, list[Json]]] = {}

    def hear(self, frames: Page) -> None:
        """Write stream frames in one transaction."""
        self.portal.call(self.lake.write_frames, [frame(raw) for raw in frames])

    def read_orders(self, page: Page) -> None:
        """Write a page of orders."""
        self.portal.call(self.lake.write_orders, [translate.order(raw) for raw in page])

    def read_activities(self, page: Page) -> None:
        """Write a page of activities."""
        self.portal.call(self.lake.write_activities, [translate.activity(raw) for raw in page])

    def die_writing(self, harvest: Harvest) -> None:
        """Lose power after everything was written and before it was committed."""

        async def write() -> None:
            async with self.lake.db.transaction() as conn:
                await store.take_turn(conn, SLUG)
                await store.record(conn, SLUG, harvest, await store.look_up(conn, SLUG, harvest))
                raise PowerCut

        with suppress(PowerCut):
            self.portal.call(write)

    def heal(self, seen: Evidence) -> None:
        """Read everything that REST has in the end."""
        for page in chunks(seen.final_orders, 10):
            self.read_orders(page)
        for page in chunks(seen.final_activities, 20):
            self.read_activities(page)

    def forget(self) -> None:
        """Begin with an empty lake."""

        async def empty() -> None:
            async with self.lake.db.transaction() as conn:
                for table in ("raw_events", *TABLES):
                    await conn.execute(sql.SQL("delete from {}").format(sql.Identifier("account_activities", table)))

        self.portal.call(empty)

    def holds(self) -> dict[str, list[Json]]:
        """Return every column of every row that says something."""
        return {table: self.portal.call(rows, self.lake, table) for table in TABLES}

    def true_end(self, seed: int) -> dict[str, list[Json]]:
        """Return what a history leaves behind that arrives whole, in order and once."""
        if seed not in self.ends:
            seen = evidence_of(seed)
            self.forget()
            for raw in seen.frames:
                self.hear([raw])
            for page in seen.orders:
                self.read_orders(page)
            for page in seen.activities:
                self.read_activities(page)
            self.heal(seen)
            self.ends[seed] = self.holds()
        return self.ends[seed]


@pytest.fixture(autouse=True)
def some_pages_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of these short pages some are written as hundreds of rows are, and some as a few."""
    monkeypatch.setattr(writer, "COPIED_FROM", 6)


@pytest.fixture
def recorder(database_url: str) -> Iterator[Recorder]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_lake(database_url)) as lake,
    ):
        yield Recorder(portal, lake)


class AnyOrder(RuleBasedStateMachine):
    """One history reaching one lake by chance: in part, in any order, more than once, with the power going off."""

    recorder: Recorder

    @initialize(seed=st.integers(0, HISTORIES - 1))
    def begin(self, seed: int) -> None:
        self.seed, self.seen, self.is_healed = seed, evidence_of(seed), False
        self.end = self.recorder.true_end(seed)
        self.recorder.forget()

    @rule(data=st.data())
    def hear(self, data: Any) -> None:
        self.recorder.hear(self._some_frames(data))

    @rule(data=st.data())
    def hear_everything_in_another_order(self, data: Any) -> None:
        self.recorder.hear(data.draw(st.permutations(self.seen.frames)))

    @rule(data=st.data())
    def read_orders(self, data: Any) -> None:
        self.recorder.read_orders(self._some_orders(data))

    @rule(data=st.data())
    def read_activities(self, data: Any) -> None:
        self.recorder.read_activities(data.draw(st.sampled_from(self.seen.activities)))

    @rule(data=st.data())
    def die_hearing(self, data: Any) -> None:
        updates = (translate.trade_update(raw) for raw in self._some_frames(data))
        self.recorder.die_writing(combine(map(harvest_update, updates)))

    @rule(data=st.data())
    def die_reading(self, data: Any) -> None:
        orders = map(translate.order, self._some_orders(data))
        self.recorder.die_writing(combine(harvest_order(order, "rest") for order in orders))

    @precondition(lambda self: not self.is_healed)
    @rule()
    def heal(self) -> None:
        self.recorder.heal(self.seen)
        self.is_healed = True

    def teardown(self) -> None:
        if not hasattr(self, "seen"):
            return
        if not self.is_healed:
            self.recorder.heal(self.seen)
        for table, found in self.recorder.holds().items():
            assert found == self.end[table], f"{table} of history {self.seed}"

    def _some_frames(self, data: Any) -> Page:
        frames: Page = data.draw(st.lists(st.sampled_from(self.seen.frames), min_size=1, max_size=8))
        return frames

    def _some_orders(self, data: Any) -> Page:
        page = data.draw(st.sampled_from([*self.seen.orders, self.seen.final_orders]))
        shuffled: Page = data.draw(st.permutations(page))
        return shuffled


@pytest.mark.timeout(120 if EXAMPLES <= 100 else 3600)
def test_any_order_of_arrival_ends_in_the_same_rows(recorder: Recorder) -> None:
    class Machine(AnyOrder):
        pass

    Machine.recorder = recorder
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(3))
async def test_two_processes_that_write_one_account_at_once_end_as_one_alone(database_url: str, seed: int) -> None:
    """A backfill beside the stream, or two nodes while a lease changes hands: both look up before they write."""
    seen = evidence_of(seed)
    fills: list[str] = []

    async def hear(lake: Lake) -> None:
        for page in chunks(seen.frames, 3):
            recorded = await lake.write_frames([frame(raw) for raw in page])
            fills.extend(fill.id for fill in recorded.new_fills)

    async def read(lake: Lake) -> None:
        for orders, activities in zip_longest(seen.orders[::3], seen.activities[::3]):
            await lake.write_orders([translate.order(raw) for raw in orders or ()])
            recorded = await lake.write_activities([translate.activity(raw) for raw in activities or ()])
            fills.extend(fill.id for fill in recorded.new_fills)

    async with (
        open_lake(database_url) as here,
        open_lake(database_url) as there,
        open_lake(database_url, slug="alone") as alone,
    ):
        async with anyio.create_task_group() as both:
            for lake in (here, there):
                both.start_soon(hear, lake)
                both.start_soon(read, lake)
        announced, fills = fills, []
        await hear(alone)
        await read(alone)

        for table in TABLES:
            unordered = (*UNORDERED, "destination")
            assert await rows(here, table, without=unordered) == await rows(alone, table, without=unordered)
    assert sorted(announced) == sorted(fills)


def test_the_generated_histories_hold_everything_that_matters() -> None:
    events = {translate.trade_update(raw).event for seed in range(HISTORIES) for raw in evidence_of(seed).frames}
    ends = [translate.order(raw) for seed in range(HISTORIES) for raw in evidence_of(seed).final_orders]

    assert events >= {"fill", "partial_fill", "canceled", "replaced", "rejected", "new", "pending_replace"}
    assert {order.order_class for order in ends} >= {"bracket", "oto", ""}
    assert any(leg.replaces for order in ends for leg in order.legs)
    assert any(order.legs and order.replaces for order in ends)
