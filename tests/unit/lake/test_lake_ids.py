"""The stream's fill gets the id that REST will give it, to the millisecond, in any hour of the year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from coldharbour_plugins.simulator.activities import fill_id
from coldharbour_plugins.simulator.stamps import EPOCH, rfc3339
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.broker import to_utc
from coldharbour.lake.ids import synthetic_activity_id


def id_of(stamp: str) -> str:
    """Return the id of a fill that the stream stamps so."""
    return synthetic_activity_id(to_utc(stamp), "e")


@pytest.mark.parametrize(
    ("stamp", "prefix"),
    [
        ("2025-12-02T14:46:00.829999Z", "20251202094600829"),
        ("2020-11-23T16:01:56.895947Z", "20201123110156895"),
        ("2026-10-08T15:10:18Z", "20261008111018000"),
        ("2026-10-08T11:10:18.0941-04:00", "20261008111018094"),
        ("2026-10-08T15:10:18.000999Z", "20261008111018000"),
        ("2026-12-31T23:59:59.999Z", "20261231185959999"),
        ("2027-01-01T04:59:59.999999Z", "20261231235959999"),
    ],
)
def test_the_prefix_is_new_yorks_time_with_its_milliseconds_cut(stamp: str, prefix: str) -> None:
    assert id_of(stamp) == f"{prefix}::e"


@pytest.mark.parametrize(
    ("stamp", "prefix"),
    [
        ("2026-10-08T15:10:18.0939994Z", "20261008111018093"),
        ("2026-10-08T15:10:18.0939996Z", "20261008111018094"),
        ("2026-10-08T15:10:18.0939995Z", "20261008111018094"),  # 93,999 is odd: up to the even 94,000
        ("2026-10-08T15:10:18.0949985Z", "20261008111018094"),  # 94,998 is even: it stays
        ("2026-10-08T15:10:18.093999500000001Z", "20261008111018094"),
        ("2026-12-31T23:59:59.9999995Z", "20261231190000000"),  # the year ends five hours later in New York
        ("2027-01-01T04:59:59.9999996Z", "20270101000000000"),
    ],
)
def test_nanoseconds_are_rounded_half_even_before_milliseconds_are_cut(stamp: str, prefix: str) -> None:
    assert id_of(stamp) == f"{prefix}::e"


@pytest.mark.parametrize(
    ("stamp", "prefix"),
    [
        ("2026-03-08T06:59:59.999Z", "20260308015959999"),
        ("2026-03-08T07:00:00Z", "20260308030000000"),  # two o'clock does not exist
        ("2026-11-01T05:30:00Z", "20261101013000000"),
        ("2026-11-01T06:30:00Z", "20261101013000000"),  # and half past one exists twice
        ("2026-11-01T07:00:00Z", "20261101020000000"),
    ],
)
def test_summer_time_is_new_yorks(stamp: str, prefix: str) -> None:
    assert id_of(stamp) == f"{prefix}::e"


def test_the_zone_in_which_a_moment_is_written_does_not_matter() -> None:
    at = datetime(2026, 10, 8, 15, 10, 18, 94_999, tzinfo=UTC)

    ids = {synthetic_activity_id(at.astimezone(timezone(timedelta(hours=hours))), "e") for hours in range(-12, 13)}

    assert ids == {"20261008111018094::e"}


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        synthetic_activity_id(datetime(2026, 10, 8), "e")  # noqa: DTZ001 - the point


@given(st.integers(min_value=1_400_000_000 * 10**9, max_value=2_000_000_000 * 10**9))
def test_stream_and_rest_agree_on_the_id_of_every_nanosecond(at_ns: int) -> None:
    """What the broker computes from its nanoseconds is what we compute from the text of them."""
    assert id_of(rfc3339(at_ns)) == fill_id(at_ns, "e")
    assert abs((to_utc(rfc3339(at_ns)) - EPOCH) / timedelta(microseconds=1) - at_ns / 1000) <= 0.75
