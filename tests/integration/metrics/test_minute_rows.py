"""Intraday rows: the minute that runs from the tables, missed ones from bars, and never one that was made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from fakes.accounting import FRIDAY, MONDAY, NEXT_MONDAY, THURSDAY, TUESDAY, WEDNESDAY, WEEK, cash, fill, money
from fakes.counting_house import CountingHouse, new_york, open_counting_house
from fakes.past import MINUTELY, NOT_IN_THE_PLAN

from coldharbour.errors import Transient

pytestmark = pytest.mark.anyio

HISTORY = (cash(MONDAY, "CSD", "10000"), fill(MONDAY, "buy", "100", "KO", "60"))  # Wednesday closes at 10,300
MINUTE = timedelta(minutes=1)


def thursday(wall: str) -> datetime:
    return new_york(THURSDAY, wall)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[CountingHouse]:
    """An account on Thursday with 100 KO; Wednesday's close was 63."""
    async with open_counting_house(database_url, WEEK, thursday("12:00")) as house:
        await house.schedule(WEDNESDAY, THURSDAY)
        for day, price in zip((MONDAY, TUESDAY, WEDNESDAY), ("61", "62", "63"), strict=True):
            house.past.close(day, KO=price)
        await house.record(*HISTORY)
        yield house


async def minutes(house: CountingHouse) -> dict[str, dict[str, Any]]:
    """Return the rows by their time in New York."""
    wall = "to_char(at at time zone 'America/New_York', 'DD HH24:MI') as wall"
    rows = await house.select(f"select *, {wall} from accounts.equity_intraday_paper order by at")  # noqa: S608
    return {row["wall"]: row for row in rows}


async def equity_of(house: CountingHouse, *walls: str) -> list[Decimal | None]:
    rows = await minutes(house)
    return [rows[f"08 {wall}"]["equity"] if f"08 {wall}" in rows else None for wall in walls]


class TestTheRunningMinute:
    async def test_it_is_measured_from_the_previous_close_with_the_newest_prices(self, house: CountingHouse) -> None:
        await house.hold("KO", "64.5", thursday("12:00"), qty="100")

        await house.count_equity(thursday("12:00:30"))

        now = (await minutes(house))["08 12:00"]
        assert (now["equity"], now["profit"], now["flows"]) == (10_450, 150, 0)
        assert now["cumulative_return"] == pytest.approx(10_300 / 10_100 * 10_450 / 10_300 - 1)
        assert (now["complete"], now["source"], now["session_date"]) == (True, "live", THURSDAY)

    async def test_a_look_just_behind_a_minutes_end_tells_of_that_minute(self, house: CountingHouse) -> None:
        await house.hold("KO", "64", thursday("12:00"), qty="100")

        await house.count_equity(thursday("12:00:04"))

        assert await equity_of(house, "11:59", "12:00") == [10_400, None]

    async def test_a_later_look_within_the_minute_replaces_it(self, house: CountingHouse) -> None:
        for second, price in (("10", "64"), ("50", "65")):
            await house.hold("KO", price, thursday("12:00"), qty="100")
            await house.count_equity(thursday(f"12:00:{second}"))

        assert await equity_of(house, "12:00") == money(10_500)

    async def test_flows_and_fills_of_today_are_in_it(self, house: CountingHouse) -> None:
        await house.record(
            cash(THURSDAY, "CSD", "1000"), cash(THURSDAY, "DIV", "7"),
            fill(THURSDAY, "sell", "40", "KO", "65", at="15:00:00"),
        )  # fmt: skip
        await house.hold("KO", "64", thursday("12:00"), qty="60")

        await house.count_equity(thursday("12:00:30"))

        now = (await minutes(house))["08 12:00"]
        assert (now["profit"], now["flows"]) == (40 * 2 + 60 * 1 + 7, 1_000)
        assert now["equity"] == 10_300 + 147 + 1_000

    async def test_a_position_without_a_price_is_said_to_lack_one(self, house: CountingHouse) -> None:
        await house.hold("KO", None, thursday("12:00"))

        await house.count_equity(thursday("12:00:30"))

        now = (await minutes(house))["08 12:00"]
        assert (now["equity"], now["complete"]) == (10_300, False)

    async def test_a_symbol_that_has_not_traded_today_keeps_its_close(self, house: CountingHouse) -> None:
        await house.hold("KO", "99", new_york(WEDNESDAY, "19:59"))

        await house.count_equity(thursday("04:00:30"))

        now = (await minutes(house))["08 04:00"]
        assert (now["equity"], now["complete"]) == (10_300, True)

    async def test_there_is_none_outside_the_session(self, house: CountingHouse) -> None:
        await house.hold("KO", "64", thursday("12:00"))

        await house.count_equity(thursday("03:59:59"))
        await house.count_equity(new_york(WEDNESDAY, "20:30"))

        assert await house.column("select at from accounts.equity_intraday_paper where source = 'live'") == []

    async def test_a_move_that_no_row_shows_yet_counts(self, house: CountingHouse) -> None:
        await house.hold("KO", "64.5", thursday("12:00"), qty="100")
        house.prices.seed("KO", Decimal("64.503"), thursday("12:00:20"))

        await house.count_equity(thursday("12:00:30"))

        [daily] = await house.column("select deposit from accounts.equity_full_paper where session_date = %s", THURSDAY)
        assert await equity_of(house, "12:00") == [daily] == money("10450.3")

    async def test_what_comes_while_the_days_are_made_is_in_the_minute_and_in_the_day(
        self, house: CountingHouse
    ) -> None:
        await house.hold("KO", "64.5", thursday("12:00"), qty="100")
        house.past.meanwhile = partial(house.record, cash(THURSDAY, "CSD", "250"))

        await house.count_equity(thursday("12:00:30"))

        [daily] = await house.column("select deposit from accounts.equity_full_paper where session_date = %s", THURSDAY)
        assert await equity_of(house, "12:00") == [daily] == money(10_700)

    async def test_it_waits_for_no_broker(self, house: CountingHouse) -> None:
        await house.count_equity(thursday("09:00"))
        await house.hold("KO", "64", thursday("12:00"), qty="100")
        await house.record(fill(TUESDAY, "buy", "1", "NEWS", "5"))
        house.past.is_down = True

        with pytest.raises(Transient):
            await house.count_equity(thursday("12:00:30"))

        assert await equity_of(house, "12:00") == money(10_400)

    async def test_the_first_session_of_all_begins_with_nothing(self, database_url: str) -> None:
        async with open_counting_house(database_url, WEEK, thursday("12:00:30")) as house:
            await house.schedule(WEDNESDAY, THURSDAY)
            await house.record(cash(THURSDAY, "CSD", "500"))

            await house.count_equity()

            now = (await minutes(house))["08 12:00"]
            assert (now["equity"], now["profit"], now["flows"], now["cumulative_return"]) == (500, 0, 500, 0)


