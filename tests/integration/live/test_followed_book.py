"""A book that follows the lake: what it cannot settle is named, and settled once the lake brings what was missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from fakes.lake import NOON, SLUG, activity, cash_json, fill_json, name, open_lake, order, order_json

from coldharbour.clock import SystemClock
from coldharbour.lake.writer import Lake
from coldharbour.live.findings import store as findings
from coldharbour.live.following import FollowedBook
from coldharbour.live.model import Side

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lake(database_url: str) -> AsyncIterator[Lake]:
    async with open_lake(database_url) as lake:
        yield lake


@pytest.fixture
def followed(lake: Lake) -> FollowedBook:
    return FollowedBook(lake.db, SLUG, "us_equity", SystemClock())


async def test_a_fill_of_an_unknown_order_counts_and_is_named_until_the_order_is_known(
    lake: Lake, followed: FollowedBook
) -> None:
    await lake.write_activities([activity(fill_json("one", order="entry"))])
    await followed.load()

    assert followed.book.quantity("KO") == 10
    assert list(followed.problems) == [name("entry")]

    await lake.write_orders([order(order_json("entry", status="filled", filled_qty="10"))])
    await followed.catch_up()

    assert followed.problems == {}
    assert [lot.parent_id for lot in followed.book.lots("KO")] == [name("entry")]


async def test_an_order_that_refers_to_itself_is_named_and_stops_nothing(lake: Lake, followed: FollowedBook) -> None:
    await followed.load()
    await lake.write_orders([order(order_json("entry", status="filled", filled_qty="10", replaces=name("entry")))])
    await lake.write_activities([activity(fill_json("one", order="entry"))])
    await followed.catch_up()

    assert list(followed.problems) == [name("entry")]
    assert followed.book.quantity("KO") == 10


async def test_a_finding_is_new_once_comes_back_and_resolves(lake: Lake) -> None:
    async def settle(**problems: str) -> tuple[list[str], int]:
        async with lake.db.transaction() as conn:
            return await findings.settle(conn, SLUG, "book", problems, NOON)

    assert await settle(a="first", b="second") == (["first", "second"], 0)
    assert await settle(a="first", b="second") == ([], 0)
    assert await settle(a="first, differently") == (["first, differently"], 1)
    assert await settle() == ([], 1)
    assert await settle(b="second") == (["second"], 0)


async def test_a_fill_that_comes_late_ends_where_it_would_have_ended_in_time(
    lake: Lake, followed: FollowedBook
) -> None:
    await lake.write_orders(
        [order(order_json(who, status="filled", filled_qty="10", side=side)) for who, side in
         (("first", "buy"), ("second", "buy"), ("exit", "sell"))]
    )  # fmt: skip
    await lake.write_activities(
        [activity(fill_json("two", order="second", at=2, price="64")),
         activity(fill_json("three", order="exit", at=3, price="70", side="sell"))]
    )  # fmt: skip
    await followed.load()
    [before] = followed.book.closed("KO")

    await lake.write_activities([activity(fill_json("one", order="first", at=1, price="60"))])
    touched = await followed.catch_up()

    assert touched == {"KO"}
    assert (before.entry_lot_id, before.pnl_cash) == (name("second"), Decimal(60))
    [after] = followed.book.closed("KO")
    assert (after.entry_lot_id, after.pnl_cash) == (name("first"), Decimal(100))
    assert [lot.parent_id for lot in followed.book.lots("KO")] == [name("second")]


async def test_a_split_multiplies_shares_and_divides_prices(lake: Lake, followed: FollowedBook) -> None:
    await lake.write_orders([order(order_json("entry", status="filled", filled_qty="10"))])
    await lake.write_activities([activity(fill_json("one", order="entry", at=-86_400, price="60"))])
    await followed.load()

    await lake.write_activities([activity(cash_json("split", activity_type="SPLIT", net_amount="0", qty="30"))])
    await followed.catch_up()

    [lot] = followed.book.lots("KO")
    assert (lot.side, lot.qty, lot.avg_fill) == (Side.LONG, Decimal(40), Decimal(15))
