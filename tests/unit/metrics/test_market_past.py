"""The market's past: which closes are asked for, which sessions have closed, and where the calendar has a hole."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from fakes.accounting import FRIDAY, MONDAY, NEXT_MONDAY, THURSDAY, TUESDAY, WEEK

from coldharbour.metrics.market.closes import RETRY, unasked
from coldharbour.metrics.market.days import Days, calendar_holes
from coldharbour.metrics.market.store import AskedSpan, Span
from coldharbour.sessions import session_of

NOW = datetime(2026, 10, 12, 20, 0, tzinfo=UTC)  # 16:00 in New York
JULY = date(2026, 7, 1)
SETTLE = timedelta(minutes=16)


def asked(symbol: str, first: date, last: date, *, at: datetime = NOW, has_close: bool = True) -> dict[str, AskedSpan]:
    return {symbol: AskedSpan(symbol, Span(first, last), at, has_close)}


class TestWhatIsAsked:
    def test_whole_quarters_from_some_days_before_the_first_need_and_nothing_behind_the_last(self) -> None:
        needs = {"KO": Span(TUESDAY, FRIDAY), "OLD": Span(date(2026, 2, 3), date(2026, 2, 4))}

        assert unasked(needs, {}, NOW) == {
            Span(JULY, FRIDAY): ["KO"],  # ten days before the first session lie in September
            Span(date(2026, 1, 1), date(2026, 3, 31)): ["OLD"],
        }

    def test_only_what_was_not_asked_before(self) -> None:
        known = asked("KO", JULY, THURSDAY)

        assert unasked({"KO": Span(TUESDAY, THURSDAY)}, known, NOW) == {}
        assert unasked({"KO": Span(TUESDAY, NEXT_MONDAY)}, known, NOW) == {Span(FRIDAY, NEXT_MONDAY): ["KO"]}

    def test_earlier_days_when_the_need_begins_earlier(self) -> None:
        needs = {"KO": Span(date(2026, 6, 20), THURSDAY)}

        [span] = unasked(needs, asked("KO", JULY, THURSDAY), NOW)

        assert span.first == date(2026, 6, 10)
        assert span.last >= JULY - timedelta(days=1)

    def test_a_symbol_without_any_close_is_asked_for_everything_again_after_a_while(self) -> None:
        needs, known = {"NOPE": Span(TUESDAY, FRIDAY)}, asked("NOPE", JULY, FRIDAY, has_close=False)

        assert unasked(needs, known, NOW + RETRY - timedelta(seconds=1)) == {}
        assert unasked(needs, known, NOW + RETRY) == {Span(JULY, FRIDAY): ["NOPE"]}


class TestDays:
    days = Days(MONDAY, WEEK, tuple(session_of(day, time(9, 30), time(16)) for day in (THURSDAY, FRIDAY, NEXT_MONDAY)))

    def test_a_session_has_closed_once_its_bars_can_be_trusted(self) -> None:
        assert self.days.closed_through(NOW + SETTLE - timedelta(seconds=1), SETTLE) == FRIDAY
        assert self.days.closed_through(NOW + SETTLE, SETTLE) == NEXT_MONDAY

    def test_a_half_day_has_closed_after_its_own_close_and_its_evening_still_belongs_to_it(self) -> None:
        half_day = session_of(NEXT_MONDAY, time(9, 30), time(13))
        days = Days(MONDAY, WEEK, (session_of(FRIDAY, time(9, 30), time(16)), half_day))
        one_o_clock = NOW - timedelta(hours=3)

        assert days.closed_through(one_o_clock + SETTLE - timedelta(seconds=1), SETTLE) == FRIDAY
        assert days.closed_through(one_o_clock + SETTLE, SETTLE) == NEXT_MONDAY
        assert days.begun(NOW) == half_day
        assert half_day.post_close_utc == NOW + timedelta(hours=4)

    def test_a_session_has_begun_with_its_pre_market(self) -> None:
        begun = self.days.begun(datetime(2026, 10, 12, 7, 59, tzinfo=UTC))

        assert begun is not None
        assert begun.session_date == FRIDAY
        assert self.days.begun(datetime(2026, 10, 12, 8, 0, tzinfo=UTC)) == self.days.recent[-1]

    def test_the_session_before_may_be_older_than_those_with_bounds(self) -> None:
        assert self.days.before(THURSDAY) == WEEK[2]
        assert self.days.before(MONDAY) is None

    def test_more_than_a_week_without_a_session_is_a_hole(self) -> None:
        longest_pause = [date(2001, 9, 10), date(2001, 9, 17)]

        assert calendar_holes(longest_pause, date(2001, 9, 10)) == []
        assert calendar_holes([MONDAY], date(2026, 9, 20)) == [Span(date(2026, 9, 20), date(2026, 10, 4))]
        assert calendar_holes([MONDAY, date(2026, 10, 13)], MONDAY) == [Span(TUESDAY, NEXT_MONDAY)]
