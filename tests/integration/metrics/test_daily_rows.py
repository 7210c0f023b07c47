"""Daily rows: made from the lake, the calendar and the closes, and made again only where something is new."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fakes.accounting import (
    FRIDAY,
    MONDAY,
    NEXT_MONDAY,
    SATURDAY,
    THURSDAY,
    TUESDAY,
    WEDNESDAY,
    WEEK,
    cash,
    fill,
    money,
)
from fakes.counting_house import CountingHouse, new_york, open_counting_house
from fakes.past import DAILY, NOT_IN_THE_PLAN, UNKNOWN_SYMBOL

from coldharbour.errors import Transient

pytestmark = pytest.mark.anyio

FRIDAY_NIGHT = new_york(FRIDAY, "21:00")
MONDAY_NOON = new_york(NEXT_MONDAY, "12:00")
DEPOSITS = "select deposit from accounts.equity_full_paper order by session_date"
WEEKS_HISTORY = (cash(MONDAY, "CSD", "10000"), fill(MONDAY, "buy", "100", "KO", "60"), cash(TUESDAY, "DIV", "50"))


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[CountingHouse]:
    """An account on Friday night: the schedule knows two days, the broker all of them, and KO closes at 61 to 65."""
    async with open_counting_house(database_url, WEEK, FRIDAY_NIGHT) as house:
        await house.schedule(THURSDAY, FRIDAY)
        for number, day in enumerate(WEEK[:5]):
            house.past.close(day, KO=str(61 + number))
        yield house


async def versions(house: CountingHouse) -> dict[date, str]:
    """Return which transaction wrote each row last."""
    rows = await house.select("select session_date, xmin::text as version from accounts.equity_full_paper")
    return {row["session_date"]: row["version"] for row in rows}


async def row(house: CountingHouse, day: date) -> dict[str, Any]:
    [found] = await house.select("select * from accounts.equity_full_paper where session_date = %s", day)
    return found


class TestHistory:
    async def test_it_is_replayed_from_the_first_activity_to_the_last_session_that_closed(
        self, house: CountingHouse
    ) -> None:
        await house.record(*WEEKS_HISTORY)

        await house.count_equity()

        assert await house.column(DEPOSITS) == money(10_100, 10_250, 10_350, 10_450, 10_550)
        friday = await row(house, FRIDAY)
        assert (friday["cash"], friday["market_value"], friday["net_flows"]) == (4_050, 6_500, 0)
        assert friday["daily_return"] == 100 / 10_450
        assert (friday["complete"], friday["provisional"], friday["missing_symbols"]) == (True, False, [])
        assert friday["holdings"] == {"KO": ["100", "65.0"]}
        assert (await row(house, MONDAY))["buy_volume"] == 6_000

    async def test_the_broker_is_asked_once_for_what_does_not_change(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)

        await house.count_equity()
        asked = len(house.past.asked)
        await house.count_equity(FRIDAY_NIGHT + timedelta(minutes=1))
        await house.count_equity(FRIDAY_NIGHT + timedelta(days=1))

        [calendar] = [told for path, told in house.past.asked if path == "/v2/calendar"]
        assert (calendar["start"], calendar["end"]) == ("2026-10-05", "2026-10-07")
        assert house.past.asked_for(DAILY) == [("KO", "2026-07-01", "2026-10-09")]
        assert len(house.past.asked) == asked

    async def test_an_account_without_activities_has_no_rows(self, house: CountingHouse) -> None:
        await house.count_equity()

        assert await house.column(DEPOSITS) == []
        assert house.past.asked == []

    async def test_nothing_is_made_while_no_calendar_is_known(self, database_url: str) -> None:
        async with open_counting_house(database_url, WEEK, FRIDAY_NIGHT) as house:
            await house.record(*WEEKS_HISTORY)

            delay_s = await house.count_equity()

            assert delay_s == 5
            assert await house.column(DEPOSITS) == []

    async def test_an_account_whose_first_activity_is_dated_ahead_has_no_rows_yet(self, house: CountingHouse) -> None:
        await house.record(cash(NEXT_MONDAY, "CSD", "1000"))

        await house.count_equity()

        assert await house.column(DEPOSITS) == []

    async def test_the_next_look_falls_behind_the_full_minute(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)

        assert await house.count_equity(FRIDAY_NIGHT + timedelta(seconds=17)) == 43


class TestNews:
    async def test_a_late_activity_redoes_its_session_and_those_behind_it(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        await house.count_equity()
        before = await versions(house)

        await house.record(cash(WEDNESDAY, "FEE", "-7"))
        await house.count_equity()

        assert await house.column(DEPOSITS) == money(10_100, 10_250, 10_343, 10_443, 10_543)
        after = await versions(house)
        assert [day for day in WEEK[:5] if after[day] != before[day]] == [WEDNESDAY, THURSDAY, FRIDAY]

    async def test_going_on_from_rows_gives_what_a_replay_of_everything_gives(self, house: CountingHouse) -> None:
        late = [fill(TUESDAY, "sell", "33", "KO", "61.7"), cash(THURSDAY, "CSD", "123.45"), cash(FRIDAY, "INT", "3.1")]
        await house.record(*WEEKS_HISTORY)
        for activity in late:
            await house.count_equity()
            await house.record(activity)
        await house.count_equity()
        continued = await house.select("select * from accounts.equity_full_paper order by session_date")

        await house.execute("delete from accounts.lake_marks")
        await house.execute("delete from accounts.equity_full")
        await house.count_equity()

        assert await house.select("select * from accounts.equity_full_paper order by session_date") == continued

    async def test_nothing_new_changes_no_row(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        await house.count_equity()
        before = await versions(house)

        await house.count_equity(FRIDAY_NIGHT + timedelta(hours=1))

        assert await versions(house) == before

    async def test_a_canceled_activity_counts_no_more(self, house: CountingHouse) -> None:
        dividend = cash(TUESDAY, "DIV", "50")
        await house.record(*WEEKS_HISTORY[:2], dividend)
        await house.count_equity()

        await house.record(dividend._replace(status="canceled"))
        await house.count_equity()

        assert await house.column(DEPOSITS) == money(10_100, 10_200, 10_300, 10_400, 10_500)

    async def test_a_correction_counts_on_its_new_day_and_not_on_its_old_one(self, house: CountingHouse) -> None:
        dividend = cash(TUESDAY, "DIV", "50")
        await house.record(*WEEKS_HISTORY[:2], dividend)
        await house.count_equity()

        await house.record(dividend._replace(status="correct", date=FRIDAY))
        await house.count_equity()

        assert await house.column(DEPOSITS) == money(10_100, 10_200, 10_300, 10_400, 10_550)

    async def test_other_types_of_profit_make_all_rows_anew(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        await house.count_equity()

        house.cash_flow_types = ("-DIV",)
        await house.count_equity()

        tuesday = await row(house, TUESDAY)
        assert (tuesday["deposit"], tuesday["net_flows"]) == (10_250, 50)
        assert tuesday["daily_return"] == 100 / 10_150  # (10250 - 10100 - 50) / (10100 + 50)

    async def test_an_open_transaction_hides_nothing(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        open_one = await house.db.connect("slow")
        await open_one.execute("begin")
        await open_one.execute(
            """
            insert into account_activities.raw_activities
                (destination, id, activity_type, activity_date, net_amount, raw_json, source)
            values ('paper', 'slow', 'FEE', '2026-10-06', -1, '{}', 'rest')
            """
        )
        await house.record(cash(FRIDAY, "FEE", "-2"))
        await house.count_equity()
        await open_one.execute("commit")
        await open_one.close()

        await house.count_equity()

        assert await house.column(DEPOSITS) == money(10_100, 10_249, 10_349, 10_449, 10_547)


class TestTheRunningSession:
    async def test_its_row_is_provisional_and_takes_the_newest_prices(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY, cash(SATURDAY, "CSD", "500"))
        await house.schedule(THURSDAY, FRIDAY, NEXT_MONDAY)
        await house.hold("KO", "66", MONDAY_NOON, qty="100")

        await house.count_equity(MONDAY_NOON)

        monday = await row(house, NEXT_MONDAY)
        assert (monday["deposit"], monday["net_flows"], monday["provisional"]) == (11_150, 500, True)
        assert not (await row(house, FRIDAY))["provisional"]

    async def test_it_becomes_final_with_its_close_once_the_bars_are_complete(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        await house.schedule(THURSDAY, FRIDAY, NEXT_MONDAY)
        await house.hold("KO", "66", new_york(NEXT_MONDAY, "15:59"), qty="100")
        house.past.close(NEXT_MONDAY, KO="66.5")

        await house.count_equity(new_york(NEXT_MONDAY, "16:15"))
        early = await row(house, NEXT_MONDAY)
        await house.count_equity(new_york(NEXT_MONDAY, "16:16"))
        late = await row(house, NEXT_MONDAY)

        assert (early["deposit"], early["provisional"]) == (10_650, True)
        assert (late["deposit"], late["provisional"]) == (10_700, False)

    async def test_a_price_from_before_the_session_does_not_stand_for_it(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        await house.schedule(THURSDAY, FRIDAY, NEXT_MONDAY)
        await house.hold("KO", "99", new_york(FRIDAY, "19:59"), qty="100")

        await house.count_equity(new_york(NEXT_MONDAY, "04:01"))

        assert (await row(house, NEXT_MONDAY))["deposit"] == 10_550


class TestWhatIsMissing:
    async def test_a_symbol_without_a_price_is_left_out_named_and_logged_once(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY, fill(TUESDAY, "buy", "10", "NOPE", "30"))

        await house.count_equity()
        await house.count_equity(FRIDAY_NIGHT + timedelta(minutes=1))

        tuesday = await row(house, TUESDAY)
        assert (tuesday["complete"], tuesday["missing_symbols"]) == (False, ["NOPE"])
        assert (tuesday["market_value"], tuesday["holdings"]["NOPE"]) == (6_200, ["10", None])
        finding = "NOPE has no price from 2026-10-06 to 2026-10-09: its value is left out of these days' equity"
        assert await house.findings() == {"NOPE": finding}
        assert [line["finding"] for line in house.logged if line["event"] == "equity.incomplete"] == [finding]

    async def test_a_close_that_turns_up_later_completes_the_days(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY, fill(TUESDAY, "buy", "10", "NOPE", "30"))
        await house.count_equity()

        house.past.close(TUESDAY, NOPE="31")
        await house.count_equity(FRIDAY_NIGHT + timedelta(hours=5))
        waiting = await house.findings()
        await house.count_equity(FRIDAY_NIGHT + timedelta(hours=6))

        assert list(waiting) == ["NOPE"]
        assert await house.findings() == {}
        tuesday = await row(house, TUESDAY)
        assert (tuesday["complete"], tuesday["market_value"]) == (True, 6_510)

    async def test_a_symbol_that_the_broker_will_not_read_spoils_only_itself(self, house: CountingHouse) -> None:
        house.past.refusals["BTC/USD"] = UNKNOWN_SYMBOL
        await house.record(*WEEKS_HISTORY, fill(MONDAY, "buy", "1", "BTC/USD", "30"))

        await house.count_equity()

        monday = await row(house, MONDAY)
        assert (monday["market_value"], monday["missing_symbols"]) == (6_100, ["BTC/USD"])

    async def test_a_hole_in_the_calendar_is_found_and_logged_once_and_no_day_is_made_up(
        self, database_url: str
    ) -> None:
        early = date(2026, 9, 21)
        async with open_counting_house(database_url, [early, *WEEK], FRIDAY_NIGHT) as house:
            await house.schedule(THURSDAY, FRIDAY)
            await house.record(cash(early, "CSD", "100"), cash(date(2026, 9, 29), "CSD", "50"))

            await house.count_equity()
            await house.count_equity()

            days = await house.column("select session_date from accounts.equity_full_paper order by session_date")
            finding = (
                "the broker's calendar has no session from 2026-09-22 to 2026-10-04: "
                "what happened then counts in the session after"
            )
            assert days == [early, *WEEK[:5]]
            assert (await row(house, MONDAY))["net_flows"] == 50
            assert await house.findings() == {"2026-09-22": finding}
            assert [line["finding"] for line in house.logged if line["event"] == "equity.incomplete"] == [finding]

    async def test_activities_before_the_calendar_begins_are_found_too(self, database_url: str) -> None:
        async with open_counting_house(database_url, WEEK, FRIDAY_NIGHT) as house:
            await house.schedule(THURSDAY, FRIDAY)
            await house.record(cash(date(2026, 9, 1), "CSD", "100"))

            await house.count_equity()

            assert await house.column(DEPOSITS) == money(100, 100, 100, 100, 100)
            assert list(await house.findings()) == ["2026-09-01"]

    async def test_an_activity_that_cannot_be_counted_is_left_out(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY, cash(None, "CSD", "777"))

        await house.count_equity()

        assert await house.column(DEPOSITS) == money(10_100, 10_250, 10_350, 10_450, 10_550)


class TestTheBroker:
    async def test_while_it_is_away_rows_stay_as_they_are_and_the_worker_says_so(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        await house.count_equity()
        await house.schedule(THURSDAY, FRIDAY, NEXT_MONDAY)
        house.past.is_down = True

        with pytest.raises(Transient, match="503"):
            await house.count_equity(new_york(NEXT_MONDAY, "16:30"))

        assert await house.column(DEPOSITS) == money(10_100, 10_250, 10_350, 10_450, 10_550)

    async def test_a_plan_without_these_bars_is_said_to_be_why(self, house: CountingHouse) -> None:
        await house.record(*WEEKS_HISTORY)
        house.past.refusals[DAILY] = NOT_IN_THE_PLAN

        with pytest.raises(Transient, match="refuses daily bars: subscription does not permit") as caught:
            await house.count_equity()

        assert caught.value.retry_after_s == 60

    async def test_many_symbols_are_asked_for_together(self, house: CountingHouse) -> None:
        symbols = [f"S{number:03d}" for number in range(150)]
        await house.record(*(fill(WEEK[number % 5], "buy", "1", symbol, "5") for number, symbol in enumerate(symbols)))
        for symbol in symbols:
            for day in WEEK[:5]:
                house.past.close(day, **{symbol: "5"})

        await house.count_equity()

        # 101 days from July on: 99 symbols fill a page
        assert [len(told[0].split(",")) for told in house.past.asked_for(DAILY)] == [99, 51]
        assert (await row(house, FRIDAY))["market_value"] == Decimal(750)
