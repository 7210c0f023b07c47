"""Intraday equity: a session worked by hand, and the daily row that its last minute must meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from fakes.accounting import (
    FRIDAY,
    MONDAY,
    NEXT_MONDAY,
    SATURDAY,
    TUESDAY,
    WEEK,
    cash,
    fill,
    full_closes,
    ledgers,
    minutes,
    money,
    prices,
    shares,
)
from hypothesis import given

from coldharbour.broker import Bar
from coldharbour.live.cash import AccountActivity
from coldharbour.metrics.equity import Closes, book_sessions, replay
from coldharbour.metrics.intraday import Minute, intraday_points, minutes_from_bars
from coldharbour.metrics.model import DayEnd, IntradayPoint


def end_of(day: date, activities: Iterable[AccountActivity], known: Closes) -> DayEnd | None:
    """Return the end of a session as the daily replay has it."""
    ends = replay(book_sessions([*activities], WEEK), known)
    return next((end for end in ends if end.point.session_date == day), None)


def priced(first: str, *each: Mapping[str, str | None], day: date = TUESDAY) -> list[Minute]:
    """Return minutes from a time on, each with its prices."""
    told = [{symbol: None if price is None else Decimal(price) for symbol, price in one.items()} for one in each]
    return list(zip(minutes(day, first, len(each)), told, strict=True))


def equities(points: Iterable[IntradayPoint]) -> list[Decimal]:
    return [point.equity for point in points]


# Monday ends with 4,000 in cash and 100 KO at 61: 10,100.
BEFORE = (cash(MONDAY, "CSD", "10000"), fill(MONDAY, "buy", "100", "KO", "60"))
CLOSES = prices(KO="61")


@pytest.fixture
def opening() -> DayEnd | None:
    return end_of(MONDAY, BEFORE, CLOSES)


class TestAWorkedSession:
    def test_overnight_shares_count_from_the_close_new_ones_from_their_fill_and_closed_ones_keep_what_they_made(
        self, opening: DayEnd | None
    ) -> None:
        today = [
            fill(TUESDAY, "buy", "10", "TSLA", "200", at="13:31:10"),
            fill(TUESDAY, "sell", "100", "KO", "63", at="13:32:59"),
        ]
        told = priced(
            "13:30",
            {"KO": "62"},  # 100 * (62 - 61)
            {"KO": "62", "TSLA": "201"},  # and 10 * (201 - 200)
            {"KO": "63.5", "TSLA": "202"},  # 100 * (63 - 61) were made, and 10 * (202 - 200)
            {"KO": "90", "TSLA": "199"},  # KO does not matter any more, and 10 * (199 - 200)
        )

        points = list(intraday_points(TUESDAY, told, today, opening))

        assert equities(points) == money(10_200, 10_210, 10_320, 10_290)
        assert [point.profit for point in points] == money(100, 110, 220, 190)

    def test_the_return_is_the_profit_on_the_previous_equity_upon_what_was_gained_before(self) -> None:
        activities = [*BEFORE, cash(TUESDAY, "DIV", "101")]  # Tuesday gains 101 on 10,100: 1 %
        opening = end_of(TUESDAY, activities, CLOSES)

        [point] = intraday_points(FRIDAY, priced("13:30", {"KO": "62"}, day=FRIDAY), activities, opening)

        assert point.profit == 100
        assert point.cumulative_return == pytest.approx(1.01 * (1 + 100 / 10_201) - 1, abs=1e-15)

    def test_performance_flows_move_equity_and_return_external_ones_equity_only(self, opening: DayEnd | None) -> None:
        today = [cash(TUESDAY, "DIV", "50"), cash(TUESDAY, "CSD", "1000")]

        [point] = intraday_points(TUESDAY, priced("08:00", {"KO": "61"}), today, opening)

        assert [point.equity, point.profit, point.flows] == money(11_150, 50, 1_000)
        assert point.cumulative_return == pytest.approx(50 / 10_100, abs=1e-15)

    @pytest.mark.parametrize(
        ("booked", "counted_from"),
        [
            ("2026-10-06T13:31:20Z", 1),  # within the minute of 13:31
            ("2026-10-06T23:50:00Z", 3),  # 19:50 in New York
            ("2026-10-07T01:00:00Z", 3),  # 21:00, behind the session: its last minute has it, as the day's row does
            ("2026-10-07T06:10:00Z", 0),  # the night after, of which only the day counts
        ],
    )
    def test_a_deposit_counts_from_when_it_was_booked_on_its_day(
        self, opening: DayEnd | None, booked: str, counted_from: int
    ) -> None:
        at = [*minutes(TUESDAY, "13:30", 3), *minutes(TUESDAY, "23:59", 1)]  # the last is 19:59 in New York
        told = [(minute, prices_now) for minute in at for prices_now in [{"KO": Decimal(61)}]]

        points = list(intraday_points(TUESDAY, told, [cash(TUESDAY, "CSD", "500", booked=booked)], opening))

        assert equities(points) == money(*([10_100] * counted_from + [10_600] * (4 - counted_from)))

    def test_a_deposit_of_the_weekend_is_there_when_the_next_session_begins(self) -> None:
        opening = end_of(FRIDAY, BEFORE, CLOSES)

        [point] = intraday_points(
            NEXT_MONDAY, priced("08:00", {"KO": "61"}, day=NEXT_MONDAY), [cash(SATURDAY, "CSD", "500")], opening
        )

        assert [point.equity, point.flows, point.profit] == money(10_600, 500, 0)

    def test_shares_that_are_transferred_in_are_a_flow_at_each_minutes_price(self, opening: DayEnd | None) -> None:
        today = [shares(TUESDAY, "JNLS", "10", "KO")]

        points = list(intraday_points(TUESDAY, priced("13:30", {"KO": "61"}, {"KO": "62"}), today, opening))

        assert equities(points) == money(10_710, 10_820)
        assert [point.flows for point in points] == money(610, 620)
        assert [point.profit for point in points] == money(0, 100)

    def test_a_split_is_worth_nothing_before_its_first_trade_and_after(self, opening: DayEnd | None) -> None:
        today = [shares(TUESDAY, "SPLIT", "100", "KO")]

        points = intraday_points(TUESDAY, priced("08:00", {"KO": None}, {"KO": "30.5"}), today, opening)

        assert equities(points) == money(10_100, 10_100)

    def test_the_first_session_of_all_begins_with_nothing(self) -> None:
        [point] = intraday_points(MONDAY, priced("19:59", {"KO": "61"}, day=MONDAY), BEFORE, None)

        assert [point.equity, point.flows, point.profit] == money(10_100, 10_000, 100)
        assert point.cumulative_return == 0.0

    def test_what_belongs_to_other_sessions_is_left_out(self, opening: DayEnd | None) -> None:
        others = [*BEFORE, cash(FRIDAY, "CSD", "7"), cash(TUESDAY, "DIV", "7", status="canceled")]

        [point] = intraday_points(TUESDAY, priced("13:30", {"KO": "61"}), others, opening)

        assert point.equity == 10_100


class TestPrices:
    def test_a_missing_price_is_the_last_one_known_and_said_to_be_missing(self, opening: DayEnd | None) -> None:
        today = [fill(TUESDAY, "buy", "10", "TSLA", "200", at="13:30:10")]

        points = list(intraday_points(TUESDAY, priced("13:30", {}, {"KO": "61", "TSLA": "201"}), today, opening))

        assert equities(points) == money(10_100, 10_110)
        assert [point.complete for point in points] == [False, True]

    def test_a_symbol_that_did_not_trade_keeps_its_close_and_misses_nothing(self, opening: DayEnd | None) -> None:
        [point] = intraday_points(TUESDAY, priced("08:00", {"KO": None}), [], opening)

        assert (point.equity, point.complete) == (Decimal(10_100), True)

    def test_a_symbol_that_never_had_a_price_is_left_out_and_said_to_be_missing(self) -> None:
        opening = end_of(MONDAY, BEFORE, {})

        [point] = intraday_points(TUESDAY, priced("08:00", {"KO": None}), [], opening)

        assert (point.equity, point.complete) == (Decimal(4_000), False)

    def test_shares_sold_need_no_price(self, opening: DayEnd | None) -> None:
        sold = [fill(TUESDAY, "sell", "100", "KO", "63", at="08:00:01")]

        [point] = intraday_points(TUESDAY, priced("08:00", {}), sold, opening)

        assert (point.equity, point.complete) == (Decimal(10_300), True)

    def test_shares_transferred_away_need_no_price_of_the_minute(self, opening: DayEnd | None) -> None:
        gone = [shares(TUESDAY, "ACATS", "-100", "KO")]

        [point] = intraday_points(TUESDAY, priced("08:00", {}), gone, opening)

        assert (point.equity, point.flows, point.complete) == (Decimal(4_000), Decimal(-6_100), True)

    def test_shares_that_came_and_went_within_a_session_are_worth_what_their_transfer_says(
        self, opening: DayEnd | None
    ) -> None:
        moves = [shares(TUESDAY, "ACATS", qty, "TSLA", price="200") for qty in ("5", "-2")]
        sold = fill(TUESDAY, "sell", "3", "TSLA", "210", at="08:00:01")

        [point] = intraday_points(TUESDAY, priced("08:00", {"KO": "61"}), [*moves, sold], opening)

        assert (point.equity, point.flows, point.complete) == (Decimal(10_730), Decimal(630), True)

    def test_bars_give_every_minute_the_newest_close_so_far(self) -> None:
        asked = ["KO", "MSFT"]
        bars = {"KO": [bar("KO", "13:29", "61"), bar("KO", "13:31", "62"), bar("KO", "13:32", "63")]}

        told = [(at, dict(now)) for at, now in minutes_from_bars(minutes(TUESDAY, "13:30", 4), bars, asked)]

        assert [now["KO"] for _, now in told] == money(61, 62, 63, 63)
        assert [now["MSFT"] for _, now in told] == [None] * 4
        assert [f"{at:%H:%M}" for at, _ in told] == ["13:30", "13:31", "13:32", "13:33"]


def bar(symbol: str, at: str, close: str) -> Bar:
    price = Decimal(close)
    moment = datetime.combine(TUESDAY, time.fromisoformat(at), UTC)
    return Bar(symbol=symbol, at=moment, open=price, high=price, low=price, close=price, volume=Decimal(1))


class TestAgreement:
    @given(ledgers, full_closes)
    def test_the_last_minute_and_the_daily_row_agree_when_given_the_same_prices(
        self, activities: list[AccountActivity], known: Closes
    ) -> None:
        ends: dict[date, DayEnd] = {
            end.point.session_date: end for end in replay(book_sessions(activities, WEEK), known)
        }
        for before, day in zip((None, *WEEK), WEEK, strict=False):
            if day not in ends:
                continue
            told = [(datetime.combine(day, time(23, 59), UTC), {symbol: known[symbol][day] for symbol in known})]

            [point] = intraday_points(day, told, activities, ends.get(before) if before else None)

            row = ends[day].point
            assert (point.equity, point.flows, point.complete) == (row.deposit, row.net_flows, True)
            assert point.profit == row.deposit - point.flows - (ends[before].point.deposit if before in ends else 0)
