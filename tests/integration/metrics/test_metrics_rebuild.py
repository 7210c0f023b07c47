"""A rebuild makes the rows that live operation made, and mends those that were spoiled."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.accounting import FRIDAY, MONDAY, THURSDAY, TUESDAY, WEDNESDAY, WEEK, cash, fill
from fakes.counting_house import CountingHouse, new_york, open_counting_house

from coldharbour.live.activities.flows import follow_flows
from coldharbour.metrics.documents import refresh_document
from coldharbour.metrics.rebuild import rebuild_metrics

pytestmark = pytest.mark.anyio

NIGHT = new_york(FRIDAY, "21:00")


async def everything(house: CountingHouse) -> list[list[dict[str, Any]]]:
    """Return the rows of all tables that are derived, but for when they were written."""
    queries = (
        "select * from accounts.cash_flows_paper order by id",
        "select * from accounts.equity_full_paper order by session_date",
        "select document - 'updated_at' as document from accounts.account_metrics_paper where id = 'latest'",
        "select * from accounts.equity_intraday_paper order by at",
    )
    return [await house.select(query) for query in queries]


async def test_it_gives_the_rows_of_live_operation(database_url: str) -> None:
    async with open_counting_house(database_url, WEEK, NIGHT) as house:
        await house.schedule(THURSDAY, FRIDAY)
        for number, day in enumerate(WEEK[:5]):
            house.past.close(day, KO=str(61 + number))
        performance = house.ctx.destination.performance_types
        for activity in (
            cash(MONDAY, "CSD", "10000"), fill(MONDAY, "buy", "100", "KO", "60"), cash(WEDNESDAY, "DIV", "3"),
            fill(TUESDAY, "sell", "30", "KO", "61.5"), cash(TUESDAY, "FEE", "-1"),
        ):  # fmt: skip
            await house.record(activity)
            await follow_flows(house.db, "paper", performance, NIGHT)
            await house.count_equity()
            await refresh_document(house.db, "paper", NIGHT)
        live = await everything(house)
        shown: list[float] = []

        await house.execute("delete from accounts.cash_flows where type = 'DIV'")
        await house.execute("update accounts.cash_flows set id = 'nobody knows it' where type = 'FEE'")
        await house.execute("update accounts.equity_full set deposit = 0, holdings = '{}' where cash > 0")
        await rebuild_metrics(house.db, house.ctx.destination, house.clock, lambda share, _: shown.append(share))

        assert await everything(house) == live
        assert shown == [0.3, 0.9, 1.0]
        assert len(live[1]) == 5


async def test_an_account_that_did_not_change_is_left_alone(database_url: str) -> None:
    async with open_counting_house(database_url, WEEK, NIGHT) as house:
        await house.schedule(THURSDAY, FRIDAY)
        for number, day in enumerate(WEEK[:5]):
            house.past.close(day, KO=f"{61 + number}.10")
        await house.record(cash(MONDAY, "CSD", "10000"), fill(MONDAY, "buy", "100", "KO", "60.50"))
        await house.record(fill(TUESDAY, "sell", "30", "KO", "61.5"), cash(WEDNESDAY, "DIV", "3.30"))
        await follow_flows(house.db, "paper", house.ctx.destination.performance_types, NIGHT)
        await house.count_equity()
        await refresh_document(house.db, "paper", NIGHT)
        rows = "select session_date, xmin::text, t::text from accounts.equity_full_paper as t order by session_date"
        before = await house.select(rows)
        told: list[str] = []

        await rebuild_metrics(house.db, house.ctx.destination, house.clock, lambda _, detail: told.append(detail))

        assert told[:2] == ["0 cash flows changed", "0 days changed"]
        assert await house.select(rows) == before
