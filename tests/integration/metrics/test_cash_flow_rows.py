"""Cash flows: one row per activity that is no fill, in step with the lake, and each problem said once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from coldharbour_plugins.cash_flows import CashFlowSettings, keep_cash_flows, register_workers
from fakes.accounting import FRIDAY, MONDAY, TUESDAY, WEEK, cash, fill, shares
from fakes.counting_house import CountingHouse, lake_json, new_york, open_counting_house
from fakes.harbour import open_harbour

from coldharbour.broker import translate
from coldharbour.clock import SystemClock
from coldharbour.lake.writer import Lake
from coldharbour.live.cash import AccountActivity

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[CountingHouse]:
    async with open_counting_house(database_url, WEEK, new_york(FRIDAY, "21:00")) as house:
        yield house


async def keep(house: CountingHouse) -> None:
    with structlog.testing.capture_logs() as lines:
        await keep_cash_flows(house.ctx, CashFlowSettings())
    house.logged += lines


async def flows(house: CountingHouse) -> list[dict[str, Any]]:
    return await house.select("select * from accounts.cash_flows_paper order by flow_date, id")


async def amounts(house: CountingHouse) -> list[tuple[str, str]]:
    return [(row["type"], str(row["amount"])) for row in await flows(house)]


class TestRows:
    async def test_every_activity_that_is_no_fill_is_a_row(self, house: CountingHouse) -> None:
        fee = AccountActivity(
            "20261006000000000::fee", "FEE", date=TUESDAY, symbol="KO", net_amount=Decimal("-0.05"),
            description="TAF fee", status="executed",
        )  # fmt: skip
        await house.record(cash(MONDAY, "CSD", "1000"), fill(MONDAY, "buy", "1", "KO", "60"), fee)
        await house.record(shares(FRIDAY, "JNLS", "5", "KO"))

        await keep(house)

        deposit, booked, transfer = await flows(house)
        assert (deposit["amount"], deposit["type"], deposit["is_external"], deposit["symbol"]) == (
            1000,
            "CSD",
            True,
            None,
        )
        assert (booked["type"], booked["is_external"], booked["symbol"]) == ("FEE", False, "KO")
        assert (booked["flow_date"], booked["description"]) == (TUESDAY, "TAF fee")
        assert booked["ts"] == datetime(2026, 10, 6, 4, 0, tzinfo=UTC)  # midnight in New York
        assert (transfer["type"], transfer["amount"], transfer["is_external"]) == ("JNLS", 0, True)

    async def test_only_what_is_new_is_written(self, house: CountingHouse) -> None:
        await house.record(cash(MONDAY, "CSD", "1000"))
        await keep(house)
        before = await house.column("select xmin::text from accounts.cash_flows_paper")

        await house.record(cash(TUESDAY, "DIV", "5"))
        await keep(house)
        await keep(house)

        assert await amounts(house) == [("CSD", "1000"), ("DIV", "5")]
        assert await house.column("select xmin::text from accounts.cash_flows_paper where type = 'CSD'") == before

    async def test_a_canceled_activity_loses_its_row_and_a_corrected_one_changes_it(self, house: CountingHouse) -> None:
        dividend, interest = cash(MONDAY, "DIV", "5"), cash(MONDAY, "INT", "1")
        await house.record(dividend, interest)
        await keep(house)

        await house.record(
            dividend._replace(status="canceled"),
            interest._replace(status="correct", date=FRIDAY, net_amount=Decimal(2)),
        )
        await keep(house)

        [row] = await flows(house)
        assert (row["type"], row["amount"], row["flow_date"]) == ("INT", 2, FRIDAY)

    async def test_an_activity_that_was_canceled_from_the_start_has_none(self, house: CountingHouse) -> None:
        await house.record(cash(MONDAY, "DIV", "5", status="canceled"))

        await keep(house)

        assert await flows(house) == []

    async def test_other_types_of_profit_are_told_of_every_row(self, house: CountingHouse) -> None:
        await house.record(cash(MONDAY, "SWP", "5"), cash(MONDAY, "DIV", "5"))
        await keep(house)
        usual = {row["type"]: row["is_external"] for row in await flows(house)}

        house.cash_flow_types = ("SWP",)
        await keep(house)

        assert usual == {"SWP": True, "DIV": False}
        assert {row["type"]: row["is_external"] for row in await flows(house)} == {"SWP": False, "DIV": True}

    async def test_an_open_transaction_hides_nothing(self, house: CountingHouse) -> None:
        open_one = await house.db.connect("slow")
        await open_one.execute("begin")
        await open_one.execute(
            """
            insert into account_activities.raw_activities
                (destination, id, activity_type, activity_date, net_amount, raw_json, source)
            values ('paper', 'slow', 'FEE', '2026-10-06', -1, '{}', 'rest')
            """
        )
        await house.record(cash(MONDAY, "CSD", "1000"))
        await keep(house)
        before = await amounts(house)
        await open_one.execute("commit")
        await open_one.close()

        await keep(house)

        assert before == [("CSD", "1000")]
        assert await amounts(house) == [("CSD", "1000"), ("FEE", "-1")]

    async def test_a_database_that_counts_its_transactions_anew_is_read_from_the_beginning(
        self, house: CountingHouse
    ) -> None:
        await house.record(cash(MONDAY, "CSD", "1000"))
        await keep(house)
        await house.execute("update accounts.lake_marks set floor = '999999999999'")

        await house.record(cash(TUESDAY, "DIV", "5"))
        await keep(house)

        assert await amounts(house) == [("CSD", "1000"), ("DIV", "5")]


class TestProblems:
    async def test_what_cannot_be_counted_is_found_logged_once_and_not_guessed(self, house: CountingHouse) -> None:
        undated = cash(None, "CSD", "1000")
        await house.record(undated, AccountActivity("2", "FILL", date=MONDAY, symbol="KO", side="buy"))

        await keep(house)
        await house.execute("delete from accounts.lake_marks")
        await keep(house)

        expected = [
            "activity 20261001000000000::2 (FILL) is not counted: a fill without symbol, side, quantity or price",
            f"activity {undated.id} (CSD) is not counted: it has neither a date nor a time",
        ]
        assert await flows(house) == []
        assert sorted((await house.findings()).values()) == expected
        assert sorted(line["finding"] for line in house.logged if line["event"] == "cash_flows.uncounted") == expected

    async def test_a_correction_resolves_it(self, house: CountingHouse) -> None:
        undated = cash(None, "CSD", "1000")
        await house.record(undated)
        await keep(house)

        await house.record(undated._replace(date=MONDAY, status="correct"))
        await keep(house)

        assert await house.findings() == {}
        assert await amounts(house) == [("CSD", "1000")]
        assert await house.column("select resolved_at is not null from accounts.findings") == [True]


async def test_the_lake_wakes_the_worker(database_url: str, tmp_path: Path) -> None:
    async with open_harbour(database_url, tmp_path) as harbour:
        [spec] = register_workers()
        worker = harbour.assign(
            lambda ctx, _: keep_cash_flows(ctx, CashFlowSettings()), kind=spec.kind, wake_on=spec.wake_on
        )

        async with (
            harbour.running(worker),
            harbour.db.listener() as listener,
            listener.subscribe("equity_channel_paper") as notes,
        ):
            await anext(notes)
            await harbour.until_state("ready", "cash_flows")
            lake = Lake("paper", harbour.db, SystemClock())
            await lake.write_activities([translate.activity(lake_json(cash(MONDAY, "CSD", "1000")))])
            with anyio.fail_after(20):
                await anext(notes)

        async with harbour.db.transaction() as conn:
            cursor = await conn.execute("select type, amount from accounts.cash_flows where destination = 'paper'")
            assert await cursor.fetchall() == [("CSD", 1000)]
