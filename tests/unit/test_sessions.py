"""Sessions: New York's hours in UTC through summer time, half-days and nights, and the phase of every moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.sessions import ALWAYS, NEW_YORK, REGULAR_HOURS, SESSION, MarketSession, Phase, Schedule, session_of

OPEN, CLOSE, EARLY_CLOSE = time(9, 30), time(16, 0), time(13, 0)
JUST_BEFORE = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def session_on(day: str, closes: time = CLOSE) -> MarketSession:
    return session_of(date.fromisoformat(day), OPEN, closes)


class TestSessionOf:
    @pytest.mark.parametrize(
        ("day", "opens", "closes"),
        [
            ("2026-03-06", "2026-03-06 14:30", "2026-03-06 21:00"),  # the Friday before summer time
            ("2026-03-09", "2026-03-09 13:30", "2026-03-09 20:00"),  # the Monday after
            ("2026-10-30", "2026-10-30 13:30", "2026-10-30 20:00"),  # London's winter began, New York's did not
            ("2026-11-02", "2026-11-02 14:30", "2026-11-02 21:00"),
        ],
    )
    def test_the_open_moves_in_utc_when_new_york_changes_its_clocks(self, day: str, opens: str, closes: str) -> None:
        session = session_on(day)

        assert (session.open_utc, session.close_utc) == (utc(opens), utc(closes))

    def test_a_post_market_can_end_on_the_next_day_in_utc(self) -> None:
        session = session_on("2026-01-05")

        assert session.pre_open_utc == utc("2026-01-05 09:00")
        assert session.post_close_utc == utc("2026-01-06 01:00")

    def test_a_half_day_closes_early_and_keeps_its_post_market(self) -> None:
        half_day = session_on("2026-11-27", EARLY_CLOSE)

        assert half_day.close_utc == utc("2026-11-27 18:00")
        assert half_day.phase_at(utc("2026-11-27 17:59")) is Phase.REGULAR
        assert half_day.phase_at(utc("2026-11-27 18:00")) is Phase.POST
        assert half_day.post_close_utc == utc("2026-11-28 01:00")

    def test_a_market_that_never_sleeps_has_neither_pre_nor_post(self) -> None:
        session = session_of(date(2026, 7, 1), time(0, 0), time(23, 59, 59))

        assert session.phase_at(session.pre_open_utc) is Phase.REGULAR
        assert session.pre_open_utc == session.open_utc
        assert session.close_utc == session.post_close_utc

    @given(st.dates(date(2007, 1, 1), date(2037, 12, 31)))
    def test_the_bounds_are_new_yorks_wall_time_on_any_day(self, day: date) -> None:
        session = session_of(day, OPEN, CLOSE)

        walls = [
            bound.astimezone(NEW_YORK).replace(tzinfo=None)
            for bound in (session.pre_open_utc, session.open_utc, session.close_utc, session.post_close_utc)
        ]
        assert walls == [datetime.combine(day, wall) for wall in (time(4, 0), OPEN, CLOSE, time(20, 0))]


class TestPhases:
    @pytest.mark.parametrize(
        ("moment", "phase"),
        [
            ("2026-07-01 08:00", Phase.PRE),
            ("2026-07-01 13:30", Phase.REGULAR),
            ("2026-07-01 20:00", Phase.POST),
            ("2026-07-02 00:00", Phase.CLOSED),
        ],
    )
    def test_each_bound_opens_its_phase(self, moment: str, phase: Phase) -> None:
        schedule = Schedule([session_on("2026-07-01")])

        assert schedule.phase_at(utc(moment)) is phase
        assert schedule.phase_at(utc(moment) - JUST_BEFORE) is not phase

    def test_an_unknown_calendar_says_closed(self) -> None:
        assert Schedule().phase_at(utc("2026-07-01 15:00")) is Phase.CLOSED
        assert Schedule().next_change(utc("2026-07-01 15:00")) is None
        assert len(Schedule()) == 0

    def test_a_holiday_between_two_sessions_is_closed(self) -> None:
        schedule = Schedule([session_on("2026-07-06"), session_on("2026-07-02")])  # the third is a holiday

        assert schedule.phase_at(utc("2026-07-03 15:00")) is Phase.CLOSED
        assert schedule.phase_at(utc("2026-07-02 15:00")) is Phase.REGULAR
        assert schedule.phase_at(utc("2026-07-06 15:00")) is Phase.REGULAR

    def test_the_next_change_is_the_nearest_bound_ahead(self) -> None:
        schedule = Schedule([session_on("2026-07-01"), session_on("2026-07-02")])

        assert schedule.next_change(utc("2026-07-01 12:00")) == utc("2026-07-01 13:30")
        assert schedule.next_change(utc("2026-07-01 13:30")) == utc("2026-07-01 20:00")
        assert schedule.next_change(utc("2026-07-02 01:00")) == utc("2026-07-02 08:00")
        assert schedule.next_change(utc("2026-07-03 00:00")) is None

    @given(st.timedeltas(timedelta(0), timedelta(days=4)))
    def test_the_phase_never_changes_before_the_next_change(self, since_june: timedelta) -> None:
        moment = utc("2026-06-30 00:00") + since_june
        schedule = Schedule([session_on("2026-07-01"), session_on("2026-07-02")])
        until = schedule.next_change(moment)

        if until is not None:
            assert schedule.phase_at(until - JUST_BEFORE) is schedule.phase_at(moment)
            assert schedule.phase_at(until) is not schedule.phase_at(moment)

    def test_the_sets_of_phases_mean_what_they_are_called(self) -> None:
        assert set(Phase) == ALWAYS
        assert ALWAYS - {Phase.CLOSED} == SESSION
        assert {Phase.REGULAR} == REGULAR_HOURS
