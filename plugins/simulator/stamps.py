"""Moments as whole nanoseconds and their texts; owns the broker's notations of time, reads no clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
MILLISECOND = 1_000_000


def nanoseconds(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since 1970, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def moment_of(ns: int) -> datetime:
    """Return nanoseconds as an aware UTC datetime, cut to microseconds."""
    return EPOCH + timedelta(microseconds=ns // 1000)


def new_york_ns(day: date, at: time) -> int:
    """Return the moment of a New York wall time."""
    return nanoseconds(datetime.combine(day, at, NEW_YORK))


def new_york_day(ns: int) -> date:
    """Return the New York date of a moment."""
    return (EPOCH + timedelta(seconds=ns // SECOND + _new_york_offset_s(ns // HOUR))).date()


def rounded_to_micros(ns: int) -> int:
    """Return nanoseconds rounded half-even to whole microseconds, as activities have them."""
    micros, rest = divmod(ns, 1000)
    if rest > 500 or (rest == 500 and micros % 2):
        micros += 1
    return micros * 1000


def rfc3339(ns: int) -> str:
    """Return a UTC time with 0 to 9 fraction digits, trailing zeros cut, as order rows have them.

    >>> rfc3339(1_500_000_000)
    '1970-01-01T00:00:01.5Z'
    """
    seconds, fraction = divmod(ns, SECOND)
    text = _second_text(seconds)
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else text + "Z"


def activity_prefix(ns: int) -> str:
    """Return the 17 digits of an activity id: New York local time, milliseconds truncated.

    >>> activity_prefix(nanoseconds(datetime(2020, 11, 23, 16, 1, 56, 895947, UTC)))
    '20201123110156895'
    """
    seconds, fraction = divmod(ns, SECOND)
    return f"{_local_digits(seconds + _new_york_offset_s(ns // HOUR))}{fraction // MILLISECOND:03d}"


@lru_cache(maxsize=4096)
def _second_text(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=4096)
def _local_digits(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%S")


@lru_cache(maxsize=65536)
def _new_york_offset_s(hour: int) -> int:
    offset = (EPOCH + timedelta(hours=hour)).astimezone(NEW_YORK).utcoffset()
    return int(offset.total_seconds()) if offset else 0
