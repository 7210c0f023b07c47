"""What operators ask: on record before and after, taken by one, and never executed late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from coldharbour import requests
from coldharbour.db import Database, open_database
from coldharbour.events import Event, OperatorAnswered, OperatorAsked
from coldharbour.journal import decoder
from coldharbour.requests import Action, Outcome
from coldharbour.requests.store import RequestRow, newest_requests

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOT = {"lot": "6f1c"}


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, name="requests") as opened:
        yield opened


async def ask(db: Database, at: datetime = NOON, parameters: dict[str, str] | None = None) -> RequestRow:
    async with db.transaction() as conn:
        return await requests.ask(
            conn, destination="paper", worker="breakeven", action=Action.BREAKEVEN, parameters=parameters or LOT,
            asked_by="anna", now=at,
        )  # fmt: skip


async def take(db: Database, at: datetime) -> list[RequestRow]:
    async with db.transaction() as conn:
        return await requests.take(conn, "paper", "breakeven", [Action.BREAKEVEN], at)


async def settle(db: Database, request: RequestRow, outcome: Outcome, detail: str, at: datetime) -> None:
    async with db.transaction() as conn:
        await requests.settle(conn, request, outcome, detail, now=at)


async def newest(db: Database) -> RequestRow:
    async with db.transaction() as conn:
        return (await newest_requests(conn, "paper", 1))[0]


async def journal(db: Database) -> list[Event]:
    async with db.transaction() as conn:
        cursor = await conn.execute("select payload::text from accounts.events order by id")
        return [decoder.decode(payload) for (payload,) in await cursor.fetchall()]


async def test_a_request_is_on_record_before_it_is_taken_and_after_it_is_settled(db: Database) -> None:
    asked = await ask(db)
    before = await journal(db)
    [taken] = await take(db, NOON + timedelta(seconds=1))

    await settle(db, taken, Outcome.REFUSED, "the market is closed", NOON + timedelta(seconds=2))

    assert before == [
        OperatorAsked(
            at=NOON, request_id=asked.id, worker="breakeven", action="breakeven", parameters="lot 6f1c", asked_by="anna"
        )
    ]
    assert (await journal(db))[1:] == [
        OperatorAnswered(
            at=NOON + timedelta(seconds=2), request_id=asked.id, worker="breakeven", action="breakeven",
            outcome="refused", detail="the market is closed",
        )
    ]  # fmt: skip
    row = await newest(db)
    assert (row.parameters, row.taken_at, row.done_at, row.outcome) == (
        LOT, NOON + timedelta(seconds=1), NOON + timedelta(seconds=2), "refused",
    )  # fmt: skip


async def test_one_taker_gets_it_and_no_other(db: Database) -> None:
    await ask(db)

    async with db.transaction() as first, db.transaction() as second:
        taken = [await requests.take(conn, "paper", "breakeven", [Action.BREAKEVEN], NOON) for conn in (first, second)]

    assert [len(rows) for rows in taken] == [1, 0]
    assert await take(db, NOON) == []


async def test_what_is_asked_of_another_worker_or_account_is_left_alone(db: Database) -> None:
    await ask(db)

    async with db.transaction() as conn:
        assert await requests.take(conn, "swing", "breakeven", [Action.BREAKEVEN], NOON) == []
        assert await requests.take(conn, "paper", "healing", [Action.BREAKEVEN], NOON) == []
        assert await requests.take(conn, "paper", "breakeven", [Action.CYCLE], NOON) == []


async def test_a_late_request_expires_and_is_never_executed(db: Database) -> None:
    await ask(db)

    assert await take(db, NOON + timedelta(seconds=60)) == []

    row = await newest(db)
    assert (row.outcome, row.detail) == ("expired", "no running worker took it in time")
    assert isinstance((await journal(db))[-1], OperatorAnswered)


async def test_a_request_whose_taker_ended_is_lost_and_not_repeated(db: Database) -> None:
    await ask(db)
    await take(db, NOON)

    assert await take(db, NOON + timedelta(minutes=9)) == []
    assert (await newest(db)).outcome is None
    assert await take(db, NOON + timedelta(minutes=11)) == []

    assert (await newest(db)).outcome == "lost"


async def test_a_double_click_is_one_request_until_that_one_is_settled(db: Database) -> None:
    first = await ask(db)
    again = await ask(db, NOON + timedelta(seconds=1))
    other = await ask(db, NOON, {"lot": "77aa"})
    await settle(db, first, Outcome.DONE, "", NOON + timedelta(seconds=2))
    later = await ask(db, NOON + timedelta(seconds=3))

    assert again.id == first.id
    assert len({first.id, other.id, later.id}) == 3


async def test_the_first_outcome_stays(db: Database) -> None:
    request = await ask(db)
    await settle(db, request, Outcome.DONE, "moved", NOON)
    await settle(db, request, Outcome.FAILED, "too late", NOON)

    row = await newest(db)
    assert (row.outcome, row.detail) == ("done", "moved")
    assert len(await journal(db)) == 2
