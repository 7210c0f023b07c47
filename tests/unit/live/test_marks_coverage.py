"""Which minutes a lot's extremes have not seen: only regular ones, only whole ones, none twice, none invented."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.live.marks.coverage import Stretch, ceiling, floor, known_through, unseen
from coldharbour.sessions import MarketSession, session_of

MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    """Return a moment of October 2026 by day and UTC time: "8 14:30:15". New York is four hours behind."""
    day, wall = text.split()
    return datetime.combine(datetime(2026, 10, int(day), tzinfo=UTC), time.fromisoformat(wall), UTC)


def session(day: int, closes: time = time(16, 0)) -> MarketSession:
    return session_of(datetime(2026, 10, day, tzinfo=UTC).date(), time(9, 30), closes)


WEEK = [session(day) for day in (5, 6, 7, 8, 9)]  # open 13:30 to 20:00 UTC


def spans(*parts: tuple[int, str, str]) -> list[Stretch]:
    return [Stretch(session(day), at(f"{day} {start}"), at(f"{day} {end}")) for day, start, end in parts]


class TestUnseen:
    def test_the_entrys_own_minute_never_counts(self) -> None:
        assert unseen(at("8 15:00:30"), None, at("8 15:00:59"), WEEK) == []
        assert unseen(at("8 15:00:30"), None, at("8 15:03:10"), WEEK) == spans((8, "15:01", "15:03:10"))

    def test_an_entry_on_the_full_minute_counts_from_there(self) -> None:
        assert unseen(at("8 15:00:00"), None, at("8 15:02"), WEEK) == spans((8, "15:00", "15:02"))

    def test_what_was_seen_is_not_read_again_but_for_the_minute_it_ended_in(self) -> None:
        assert unseen(at("8 15:00:30"), at("8 16:20:40"), at("8 16:30:05"), WEEK) == spans((8, "16:20", "16:30:05"))

    def test_what_was_seen_in_the_entrys_minute_adds_nothing_to_it(self) -> None:
        assert unseen(at("8 15:00:30"), at("8 15:00:50"), at("8 15:02"), WEEK) == spans((8, "15:01", "15:02"))

    def test_nothing_is_missing_once_ticks_are_counted_from_where_it_was_seen(self) -> None:
        assert unseen(at("5 15:00"), at("8 16:20:40"), at("8 16:20:40"), WEEK) == []
        assert unseen(at("5 15:00"), at("8 16:20:40"), at("8 16:20:10"), WEEK) == []

    def test_a_night_and_a_weekend_hold_nothing_to_see(self) -> None:
        assert unseen(at("7 15:00"), at("7 20:00"), at("8 13:30"), WEEK) == []
        assert unseen(at("8 15:00"), at("9 20:10"), at("12 13:00"), WEEK) == []

    def test_days_between_are_whole_and_the_first_and_the_last_are_parts(self) -> None:
        found = unseen(at("5 15:00:30"), None, at("9 14:00"), WEEK)

        assert found == spans(
            (5, "15:01", "20:00"), (6, "13:30", "20:00"), (7, "13:30", "20:00"), (8, "13:30", "20:00"),
            (9, "13:30", "14:00"),
        )  # fmt: skip
        assert [stretch.is_whole for stretch in found] == [False, True, True, True, False]

    def test_a_lot_entered_before_the_open_is_seen_from_the_open_on(self) -> None:
        [stretch] = unseen(at("8 11:15"), None, at("8 13:45"), WEEK)

        assert stretch == spans((8, "13:30", "13:45"))[0]

    def test_a_half_day_ends_early(self) -> None:
        [stretch] = unseen(at("8 11:15"), None, at("8 19:00"), [session(8, closes=time(13, 0))])

        assert stretch.end == at("8 17:00")
        assert stretch.is_whole


class TestBars:
    @pytest.mark.parametrize(("start", "end", "minutes"), [("15:00", "15:10", 10), ("15:00", "15:09:01", 10)])
    def test_a_stretch_counts_the_minutes_that_begin_in_it(self, start: str, end: str, minutes: int) -> None:
        assert spans((8, start, end))[0].minutes == minutes

    def test_nine_of_ten_minutes_with_a_bar_are_enough(self) -> None:
        [stretch] = spans((8, "15:00", "15:10"))

        assert (stretch.is_complete(9), stretch.is_complete(8)) == (True, False)

    def test_bars_that_may_still_change_do_not_count_as_seen(self) -> None:
        until = at("8 15:30:20")

        assert known_through(at("8 15:00"), until, now=at("8 15:31:40")) == at("8 15:29")
        assert known_through(at("8 15:00"), until, now=at("8 15:33")) == until

    def test_what_is_known_never_goes_back(self) -> None:
        assert known_through(at("8 15:30:10"), at("8 15:30:20"), now=at("8 15:30:30")) == at("8 15:30:10")


moments = st.datetimes(at("5 00:00").replace(tzinfo=None), at("10 00:00").replace(tzinfo=None)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(entry=moments, through=st.none() | moments, until=moments)
def test_every_minute_that_is_missing_is_regular_whole_and_after_the_entry(
    entry: datetime, through: datetime | None, until: datetime
) -> None:
    found = unseen(entry, through, until, WEEK)

    for stretch in found:
        assert stretch.session.open_utc <= stretch.start < stretch.end <= stretch.session.close_utc
        assert stretch.start == floor(stretch.start) >= entry
        assert stretch.end <= until
        assert through is None or stretch.start > through - MINUTE
    assert [stretch.start for stretch in found] == sorted({stretch.start for stretch in found})


@given(entry=moments, until=moments)
def test_reading_again_after_a_look_finds_what_follows_it_and_nothing_before(entry: datetime, until: datetime) -> None:
    middle = max(entry, until - timedelta(hours=9))

    whole = _minutes(unseen(entry, None, until, WEEK))
    parts = _minutes(unseen(entry, None, middle, WEEK)) | _minutes(unseen(entry, middle, until, WEEK))

    assert parts == whole


def _minutes(stretches: list[Stretch]) -> set[datetime]:
    return {stretch.start + number * MINUTE for stretch in stretches for number in range(stretch.minutes)}


@pytest.mark.parametrize("moment", ["8 15:00:00", "8 15:00:30"])
def test_a_moment_lies_between_its_floor_and_its_ceiling(moment: str) -> None:
    assert floor(at(moment)) <= at(moment) <= ceiling(at(moment))
    assert ceiling(at(moment)) - floor(at(moment)) in (timedelta(0), MINUTE)
