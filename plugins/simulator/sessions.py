"""When the simulated exchange trades: owns the calendar, true until a day and always open from it on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from coldharbour.sessions import published_sessions

from .stamps import NEW_YORK, moment_of, nanoseconds, new_york_day, new_york_ns

ALL_DAY = (time(0, 0), time(23, 59))


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day; the four moments in nanoseconds since 1970."""

    day: date
    pre: int
    open: int
    close: int
    post: int

    def row(self) -> dict[str, object]:
        """Return Alpaca's calendar JSON."""
        return {
            "date": self.day.isoformat(),
            "open": _wall(self.open).strftime("%H:%M"),
            "close": _wall(self.close).strftime("%H:%M"),
            "session_open": _wall(self.pre).strftime("%H%M"),
            "session_close": _wall(self.post).strftime("%H%M"),
            "settlement_date": (self.day + timedelta(days=1)).isoformat(),
        }


class Sessions:
    """The trading days from `first` to `last`: New York's own, or every day around the clock.

    always_open_from: the day from which every day has a session 00:00 to 23:59; None for never.
    """

    def __init__(self, first: date, last: date, always_open_from: date | None) -> None:
        turn = min(always_open_from or last + timedelta(days=1), last + timedelta(days=1))
        sessions = _true_sessions(first, turn - timedelta(days=1))
        sessions += [_all_day(turn + timedelta(days=n)) for n in range((last - turn).days + 1)]
        self.all: tuple[Session, ...] = tuple(sessions)
        self._opens = [session.open for session in sessions]
        self._pres = [session.pre for session in sessions]
        self._by_day = {session.day: session for session in sessions}
        self._days = [*self._by_day]

    def on(self, day: date) -> Session | None:
        """Return the session of a New York date."""
        return self._by_day.get(day)

    def between(self, first: date, last: date) -> list[Session]:
        """Return the sessions of a range of dates, both inclusive."""
        return [*self.all[bisect_left(self._days, first) : bisect_right(self._days, last)]]

    def open_at(self, ns: int) -> Session | None:
        """Return the session whose regular hours contain this moment."""
        before = self.last_opened(ns)
        return before if before is not None and ns < before.close else None

    def extended_at(self, ns: int) -> Session | None:
        """Return the session whose extended hours contain this moment."""
        session = self._by_day.get(new_york_day(ns))
        return session if session is not None and session.pre <= ns < session.post else None

    def last_opened(self, ns: int) -> Session | None:
        """Return the newest session that has opened by this moment."""
        index = bisect_right(self._opens, ns) - 1
        return self.all[index] if index >= 0 else None

    def next_to_open(self, ns: int) -> Session:
        """Return the first session that opens after this moment."""
        return self.all[min(bisect_right(self._opens, ns), len(self.all) - 1)]

    def next_release(self, ns: int) -> int:
        """Return when orders queued at this moment go to the exchange: the next pre-opening."""
        return self._pres[min(bisect_right(self._pres, ns), len(self.all) - 1)]

    def traded_at(self, ns: int) -> int:
        """Return this moment if the exchange is open, else the last one at which it was: just before a close."""
        session = self.last_opened(ns)
        return ns if session is None else min(ns, session.close - 1)


def _true_sessions(first: date, last: date) -> list[Session]:
    if last < first:
        return []
    return [
        Session(
            true.session_date,
            *map(nanoseconds, (true.pre_open_utc, true.open_utc, true.close_utc, true.post_close_utc)),
        )
        for true in published_sessions(first, last)
    ]


def _all_day(day: date) -> Session:
    opening, closing = (new_york_ns(day, wall) for wall in ALL_DAY)
    return Session(day, opening, opening, closing, closing)


def _wall(ns: int) -> datetime:
    return moment_of(ns).astimezone(NEW_YORK)
