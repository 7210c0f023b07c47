"""Latched limits in their table: kept until somebody resets them, told once, and counted on from a reset."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from coldharbour.db import Database, open_database
from coldharbour.risk.losses.limits import noted
from coldharbour.risk.losses.model import Day, Latch, Stage, Watch
from coldharbour.risk.losses.store import (
    counted_from,
    entries_halted,
    latch,
    latches,
    reset_latch,
    save_watch,
)

pytestmark = pytest.mark.anyio

SESSION = date(2026, 10, 8)
NOON = datetime(2026, 10, 8, 16, tzinfo=UTC)
DAY = Day(session_date=SESSION, day_pnl=Decimal(-1300), baseline=Decimal(60_000), as_of=NOON)
REACHED = Latch(
    destination="paper", session_date=SESSION, stage=Stage.HALT, latched_at=NOON, day_pnl=Decimal(-1300),
    baseline=Decimal(60_000), note="lost 1300",
)  # fmt: skip


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, name="latches") as db:
        yield db


async def test_a_limit_is_latched_once_and_until_it_is_reset(db: Database) -> None:
    async with db.transaction() as conn:
        first = await latch(conn, REACHED)
        again = await latch(conn, replace(REACHED, latched_at=NOON + timedelta(minutes=1)))

    async with db.transaction() as conn:
        assert (first, again) == (True, False)
        assert await latches(conn) == [REACHED]
        assert await reset_latch(conn, "paper", "kim", NOON + timedelta(hours=1)) == [REACHED]
        assert await latches(conn) == []
        assert await reset_latch(conn, "paper", "kim", NOON + timedelta(hours=2)) == []


async def test_a_halt_of_all_together_halts_each_and_a_warning_none(db: Database) -> None:
    async with db.transaction() as conn:
        await latch(conn, replace(REACHED, stage=Stage.WARN))
        assert not await entries_halted(conn, "paper")

        await latch(conn, replace(REACHED, destination=""))
        assert await entries_halted(conn, "paper")
        assert await entries_halted(conn, "swing")

        await reset_latch(conn, "", "kim", NOON)
        assert not await entries_halted(conn, "swing")


async def test_a_stage_that_was_reset_counts_on_from_where_the_day_stood(db: Database) -> None:
    async with db.transaction() as conn:
        await save_watch(conn, noted(Watch("paper"), DAY, NOON, is_limited=True))
        await latch(conn, REACHED)

        await reset_latch(conn, "paper", "kim", NOON)

        assert await counted_from(conn, "paper", SESSION) == {Stage.HALT: Decimal(-1300)}
        assert await counted_from(conn, "paper", SESSION + timedelta(days=1)) == {}
