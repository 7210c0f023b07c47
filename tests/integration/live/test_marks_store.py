"""The market's columns in the table: a mark lands on the version that it was made for, and on nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from fakes.pricing import SLUG, Lots
from psycopg.rows import dict_row

from coldharbour.db import Database, open_database
from coldharbour.live.marks import store
from coldharbour.live.marks.model import Extremes, Mark
from coldharbour.live.model import Side
from coldharbour.schema import upgrade

pytestmark = pytest.mark.anyio

D = Decimal
NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)
MARK = Mark(
    parent_id="a", version=1, mkt_px=D("52.10"), mkt_at=NOON, mkt_value=D("521.00"), profit_loss=D("21.00"),
    profit_loss_lot=D("21.00"), tp_sl_reach_pct=D("52.5"), r_multiple=None, high_px=D(53), low_px=D(49),
    extremes_through=NOON,
)  # fmt: skip


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    upgrade(database_url, (), [SLUG])
    async with open_database(database_url, name="test") as db:
        yield db


@pytest.fixture
def lots(db: Database) -> Lots:
    return Lots(db)


async def save(db: Database, *marks: Mark) -> set[str]:
    async with db.transaction() as conn:
        return await store.save_marks(conn, SLUG, marks)


async def row(db: Database, parent_id: str = "a") -> dict[str, object]:
    async with db.transaction() as conn, conn.cursor(row_factory=dict_row) as cur:
        await cur.execute("select * from accounts.open_trades where parent_id = %s", [parent_id])
        found = await cur.fetchone()
    assert found is not None
    return found


async def test_a_mark_is_stored_exactly_and_read_back_with_its_lot(db: Database, lots: Lots) -> None:
    await lots.open("a", "KO", side="Short", qty=D("-1.5"))

    assert await save(db, MARK) == {"a"}

    async with db.transaction() as conn:
        [stored] = await store.held_lots(conn, SLUG)
    assert (stored.lot.side, stored.lot.qty, stored.lot.stop_price, stored.lot.version) == (
        Side.SHORT, D("-1.5"), D(49), 1
    )  # fmt: skip
    assert (stored.mkt_px, stored.mkt_at, stored.extremes) == (D("52.10"), NOON, Extremes(D(53), D(49), NOON))
    found = await row(db)
    assert (found["mkt_value"], found["r_multiple"], found["qty"]) == (D("521.00"), None, D("-1.5"))


async def test_a_mark_for_an_older_structure_lands_nowhere(db: Database, lots: Lots) -> None:
    await lots.open("a", "KO")
    await lots.change("a", qty=D(4))

    assert await save(db, MARK) == set()
    assert (await row(db))["mkt_px"] is None
    assert await save(db, replace(MARK, version=2)) == {"a"}


async def test_a_lot_that_is_gone_takes_no_mark_and_the_others_do(db: Database, lots: Lots) -> None:
    await lots.open("b", "KO")

    assert await save(db, MARK, replace(MARK, parent_id="b")) == {"b"}


async def test_only_the_lots_that_are_asked_for_are_read(db: Database, lots: Lots) -> None:
    for parent_id in "abc":
        await lots.open(parent_id, "KO")

    async with db.transaction() as conn:
        found = await store.held_lots(conn, SLUG, {"b", "c", "gone"})

    assert [stored.lot.parent_id for stored in found] == ["b", "c"]


async def test_a_turn_that_another_writer_has_is_not_waited_for(db: Database, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("select pg_advisory_xact_lock(hashtextextended('coldharbour:open_trades:paper', 0))")
        async with db.transaction() as conn:
            assert not await store.take_turn(conn, SLUG)
        other.rollback()
        async with db.transaction() as conn:
            assert await store.take_turn(conn, SLUG)
