"""How long a lot was without a live stop: its gap exposure, from the orders' own stamps; asks nobody for the time.

Source: domain.md 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from coldharbour.live.liveness import Span, merged


@dataclass(frozen=True, slots=True)
class Exposure:
    """Time without a live stop. seconds: of the gaps that have ended. since: begin of the one that has not."""

    seconds: float
    since: datetime | None


def exposure(held_from: datetime, until: datetime | None, protected: Iterable[Span]) -> Exposure:
    """Return how long a lot was held without a live stop.

    held_from: the first fill. until: the exit, None while the lot is open; then a gap that has not ended counts in
    `since` only. protected: when a stop was live. Source: domain.md 4.

    >>> from datetime import UTC
    >>> at = lambda minute: datetime(2026, 10, 8, 14, minute, tzinfo=UTC)
    >>> exposure(at(0), at(30), [(at(1), at(10)), (at(12), None)]).seconds
    180.0
    >>> exposure(at(0), None, [(at(0), at(10))]).since == at(10)
    True
    """
    gaps, bare_from = timedelta(0), held_from
    for start, end in merged(protected):
        if until is not None and start >= until:
            break
        if start > bare_from:
            gaps += start - bare_from
        if end is None:
            return Exposure(gaps.total_seconds(), None)
        bare_from = max(bare_from, end)
    if until is None:
        return Exposure(gaps.total_seconds(), bare_from)
    return Exposure((gaps + max(until - bare_from, timedelta(0))).total_seconds(), None)
