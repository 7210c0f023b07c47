"""Market sessions: which phase of which session a moment belongs to; never asks the broker for its calendar."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
PRE_OPEN = time(4, 0)
POST_CLOSE = time(20, 0)


class Phase(StrEnum):
    """What the market is doing (domain.md 10)."""

    CLOSED = "closed"
    PRE = "pre"
    REGULAR = "regular"
    POST = "post"


ALWAYS = frozenset(Phase)
SESSION = frozenset({Phase.PRE, Phase.REGULAR, Phase.POST})
REGULAR_HOURS = frozenset({Phase.REGULAR})


@dataclass(frozen=True, slots=True, order=True)
class MarketSession:
    """One row of `accounts.market_schedule`: a session day of New York and its four bounds in UTC."""

    pre_open_utc: datetime
    open_utc: datetime
    close_utc: datetime
    post_close_utc: datetime
    session_date: date

    def phase_at(self, moment: datetime) -> Phase:
        """Return the phase this session gives `moment`; CLOSED outside it. Each bound opens its phase."""
        if not self.pre_open_utc <= moment < self.post_close_utc:
            return Phase.CLOSED
        if moment < self.open_utc:
            return Phase.PRE
        return Phase.REGULAR if moment < self.close_utc else Phase.POST


def session_of(session_date: date, opens: time, closes: time) -> MarketSession:
    """Return the session of a calendar day whose open and close are New York wall time.

    Pre-market starts at 04:00 and post-market ends at 20:00 New York, or at the open and the close where
    those lie outside (a market that never sleeps). Summer time is New York's. Source: domain.md 10.
    """

    def utc(wall: time) -> datetime:
        return datetime.combine(session_date, wall, NEW_YORK).astimezone(UTC)

    return MarketSession(
        pre_open_utc=utc(min(PRE_OPEN, opens)),
        open_utc=utc(opens),
        close_utc=utc(closes),
        post_close_utc=utc(max(POST_CLOSE, closes)),
        session_date=session_date,
    )


def published_sessions(first: date, last: date) -> list[MarketSession]:
    """Return the New York Stock Exchange's sessions by its published rules, half-days included; both ends count.

    Slow the first time: the rules come with a library that brings pandas.
    """
    import exchange_calendars  # noqa: PLC0415  only this rare path should pay for it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the library's own use of pandas
        calendar = exchange_calendars.get_calendar("XNYS", start=first.isoformat(), end=last.isoformat())
    bounds = zip(calendar.schedule["open"], calendar.schedule["close"], strict=True)
    return [session_between(opens.to_pydatetime(), closes.to_pydatetime()) for opens, closes in bounds]


def session_between(opens: datetime, closes: datetime) -> MarketSession:
    """Return the session that opens and closes at these moments, whatever zone they are given in."""
    opens, closes = opens.astimezone(NEW_YORK), closes.astimezone(NEW_YORK)
    return session_of(opens.date(), opens.time(), closes.time())


class Schedule:
    """The sessions known now, in order; an empty schedule knows nothing and says CLOSED."""

    def __init__(self, sessions: Iterable[MarketSession] = ()) -> None:
        self._sessions: Sequence[MarketSession] = sorted(sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    def phase_at(self, moment: datetime) -> Phase:
        """Return the phase at `moment`."""
        session = self.session_at(moment)
        return session.phase_at(moment) if session else Phase.CLOSED

    def session_at(self, moment: datetime) -> MarketSession | None:
        """Return the session that began last, over or not; None before the first that is known."""
        index = bisect_right(self._sessions, moment, key=lambda session: session.pre_open_utc) - 1
        return self._sessions[index] if index >= 0 else None

    def after(self, day: date) -> MarketSession | None:
        """Return the first session after a day, None where the calendar ends."""
        return next((session for session in self._sessions if session.session_date > day), None)

    def next_change(self, moment: datetime) -> datetime | None:
        """Return the first bound after `moment`, None when the schedule ends before one."""
        bounds = (
            bound
            for session in self._sessions
            for bound in (session.pre_open_utc, session.open_utc, session.close_utc, session.post_close_utc)
        )
        return min((bound for bound in bounds if bound > moment), default=None)
