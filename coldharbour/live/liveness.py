"""When an order can execute, read from its own stamps and never from the order in which messages arrived."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from coldharbour.live.model import OrderFact

Span = tuple[datetime, datetime | None]  # from this moment until before that one; None: it has not ended

LIVE: Final = frozenset({
    "new", "accepted", "accepted_for_bidding", "held", "partially_filled", "pending_new", "pending_replace",
    "pending_cancel", "calculated", "stopped", "suspended",
})  # fmt: skip
ENDED_AT: Final = {
    "filled": "filled_at", "canceled": "canceled_at", "expired": "expired_at", "replaced": "replaced_at",
    "rejected": "failed_at",
}  # fmt: skip
GTC_LIFE: Final = timedelta(days=90)
ALWAYS: Final = datetime.min.replace(tzinfo=UTC)


def lifespan(order: OrderFact) -> Span | None:
    """Return from when until when an order is live; None if it never was, or if nothing says when it ended.

    It begins at the earlier of created_at and submitted_at, and ends with the stamp of its final status; the broker
    takes canceled and expired for each other, so where that stamp is missing the earliest other one ends it. An order
    that is done for the day ends when it expires, unless it is good till canceled. Source: domain.md 3.
    """
    start = began(order)
    if order.status in LIVE or (order.status == "done_for_day" and order.time_in_force == "gtc"):
        return start, None
    end = order.expires_at if order.status == "done_for_day" else _ended(order)
    return (start, end) if end is not None and start < end else None


def began(order: OrderFact) -> datetime:
    """Return since when an order is live: the earlier of created_at and submitted_at, always if it has neither."""
    created, submitted = order.created_at, order.submitted_at
    if created is None or submitted is None:
        return created or submitted or ALWAYS
    return min(created, submitted)


def _ended(order: OrderFact) -> datetime | None:
    name = ENDED_AT.get(order.status)
    if name is None:
        return None
    own: datetime | None = getattr(order, name)
    return own or min((at for at in (getattr(order, other) for other in ENDED_AT.values()) if at), default=None)


def was_live(order: OrderFact, at: datetime) -> bool:
    """Return whether an order was live at a moment."""
    if began(order) > at:
        return False
    if order.status in LIVE:
        return True
    span = lifespan(order)
    return span is not None and (span[1] is None or at < span[1])


def is_within(at: datetime, spans: Iterable[Span]) -> bool:
    """Return whether a moment lies in one of the spans; the end of a span is no part of it."""
    return any(start <= at and (end is None or at < end) for start, end in spans)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the spans in order, those that touch or overlap joined into one."""
    found: list[Span] = []
    for start, end in sorted(spans, key=lambda span: span[0]):
        if not found or ((last := found[-1][1]) is not None and last < start):
            found.append((start, end))
        elif last is not None and (end is None or last < end):
            found[-1] = (found[-1][0], end)
    return tuple(found)


def expiry(order: OrderFact) -> datetime | None:
    """Return when an order expires: as the broker says, else 90 days after creation if good till canceled.

    None where neither is known, as for a day order without expires_at. Source: domain.md 3.
    """
    if order.expires_at is not None:
        return order.expires_at
    return order.created_at + GTC_LIFE if order.time_in_force == "gtc" and order.created_at is not None else None


def earliest_difference(before: Span | None, after: Span | None) -> datetime | None:
    """Return the first moment at which one span holds and the other does not; None if they are the same."""
    if before == after:
        return None
    if before is None or after is None or before[0] != after[0]:
        return min(span[0] for span in (before, after) if span is not None)
    return min(end for end in (before[1], after[1]) if end is not None)
