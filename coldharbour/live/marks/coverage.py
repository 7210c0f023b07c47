"""Coverage: which regular minutes since entry a lot's extremes have not seen, and what bars may say of them.

Only whole minutes count. The bar of the minute in which the entry filled also tells of prices before it, so that it
would invent extremes; what happened in that minute is known from ticks alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from coldharbour.sessions import MarketSession

MINUTE = timedelta(minutes=1)
SETTLE = timedelta(minutes=2)  # until then a minute's bar may still change, or be missing
ENOUGH = 0.9  # of a stretch's minutes must have a bar before a collection of bars is taken for complete


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some regular minutes of one session: those that begin in [start, end)."""

    session: MarketSession
    start: datetime
    end: datetime

    @property
    def minutes(self) -> int:
        """How many minutes it has."""
        return -((self.start - self.end) // MINUTE)

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole session, of which one daily bar tells."""
        return (self.start, self.end) == (self.session.open_utc, self.session.close_utc)

    def is_complete(self, bars: int) -> bool:
        """Say whether so many bars are all there can be, as far as one can tell: quiet minutes have none."""
        return bars >= ENOUGH * self.minutes


def unseen(
    entry_time: datetime, through: datetime | None, until: datetime, sessions: Sequence[MarketSession]
) -> list[Stretch]:
    """Return the regular minutes that the extremes of a lot miss, oldest first.

    through: up to where they are known, None for nothing. until: from when on ticks are counted without a hole.
    sessions: in order. The minute of `through` is read again; the minute of the entry never counts.
    """
    if through is not None and through >= until:
        return []
    start = max(ceiling(entry_time), floor(through or entry_time))
    found = []
    for session in sessions[bisect_right(sessions, start, key=lambda session: session.close_utc) :]:
        if session.open_utc >= until:
            break
        found.append(Stretch(session, max(start, session.open_utc), min(until, session.close_utc)))
    return [stretch for stretch in found if stretch.start < stretch.end]


def known_through(through: datetime | None, until: datetime, now: datetime) -> datetime:
    """Return up to where extremes are known, once all bars of what was unseen before `until` have been read at `now`.

    The newest bars may still change, so that it takes a second look until the end is reached.
    """
    settled = min(until, floor(now - SETTLE))
    return settled if through is None else max(through, settled)


def floor(moment: datetime) -> datetime:
    """Return the begin of the minute."""
    return moment.replace(second=0, microsecond=0)


def ceiling(moment: datetime) -> datetime:
    """Return the begin of the first minute that does not begin before the moment."""
    return floor(moment + MINUTE - timedelta(microseconds=1))
