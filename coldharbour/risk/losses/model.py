"""The nouns of a day's loss as frozen values: how a session stands, and the limits that were reached; no rule.

Amounts are in account currency; times are aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum


class Stage(StrEnum):
    """What a day's loss leads to, the mildest first: a warning; no new entries."""

    WARN = "warn"
    HALT = "halt"


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
    """Why nothing can be said of a day's loss now."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """A limit that was reached and not reset. destination: a slug, "" for all accounts together."""

    destination: str
    session_date: date
    stage: Stage
    latched_at: datetime
    day_pnl: Decimal
    baseline: Decimal
    note: str