class TestMissedMinutes:
    async def test_they_are_filled_from_bars_once_these_are_complete(self, house: CountingHouse) -> None:
        house.past.minute(thursday("09:30"), KO="64")
        house.past.minute(thursday("11:43"), KO="66")
        house.past.minute(thursday("11:44"), KO="70")

        await house.count_equity(thursday("12:00"))

        assert await equity_of(house, "04:00", "09:29") == [10_300, 10_300]
        assert await equity_of(house, "09:30", "11:42", "11:43") == money(10_400, 10_400, 10_600)
        assert await equity_of(house, "11:44", "11:58") == [None, None]  # younger than 16 minutes
        filled = (await minutes(house))["08 09:30"]
        assert (filled["source"], filled["complete"]) == ("bars", True)

    async def test_only_the_missing_ones_are_asked_for_and_only_once(self, house: CountingHouse) -> None:
        await house.count_equity(thursday("12:00"))
        await house.hold("KO", "64", thursday("12:00"), qty="100")
        asked = len(house.past.asked_for(MINUTELY))

        for number in range(5):
            await house.count_equity(thursday("12:00:30") + number * MINUTE)

        assert asked == 1
        assert len(house.past.asked_for(MINUTELY)) == 1  # 11:44 and those after it come of age, and wait for 11:59
        live = await house.column("select count(*) from accounts.equity_intraday_paper where source = 'live'")
        assert live == [6]

        await house.count_equity(thursday("12:16:30"))

        assert len(house.past.asked_for(MINUTELY)) == 2
        assert len(await minutes(house)) == 8 * 60 + 5 + 1

    async def test_one_that_was_last_looked_at_before_its_end_is_made_from_bars(self, house: CountingHouse) -> None:
        house.past.minute(thursday("12:00"), KO="66")
        await house.hold("KO", "64", thursday("12:00"), qty="100")
        await house.count_equity(thursday("12:00:10"))

        await house.count_equity(thursday("13:00"))

        assert await equity_of(house, "12:00") == money(10_600)

    async def test_a_whole_session_that_was_missed_is_filled_too(self, house: CountingHouse) -> None:
        await house.count_equity(thursday("04:30"))
        await house.schedule(WEDNESDAY, THURSDAY, FRIDAY, NEXT_MONDAY)
        house.past.close(THURSDAY, KO="64")
        house.past.close(FRIDAY, KO="65")
        house.past.minute(new_york(FRIDAY, "15:59"), KO="65")

        await house.count_equity(new_york(NEXT_MONDAY, "04:00:30"))

        rows = await minutes(house)
        assert sum(wall.startswith("08") for wall in rows) == sum(wall.startswith("09") for wall in rows) == 960
        assert (rows["09 15:58"]["equity"], rows["09 15:59"]["equity"]) == (10_400, 10_500)

    async def test_without_bars_they_stay_missing_and_that_is_found(self, house: CountingHouse) -> None:
        house.past.refusals[MINUTELY] = NOT_IN_THE_PLAN
        await house.hold("KO", "64", thursday("12:00"), qty="100")

        await house.count_equity(thursday("12:00:30"))
        refused = await house.findings()
        del house.past.refusals[MINUTELY]
        rows = await minutes(house)
        await house.count_equity(thursday("12:01:30"))

        assert list(rows) == ["08 12:00"]
        assert "the broker refuses minute bars" in refused["minutes"]
        assert await house.findings() == {}
        assert len(await minutes(house)) > 400

    async def test_old_ones_are_pruned(self, house: CountingHouse) -> None:
        await house.count_equity(thursday("12:00"), keep_minutes_days=1)
        before = len(await minutes(house))
        await house.schedule(WEDNESDAY, THURSDAY, FRIDAY)

        await house.count_equity(new_york(FRIDAY, "04:00:30"), keep_minutes_days=1)

        rows = await minutes(house)
        assert before > 400
        assert {wall[:2] for wall in rows} == {"09"}


