"""Activity ids: the id REST will give a fill, computed from the stream's event; pure."""

from __future__ import annotations

from datetime import datetime

from coldharbour.sessions import NEW_YORK


def synthetic_activity_id(at: datetime, execution_id: str) -> str:
    """Return `YYYYMMDDHHMMSSmmm::<execution_id>`, the time in New York with milliseconds truncated.

    at: when the execution happened, timezone-aware, already rounded half-even to microseconds.
    Raises ValueError for a naive time. The prefix repeats in the hour when summer time ends: never sort by
    it. Source: domain.md 2, Alpaca account activities.

    >>> from datetime import UTC
    >>> synthetic_activity_id(datetime(2025, 12, 2, 14, 46, 0, 829999, tzinfo=UTC), "e")
    '20251202094600829::e'
    """
    if at.tzinfo is None:
        raise ValueError(f"a fill's time must carry its zone, got {at!r}")
    local = at.astimezone(NEW_YORK)
    return f"{local:%Y%m%d%H%M%S}{local.microsecond // 1000:03d}::{execution_id}"
