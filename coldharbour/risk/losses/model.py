"""The nouns of a day's loss as frozen values: how a session stands, and the limits that were reached; no rule.

Amounts are in account currency; times are aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum


class Stage(StrEnum):
    """What a day's loss leads to, the mildest first: a warning; no new entries; positions are closed."""

    WARN = "warn"
    HALT = "halt"
    FLATTEN = "flatten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How a session stands. day_pnl: result since the previous close, cash flows excluded. baseline: equity then.

    as_of: the minute of equity that says so.
    """

    session_date: date
    day_pnl: Decimal
    baseline: Decimal
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Blind:
    """Why nothing can be said of a day's loss now. spoils: minutes that have begun by now prove nothing later."""

    why: str
    spoils: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """A limit that was reached and not reset. destination: a slug, "" for all accounts together.

    limit_pnl: the day's result at which it is reached, None for one of which that is not known.
    """

    destination: str
    session_date: date
    stage: Stage
    latched_at: datetime
    day_pnl: Decimal
    baseline: Decimal
    note: str
    limit_pnl: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Minute:
    """The newest minute of equity. profit: since the previous close, cash flows excluded. baseline: equity then.

    stalest, stalest_at: the open symbol whose price is the oldest, or has none. is_certain: complete and not stale.
    """

    session_date: date
    at: datetime
    profit: Decimal
    baseline: Decimal
    is_certain: bool
    stalest: str | None
    stalest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Watch:
    """How a session stands, as it is kept. blind: why nothing can be said now, "" while it can.

    The result is what was certain last. blind_at: the newest look that saw wrong prices. is_limited: whether any limit
    is set.
    """

    destination: str
    session_date: date | None = None
    day_pnl: Decimal | None = None
    baseline: Decimal | None = None
    as_of: datetime | None = None
    blind: str = ""
    blind_since: datetime | None = None
    blind_at: datetime | None = None
    is_limited: bool = False

    @property
    def day(self) -> Day | None:
        """What was certain last, None before anything was."""
        if self.session_date is None or self.day_pnl is None or self.baseline is None or self.as_of is None:
            return None
        return Day(session_date=self.session_date, day_pnl=self.day_pnl, baseline=self.baseline, as_of=self.as_of)