class TestWhatBecomesKnownLate:
    async def test_a_deposit_makes_only_the_minutes_since_it_was_booked_again(self, house: CountingHouse) -> None:
        await house.hold("KO", "63", thursday("12:00"), qty="100")
        for minute in ("12:00", "12:01", "12:02"):
            await house.count_equity(thursday(f"{minute}:30"))

        await house.record(cash(THURSDAY, "CSD", "250", booked="2026-10-08T16:01:40Z"))
        await house.count_equity(thursday("12:03:30"))

        rows = await minutes(house)
        stale = [rows[f"08 {wall}"]["stale"] for wall in ("12:00", "12:01", "12:02", "12:03")]
        assert stale == [False, True, True, False]
        assert await equity_of(house, "11:40", "12:00", "12:03") == money(10_300, 10_300, 10_550)

    async def test_a_late_fill_makes_its_minutes_again_from_bars(self, house: CountingHouse) -> None:
        house.past.minute(thursday("11:00"), KO="64", TSLA="200")
        house.past.minute(thursday("11:10"), KO="64", TSLA="203")
        await house.count_equity(thursday("12:00"))

        await house.record(fill(THURSDAY, "buy", "10", "TSLA", "201", at="15:05:30"))  # 11:05:30 in New York
        await house.count_equity(thursday("12:10"))

        assert await equity_of(house, "11:04", "11:05", "11:09", "11:10") == money(10_400, 10_390, 10_390, 10_420)
        rows = await minutes(house)
        assert [wall for wall, row in rows.items() if row["stale"]] == ["08 11:59"]  # its bars are not complete yet

    async def test_until_the_bars_are_complete_a_minute_says_that_it_is_stale(self, house: CountingHouse) -> None:
        await house.hold("KO", "64", thursday("12:00"), qty="100")
        for minute in ("12:00", "12:01", "12:02"):
            await house.count_equity(thursday(f"{minute}:30"))

        await house.record(cash(THURSDAY, "DIV", "5"), fill(THURSDAY, "sell", "1", "KO", "65", at="16:01:10"))
        await house.count_equity(thursday("12:03:30"))

        rows = await minutes(house)
        stale = [rows[f"08 {wall}"]["stale"] for wall in ("12:00", "12:01", "12:02", "12:03")]
        assert stale == [True, True, True, False]

    async def test_a_fee_of_an_earlier_day_moves_all_minutes_of_this_one(self, house: CountingHouse) -> None:
        house.past.minute(thursday("11:00"), KO="64")
        await house.count_equity(thursday("12:00"))

        await house.record(cash(TUESDAY, "FEE", "-3"))
        await house.count_equity(thursday("12:01"))

        assert await equity_of(house, "04:00", "11:00") == money(10_297, 10_397)

    async def test_the_last_minute_and_the_daily_row_agree_to_the_cent(self, house: CountingHouse) -> None:
        await house.record(
            cash(THURSDAY, "CSD", "321.09"), fill(THURSDAY, "buy", "7", "TSLA", "201.37", at="15:05:30"),
            fill(THURSDAY, "sell", "33", "KO", "64.11", at="16:05:30"),
        )  # fmt: skip
        house.past.close(THURSDAY, KO="64.25", TSLA="205.43")
        house.past.minute(thursday("15:59"), KO="64.25", TSLA="205.43")

        await house.count_equity(thursday("20:30"))

        [daily] = await house.column("select deposit from accounts.equity_full_paper where session_date = %s", THURSDAY)
        # 4000 + 321.09 - 7*201.37 + 33*64.11 = 5027.13 in cash, 67*64.25 = 4304.75, 7*205.43 = 1438.01
        assert daily == Decimal("10769.89")
        assert await equity_of(house, "19:59") == [daily]
