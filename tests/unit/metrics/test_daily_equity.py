"""Daily equity: figures worked by hand, and the same ones however the ledger is cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from random import Random

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
    closes,
    fill,
    ledgers,
    money,
    prices,
    shares,
)
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.live.cash import AccountActivity
from coldharbour.metrics.equity import Closes, SessionBooks, book_sessions, daily_equity, needed_closes, replay
from coldharbour.metrics.model import DayEnd, EquityPoint


def ends(
    activities: Sequence[AccountActivity], known: Closes, sessions: Sequence[date] = WEEK, start: DayEnd | None = None
) -> list[DayEnd]:
    after = start.point.session_date if start else None
    return list(replay(book_sessions(activities, sessions, after=after), known, start=start))


def deposits(points: Sequence[EquityPoint]) -> list[Decimal]:
    return [point.deposit for point in points]


class TestAWorkedWeek:
    """A deposit, a long and a short position, a dividend, a withdrawal, and a deposit on a Saturday."""

    activities = (
        cash(MONDAY, "CSD", "10000"),
        fill(MONDAY, "buy", "100", "KO", "60"),
        cash(TUESDAY, "DIV", "50"),
        cash(WEDNESDAY, "CSW", "-1000"),
        fill(WEDNESDAY, "sell", "50", "KO", "63"),
        fill(THURSDAY, "sell_short", "10", "TSLA", "200"),
        cash(SATURDAY, "CSD", "500"),
    )
    closes = prices(KO="61 62 62.5 - 60 60", TSLA="- - - 190 210 200")

    @pytest.fixture
    def points(self) -> list[EquityPoint]:
        return daily_equity(self.activities, self.closes, WEEK)

    def test_cash_is_the_sum_of_all_cash_effects(self, points: list[EquityPoint]) -> None:
        assert [point.cash for point in points] == money("4000", "4050", "6200", "8200", "8200", "8700")

    def test_market_value_takes_the_last_close_known_and_shorts_below_zero(self, points: list[EquityPoint]) -> None:
        # 100*61, 100*62, 50*62.5, 50*62.5 - 10*190, 50*60 - 10*210, 50*60 - 10*200
        assert [point.market_value for point in points] == money("6100", "6200", "3125", "1225", "900", "1000")
        assert deposits(points) == money("10100", "10250", "9325", "9425", "9100", "9700")

    def test_flows_count_between_two_sessions_and_never_in_the_return(self, points: list[EquityPoint]) -> None:
        assert [point.net_flows for point in points] == money("10000", "0", "-1000", "0", "0", "500")
        assert [point.daily_return for point in points] == [
            0.0,  # the first day
            150 / 10_100,
            75 / 9_250,  # (9325 - 10250 + 1000) / (10250 - 1000)
            100 / 9_325,
            -325 / 9_425,
            100 / 9_600,  # (9700 - 9100 - 500) / (9100 + 500)
        ]

    def test_returns_multiply_and_the_drawdown_is_measured_from_their_peak(self, points: list[EquityPoint]) -> None:
        # 1.0148514851 * 1.0081081081 * 1.0107238606 = 1.034051378, times 0.9655172414 * 1.0104166667
        assert points[3].cumulative_return == pytest.approx(0.034051378, abs=1e-9)
        assert points[5].cumulative_return == pytest.approx(0.008794376, abs=1e-9)
        assert [point.drawdown for point in points[:4]] == [0.0, 0.0, 0.0, 0.0]
        assert points[4].drawdown == pytest.approx(-0.034482759, abs=1e-9)
        assert points[5].drawdown == pytest.approx(-0.024425287, abs=1e-9)  # 0.965517241 * 1.010416667 - 1

    def test_volumes_are_the_money_traded(self, points: list[EquityPoint]) -> None:
        assert [point.buy_volume for point in points] == money("6000", "0", "0", "0", "0", "0")
        assert [point.sell_volume for point in points] == money("0", "0", "3150", "2000", "0", "0")

    def test_ratios_stay_empty_until_there_are_enough_returns(self, points: list[EquityPoint]) -> None:
        assert set(points[-1].ratios.values()) == {None}
        assert len(points[-1].ratios) == 10

    def test_a_session_that_has_not_closed_is_provisional(self) -> None:
        points = daily_equity(self.activities, self.closes, WEEK, closed_through=FRIDAY)

        assert [point.provisional for point in points] == [False] * 5 + [True]


class TestShares:
    def test_a_transfer_is_a_flow_at_that_days_close(self) -> None:
        activities = [
            cash(MONDAY, "CSD", "1000"),
            shares(TUESDAY, "JNLS", "10", "KO"),
            shares(FRIDAY, "ACATS", "-4", "KO"),
        ]

        points = daily_equity(activities, prices(KO="61 62 63 64 65 66"), WEEK[:5])

        assert [point.net_flows for point in points] == money("1000", "620", "0", "0", "-260")
        assert deposits(points) == money("1000", "1620", "1630", "1640", "1390")
        # what moved in or out earned nothing on its day
        assert [point.daily_return for point in points] == [0.0, 0.0, 10 / 1620, 10 / 1630, 10 / 1380]

    def test_shares_that_came_and_left_within_a_session_were_worth_as_much_and_need_no_price(self) -> None:
        activities = [
            cash(MONDAY, "CSD", "1000"), shares(TUESDAY, "ACATS", "40", "KO"), shares(TUESDAY, "JNLS", "-40", "KO"),
        ]  # fmt: skip

        [_, point] = daily_equity(activities, {}, WEEK[:2])

        assert (point.complete, point.missing_symbols) == (True, ())
        assert [point.deposit, point.net_flows] == money("1000", "0")
        assert point.daily_return == 0
        assert needed_closes(book_sessions(activities, WEEK[:2])) == {}

    def test_a_split_is_worth_nothing(self) -> None:
        activities = [
            cash(MONDAY, "CSD", "1000"), fill(MONDAY, "buy", "10", "KO", "60"), shares(WEDNESDAY, "SPLIT", "20", "KO"),
        ]  # fmt: skip

        points = daily_equity(activities, prices(KO="60 60 20 21"), WEEK[:4])

        assert deposits(points) == money("1000", "1000", "1000", "1030")
        assert [point.net_flows for point in points] == money("1000", "0", "0", "0")

    def test_a_close_from_before_a_split_is_carried_through_it_in_proportion(self) -> None:
        activities = [
            cash(MONDAY, "CSD", "1000"), fill(MONDAY, "buy", "10", "KO", "60"), shares(WEDNESDAY, "SPLIT", "20", "KO"),
        ]  # fmt: skip

        points = daily_equity(activities, prices(KO="60"), WEEK[:4])

        assert deposits(points) == money("1000", "1000", "1000", "1000")

    def test_cash_for_merged_shares_is_no_flow(self) -> None:
        activities = [
            cash(MONDAY, "CSD", "1000"), fill(MONDAY, "buy", "10", "KO", "60"),
            shares(TUESDAY, "MA", "-10", "KO", "620"),
        ]  # fmt: skip

        points = daily_equity(activities, prices(KO="60 62"), WEEK[:2])

        assert deposits(points) == money("1000", "1020")
        assert [point.net_flows for point in points] == money("1000", "0")


class TestPrices:
    def test_a_symbol_without_any_price_is_named_and_left_out(self) -> None:
        activities = [
            cash(MONDAY, "CSD", "1000"), fill(MONDAY, "buy", "10", "NOPE", "30"), fill(MONDAY, "buy", "1", "KO", "60"),
        ]  # fmt: skip

        first, second = daily_equity(activities, prices(KO="60 61", NOPE="- 31"), WEEK[:2])

        assert (first.complete, first.missing_symbols) == (False, ("NOPE",))
        assert (second.complete, second.missing_symbols) == (True, ())
        assert [first.market_value, second.market_value] == money(60, 371)

    def test_until_the_close_a_symbol_that_nobody_quotes_is_worth_what_its_newest_fill_paid(self) -> None:
        """40 shares came from elsewhere and were sold on the same day: a flow of 2400, and 40 lost of it."""
        activities = [
            cash(MONDAY, "CSD", "1000"),
            shares(TUESDAY, "ACATS", "40", "KO"),
            fill(TUESDAY, "sell", "20", "KO", "60", at="15:00:00"),
            fill(TUESDAY, "sell", "20", "KO", "58", at="14:00:00"),
        ]

        [_, running] = daily_equity(activities, {}, WEEK[:2], closed_through=MONDAY)
        [_, quoted] = daily_equity(activities, prices(KO="- 61"), WEEK[:2], closed_through=MONDAY)
        [_, closed] = daily_equity(activities, {}, WEEK[:2])

        assert [running.deposit, running.net_flows] == money("3360", "2400")
        assert running.daily_return == -40 / 3400
        assert [quoted.deposit, quoted.net_flows] == money("3360", "2440")
        assert [closed.deposit, closed.net_flows] == money("3360", "0")  # only the day's close counts then
        assert [point.missing_symbols for point in (running, quoted, closed)] == [(), (), ("KO",)]

    def test_a_close_older_than_the_position_is_known_too(self) -> None:
        activities = [cash(MONDAY, "CSD", "1000"), fill(WEDNESDAY, "buy", "10", "KO", "63")]

        points = daily_equity(activities, prices(KO="60 62"), WEEK[:3])

        assert (points[2].complete, points[2].market_value) == (True, Decimal(620))

    def test_needed_are_those_of_the_sessions_that_ended_with_shares_or_moved_some(self) -> None:
        activities = [
            fill(TUESDAY, "buy", "10", "KO", "60"), fill(THURSDAY, "sell", "10", "KO", "60"),
            fill(TUESDAY, "buy", "5", "MSFT", "400"), fill(TUESDAY, "sell", "5", "MSFT", "401"),
            shares(FRIDAY, "JNLS", "3", "TSLA"), shares(NEXT_MONDAY, "JNLS", "-3", "TSLA"),
        ]  # fmt: skip

        assert needed_closes(book_sessions(activities, WEEK)) == {
            "KO": (TUESDAY, WEDNESDAY),
            "TSLA": (FRIDAY, NEXT_MONDAY),
        }


class TestBounds:
    def test_nothing_happened_means_no_rows(self) -> None:
        assert daily_equity([], {}, WEEK) == []

    def test_rows_begin_with_the_first_activitys_session_and_end_with_the_last_one_given(self) -> None:
        points = daily_equity([cash(WEDNESDAY, "CSD", "1"), cash(NEXT_MONDAY, "CSD", "2")], {}, WEEK[:5])

        assert [point.session_date for point in points] == [WEDNESDAY, THURSDAY, FRIDAY]
        assert deposits(points) == money("1", "1", "1")

    def test_what_cannot_be_counted_changes_nothing(self) -> None:
        good = [cash(MONDAY, "CSD", "1000")]
        bad = [
            cash(None, "CSD", "7"), cash(TUESDAY, "CSD", "7", status="canceled"),
            AccountActivity("x", "FILL", None, TUESDAY, "KO", "buy", Decimal(1)),
        ]  # fmt: skip

        assert daily_equity([*bad, *good], {}, WEEK) == daily_equity(good, {}, WEEK)

    def test_a_return_on_nothing_is_zero(self) -> None:
        points = daily_equity(
            [cash(MONDAY, "CSD", "100"), cash(TUESDAY, "CSW", "-100"), cash(WEDNESDAY, "FEE", "-1")], {}, WEEK
        )

        assert [point.daily_return for point in points] == [0.0] * 6


class TestPieces:
    @given(ledgers, closes, st.integers(1, 5))
    def test_going_on_from_any_session_gives_what_a_replay_of_everything_gives(
        self, activities: list[AccountActivity], known: Closes, cut: int
    ) -> None:
        whole = ends(activities, known)

        begun = ends(activities, known, WEEK[:cut])
        continued = ends(activities, known, start=begun[-1]) if begun else whole

        assert begun + continued == whole

    @given(ledgers, ledgers, closes)
    def test_late_activities_need_no_more_than_a_replay_from_their_session_on(
        self, known_before: list[AccountActivity], late: list[AccountActivity], known: Closes
    ) -> None:
        before, everything = ends(known_before, known), [*late, *known_before]
        affected = min((end.point.session_date for end in ends(late, known)), default=None)

        kept = [end for end in before if affected is None or end.point.session_date < affected]
        redone = ends(everything, known, start=kept[-1] if kept else None) if affected else []

        assert kept + redone == ends(everything, known)

    @given(ledgers, ledgers)
    def test_activities_may_come_in_pieces(self, some: list[AccountActivity], more: list[AccountActivity]) -> None:
        books = SessionBooks(WEEK)
        books.add(more)
        books.add(some)

        assert books.begun() == book_sessions([*some, *more], WEEK)

    @given(ledgers, closes, st.randoms())
    def test_the_order_of_the_activities_does_not_matter(
        self, activities: list[AccountActivity], known: Closes, chance: Random
    ) -> None:
        shuffled = [*activities]
        chance.shuffle(shuffled)

        assert ends(shuffled, known) == ends(activities, known)
