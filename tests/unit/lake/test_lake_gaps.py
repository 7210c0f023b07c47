"""Blindness is known by what REST shows and the stream did not tell, and by nothing less."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from fakes.lake import NOON

from coldharbour.lake.gaps import NEWS_GRACE, OVERLAP, is_mute, newest_audible, refetch_from
from coldharbour.lake.model import ActivityRow


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def fill(seconds: float) -> ActivityRow:
    return ActivityRow(id="a", execution_id="e", activity_type="FILL", transaction_time=at(seconds), source="rest")


def test_reading_again_begins_an_overlap_before_the_earliest_sign_of_life() -> None:
    assert refetch_from([at(50), at(20), at(30)], at(100)) == at(20) - OVERLAP


def test_a_sign_of_life_from_the_future_does_not_leave_a_hole() -> None:
    assert refetch_from([at(600)], at(100)) == at(100) - OVERLAP


def test_without_any_sign_only_the_overlap_is_read() -> None:
    assert refetch_from([], at(100)) == at(100) - OVERLAP


@pytest.mark.parametrize(
    ("newest_news", "heard_at", "noticed_at", "now", "expected"),
    [
        (None, at(0), at(6), at(1000), False),
        (at(5), at(5), at(6), at(1000), False),
        (at(4), at(5), at(6), at(1000), False),
        (at(6), at(5), at(7), at(7) + NEWS_GRACE, False),
        (at(6), at(5), at(900), at(901), False),
        (at(6), at(5), at(7), at(7.001) + NEWS_GRACE, True),
    ],
    ids=["no news", "the news was heard", "older news", "still on its way", "we were held up ourselves", "overdue"],
)
def test_a_stream_is_mute_when_news_are_overdue(
    newest_news: datetime | None, heard_at: datetime, noticed_at: datetime, now: datetime, expected: bool
) -> None:
    assert is_mute(newest_news, heard_at, noticed_at, now) is expected


def test_only_changes_that_a_healthy_stream_tells_of_are_news() -> None:
    changes = [("canceled", at(9)), ("replaced", at(8)), ("new", at(3)), ("held", at(7))]

    assert newest_audible(changes, [], None) == at(3)


def test_the_newest_of_orders_fills_and_what_was_known_counts() -> None:
    assert newest_audible([("filled", at(3))], [fill(5)], at(4)) == at(5)
    assert newest_audible([("filled", at(3))], [fill(2)], at(4)) == at(4)
    assert newest_audible([], [], at(4)) == at(4)
    assert newest_audible([], [], None) is None
