"""The ledger's reader against real PostgreSQL: everything once, nothing skipped, whatever commits when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from fakes.lake import NOON, SLUG, activity, cash_json, fill_json, name, open_lake, order, order_json, told

from coldharbour.lake.writer import Lake
from coldharbour.live.ledger.reader import LedgerReader
from coldharbour.live.model import MoveKind

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lake(database_url: str) -> AsyncIterator[Lake]:
    async with open_lake(database_url) as lake:
        yield lake


@pytest.fixture
def reader(lake: Lake) -> LedgerReader:
    return LedgerReader(lake.db, SLUG, "us_equity")


async def fill(lake: Lake, execution: object, **changes: Any) -> None:
    """Record a fill as REST tells it."""
    await lake.write_activities([activity(fill_json(execution, **changes))])


async def test_the_whole_ledger_then_each_change_once(lake: Lake, reader: LedgerReader) -> None:
    await lake.write_orders([order(order_json("entry", status="filled", at=1, filled_qty="10"))])
    await fill(lake, "one", at=1)

    whole = await reader.whole()
    await fill(lake, "two", at=2)
    news = await reader.news()

    assert [fact.id for fact in whole.orders] == [name("entry")]
    assert [(done.id, done.order_id, done.qty, done.is_buy) for done in whole.fills] == [
        (name("one"), name("entry"), Decimal(10), True)
    ]
    assert [done.id for done in news.fills] == [name("two")]
    assert not await reader.news()


async def test_an_order_that_changes_comes_again(lake: Lake, reader: LedgerReader) -> None:
    await lake.write_orders([order(order_json("entry"))])
    await reader.whole()

    await lake.write_orders([order(order_json("entry", status="canceled", at=5, canceled_at="2026-10-08T16:00:05Z"))])
    [fact] = (await reader.news()).orders

    assert (fact.status, fact.canceled_at) == ("canceled", NOON + timedelta(seconds=5))
    assert not await reader.news()


async def test_a_transaction_that_began_earlier_and_commits_later_is_not_skipped(
    lake: Lake, reader: LedgerReader, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as slow:
        await slow.execute(
            "insert into account_activities.raw_activities (destination, id, execution_id, activity_type,"
            " transaction_time, symbol, side, qty, price, raw_json, source)"
            " values (%s, 'slow', 'slow', 'FILL', now(), 'KO', 'buy', 1, 60, '{}', 'rest')",
            [SLUG],
        )
        await fill(lake, "fast")
        first = await reader.whole()
        await slow.commit()

    second = await reader.news()

    assert [done.id for done in first.fills] == [name("fast")]
    assert [done.id for done in second.fills] == ["slow"]


async def test_a_fill_of_the_stream_stays_one_fill_when_rest_gives_it_another_id(
    lake: Lake, reader: LedgerReader
) -> None:
    placed = order_json("entry", status="filled", filled_qty="10", at=1)
    await lake.write_frames([told("fill", placed, execution="one", at=1, price="62.10", qty="10")])
    [first] = (await reader.whole()).fills

    await lake.write_activities([activity(fill_json("one", at=1.25, id=f"20261008120001999::{name('one')}"))])
    [second] = (await reader.news()).fills

    assert first.id == second.id == name("one")
    assert second.at == NOON + timedelta(seconds=1.25)


async def test_shares_that_move_without_a_trade_count_from_the_beginning_of_their_day(
    lake: Lake, reader: LedgerReader
) -> None:
    split = cash_json("split", activity_type="SPLIT", net_amount="0", qty="30")
    shares = cash_json("transfer", activity_type="JNLS", net_amount="0", qty="-4", price="61.5")
    await lake.write_activities([activity(split), activity(shares), activity(cash_json("dividend"))])

    moves = {move.kind: move for move in (await reader.whole()).moves}

    assert (moves[MoveKind.SPLIT].qty, moves[MoveKind.SPLIT].price) == (Decimal(30), None)
    assert (moves[MoveKind.TRANSFER].qty, moves[MoveKind.TRANSFER].price) == (Decimal(-4), Decimal("61.5"))
    assert moves[MoveKind.SPLIT].at == datetime(2026, 10, 8, 4, 0, tzinfo=UTC)  # midnight of New York


async def test_a_transfer_that_the_broker_takes_back_moves_nothing(lake: Lake, reader: LedgerReader) -> None:
    shares = cash_json("transfer", activity_type="JNLS", net_amount="0", qty="4", price="61.5")
    await lake.write_activities([activity(shares)])
    await reader.whole()

    await lake.write_activities([activity({**shares, "status": "canceled"})])
    [move] = (await reader.news()).moves

    assert move.qty == 0


async def test_a_transfer_without_a_price_gets_that_days_close_as_soon_as_it_is_known(
    lake: Lake, reader: LedgerReader
) -> None:
    shares = cash_json("transfer", activity_type="ACATS", net_amount="0", qty="4")
    await lake.write_activities([activity(shares)])

    [unpriced] = (await reader.whole()).moves
    problems = dict(reader.problems)
    async with lake.db.transaction() as conn:
        await conn.execute(
            "insert into accounts.daily_closes (market, symbol, session_date, close)"
            " values ('us_equity', 'KO', '2026-10-07', 60), ('us_equity', 'KO', '2026-10-08', 61)"
        )
    [priced] = (await reader.news()).moves

    assert unpriced.price is None
    assert list(problems) == [unpriced.id]
    assert (priced.id, priced.price) == (unpriced.id, Decimal(61))
    assert reader.problems == {}
    assert not await reader.news()


async def test_transfers_of_one_day_follow_the_time_they_were_booked_at_and_splits_begin_their_day(
    lake: Lake, reader: LedgerReader
) -> None:
    booked = {"later": "2026-10-08T16:40:00Z", "earlier": "2026-10-08T13:45:00Z", "overnight": "2026-10-09T06:10:00Z"}
    transfers = [
        cash_json(what, activity_type="ACATS", net_amount="0", qty="5", price="61", created_at=at)
        for what, at in booked.items()
    ]
    split = cash_json("split", activity_type="SPLIT", net_amount="0", qty="5", created_at=booked["later"])

    await lake.write_activities([activity(told) for told in (*transfers, split)])
    reading = await reader.whole()

    begun = datetime(2026, 10, 8, 4, tzinfo=UTC)  # midnight in New York
    at = {move.id.partition("::")[2]: move.at for move in reading.moves}
    assert at == {
        name("later"): datetime(2026, 10, 8, 16, 40, tzinfo=UTC),
        name("earlier"): datetime(2026, 10, 8, 13, 45, tzinfo=UTC),
        name("overnight"): begun,
        name("split"): begun,
    }


async def test_what_cannot_be_counted_is_left_out_and_what_can_in_part_is_named(
    lake: Lake, reader: LedgerReader
) -> None:
    await fill(lake, "good")
    await fill(lake, "timeless", transaction_time=None)
    await fill(lake, "homeless", order_id=None)

    reading = await reader.whole()

    assert {done.id for done in reading.fills} == {name("good"), name("homeless")}
    assert list(reader.problems) == [name("homeless")]


async def test_a_reading_sees_one_moment_of_the_lake(lake: Lake, reader: LedgerReader) -> None:
    """An order and its fill are written together; no reading holds the one without the other."""
    placed = order_json("entry", status="filled", filled_qty="10", at=1)
    await reader.whole()

    await lake.write_frames([told("fill", placed, execution="one", at=1, price="62.10", qty="10")])
    news = await reader.news()

    assert [fact.id for fact in news.orders] == [done.order_id for done in news.fills] == [name("entry")]
