"""The audit answers what was thought of a lot at any moment, in few rows, and keeps every action."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from fakes.pricing import SLUG, Lots
from psycopg import AsyncConnection

from coldharbour.db import open_database
from coldharbour.risk import store
from coldharbour.risk.audit import AuditEntry
from coldharbour.risk.model import Flag, Reason
from coldharbour.schema import upgrade

pytestmark = pytest.mark.anyio

D = Decimal
OPENED = datetime(2026, 10, 8, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NOT_ARMED = AuditEntry(
    at=OPENED, parent_id="a", symbol="KO", side="Long", moved_flag=Flag.NOTHING, reason=Reason.NOT_ARMED,
    detail="the high since entry, 51, has not reached the trigger 54", old_stop=D("48"), new_stop=None,
    mkt_px=D("50.5"), be_tp=D("54"), extreme_px=D("51"), filled_at=OPENED, qty=D("10"), entry_px=D("50"),
    stop_order_id="stop",
)  # fmt: skip


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[AsyncConnection]:
    upgrade(database_url, (), [SLUG])
    async with open_database(database_url, name="test") as db:
        await Lots(db).open("a", "KO", tell=False)
        async with db.transaction() as conn:
            yield conn


def at(minute: int, **changed: object) -> AuditEntry:
    return replace(NOT_ARMED, at=OPENED + minute * MINUTE, **changed)  # type: ignore[arg-type]


async def record(conn: AsyncConnection, *entries: AuditEntry) -> None:
    for entry in entries:
        await store.record(conn, SLUG, [entry], within=2.5 * MINUTE)


async def test_evaluations_that_find_the_same_share_a_row_and_each_can_be_asked_for(conn: AsyncConnection) -> None:
    await record(conn, at(0), at(1, mkt_px=D("50.7")), at(2, mkt_px=None))

    [row] = await store.audit_page(conn, SLUG, None, 10)
    assert (row.first_at, row.last_at, row.evaluations) == (OPENED, OPENED + 2 * MINUTE, 3)
    thought = await store.evaluation_at(conn, SLUG, "a", OPENED + 1.9 * MINUTE)
    assert thought is not None
    assert (thought.at, thought.mkt_px, thought.row.reason) == (OPENED + MINUTE, D("50.7"), "not_armed")
    assert await store.evaluation_at(conn, SLUG, "a", OPENED - MINUTE) is None


async def test_another_finding_a_pause_and_a_full_row_begin_a_new_row(conn: AsyncConnection) -> None:
    await record(conn, at(0), at(1, reason=Reason.CROSSED_ENTRY), at(2), at(5), at(6, be_tp=D("55")))
    await record(conn, *(at(7 + n, be_tp=D("55")) for n in range(60)))

    rows = await store.audit_page(conn, SLUG, None, 10)
    assert [(row.reason, row.evaluations) for row in reversed(rows)] == [
        ("not_armed", 1), ("crossed_entry", 1), ("not_armed", 1), ("not_armed", 1), ("not_armed", 60), ("not_armed", 1),
    ]  # fmt: skip


async def test_an_action_stands_alone_and_outlives_the_routine(conn: AsyncConnection) -> None:
    moved = at(1, moved_flag=Flag.OK, reason=Reason.MOVED, new_stop=D("49.99"), new_order_id="new", is_action=True)
    await record(conn, at(0), moved, replace(moved, at=OPENED + 2 * MINUTE), at(3))

    removed = await store.prune_routine(conn, SLUG, OPENED + 4 * MINUTE)

    assert removed == 2
    assert [row.reason for row in await store.audit_page(conn, SLUG, None, 10)] == ["moved", "moved"]


async def test_the_newest_decision_of_each_open_lot_is_found_and_pages_follow_each_other(conn: AsyncConnection) -> None:
    gone = replace(NOT_ARMED, parent_id="gone")
    await store.record(conn, SLUG, [NOT_ARMED, gone], within=MINUTE)
    await record(conn, at(1, moved_flag=Flag.ALREADY, reason=Reason.AT_BREAK_EVEN))

    newest = await store.newest_decisions(conn, SLUG)

    assert {key: (found.reason, found.moved_flag, found.at) for key, found in newest.items()} == {
        "a": ("at_break_even", "Already", OPENED + MINUTE)
    }
    [last] = await store.audit_page(conn, SLUG, None, 1)
    older = await store.audit_page(conn, SLUG, last.id, 10)
    assert {(row.parent_id, row.reason) for row in older} == {("a", "not_armed"), ("gone", "not_armed")}
    assert [row.parent_id for row in await store.audit_page(conn, SLUG, None, 10, "gone")] == ["gone"]


async def test_a_lot_that_we_moved_keeps_saying_so(conn: AsyncConnection) -> None:
    changed = [await store.flag_lots(conn, SLUG, {"a": flag}) for flag in ("—", "OK", "Already", "—", "Already")]

    assert [len(lots) for lots in changed] == [0, 1, 0, 1, 1]
