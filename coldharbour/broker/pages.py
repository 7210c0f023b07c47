"""Walks over the broker's lists: every row once, never stopped by a full page, never caught in a loop.

Owns the order in which pages are asked for and when a list has ended; how a page is fetched is handed in.
Source: Alpaca API, "Page by walking the window" and "page_token = id of the last row you received".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import anyio.lowlevel
import msgspec

from coldharbour.broker.model import Activity, Order
from coldharbour.broker.translate import Malformed, activity, order, peek_id
from coldharbour.errors import Transient

T = TypeVar("T", Order, Activity)
Row = TypeVar("Row")
FetchOrders = Callable[[datetime | None, str | None], Coroutine[None, None, list[bytes]]]
FetchActivities = Callable[[str | None], Coroutine[None, None, list[bytes]]]

SLICE = 5  # rows read at a time: a writer that waits for the event loop is served after so many at most


class OrdersPage(msgspec.Struct, frozen=True, kw_only=True):
    """New orders of one page, in the order of their submission.

    resume_after: a walk that starts here misses nothing that came after this page; None if nothing was seen.
    complete: the list has ended; such a page may be empty.
    """

    orders: tuple[Order, ...]
    malformed: tuple[Malformed, ...]
    resume_after: datetime | None
    complete: bool


class ActivitiesPage(msgspec.Struct, frozen=True, kw_only=True):
    """New activities of one page; next_token resumes after them. complete: the list has ended."""

    activities: tuple[Activity, ...]
    malformed: tuple[Malformed, ...]
    next_token: str | None
    complete: bool


class StuckWalk(Transient):
    """The broker answers with rows that were served before, so that the list would never end."""

    def __init__(self, what: str, cursor: str | None) -> None:
        self.what, self.cursor = what, cursor
        super().__init__(f"the broker's list of {what} does not go on after {cursor}")


async def walk_orders(
    fetch: FetchOrders,
    *,
    after: datetime | None,
    until: datetime | None,
    full_at: int,
    margin: timedelta,
) -> AsyncIterator[OrdersPage]:
    """Yield the orders with after < submitted_at < until, ascending, each once.

    fetch(after, after_order_id): one ascending page of raw rows by either cursor. The time cursor steps back
    by `margin` each time, since it is exclusive and our stamps are rounded; where a page brings no later
    time, the walk goes on by order id. A page ends the list only if it brings nothing new and has fewer rows
    than `full_at`. By id, an order exactly at a bound may be served. Raises StuckWalk, and what fetch raises.
    """
    fresh = _Fresh(order)
    since, last_id = after, None
    while True:
        raws = await fetch(None if last_id else since, last_id)
        found, malformed = await fresh.of(raws)
        inside = [row for row in found if _inside(row, after, until)]
        reached = max((row.submitted_at for row in inside if row.submitted_at), default=None)
        later = _later(since, None if reached is None else reached - margin)
        nothing_new = not found and not malformed and last_id is None and len(raws) < full_at
        ended = not raws or nothing_new or _is_past(found, until)
        yield OrdersPage(orders=tuple(inside), malformed=tuple(malformed), resume_after=later, complete=ended)
        if ended:
            return
        if last_id or later == since:
            last_id = fresh.next_cursor(raws, "orders")
        since = later


async def walk_activities(fetch: FetchActivities, *, page_token: str | None) -> AsyncIterator[ActivitiesPage]:
    """Yield activities, ascending, each once, until the broker serves an empty page.

    fetch(page_token): one ascending page of raw rows that starts behind the token. A short page is no end:
    the broker may cut one. Raises StuckWalk on a token that was used before, and what fetch raises.
    """
    fresh = _Fresh(activity, used=page_token)
    token = page_token
    while raws := await fetch(token):
        found, malformed = await fresh.of(raws)
        token = fresh.next_cursor(raws, "activities")
        yield ActivitiesPage(activities=tuple(found), malformed=tuple(malformed), next_token=token, complete=False)
    yield ActivitiesPage(activities=(), malformed=(), next_token=token, complete=True)


async def slices(rows: Sequence[Row]) -> AsyncIterator[Sequence[Row]]:
    """Yield rows a few at a time, and let others have the event loop in between."""
    for start in range(0, len(rows), SLICE):
        yield rows[start : start + SLICE]
        await anyio.lowlevel.checkpoint()


class _Fresh(Generic[T]):
    """Remembers what a walk has served: ids of rows, exact texts of unreadable ones, and cursors."""

    def __init__(self, read: Callable[[bytes], T], *, used: str | None = None) -> None:
        self._read: Callable[[bytes], T] = read
        self._served: set[str | bytes] = set()
        self._cursors = {used}

    async def of(self, raws: Sequence[bytes]) -> tuple[list[T], list[Malformed]]:
        """Return the rows, and the unreadable rows, that were not served before."""
        rows: list[T] = []
        malformed: list[Malformed] = []
        async for part in slices(raws):
            for raw in part:
                try:
                    row = self._read(raw)
                except Malformed as exc:
                    if self._is_new(raw):
                        malformed.append(exc)
                else:
                    if self._is_new(row.id):
                        rows.append(row)
        return rows, malformed

    def next_cursor(self, raws: Sequence[bytes], what: str) -> str:
        """Return the id of the last row, unreadable or not. Raises StuckWalk if it was a cursor before."""
        cursor = next((found for raw in reversed(raws) if (found := peek_id(raw))), None)
        if cursor is None or cursor in self._cursors:
            raise StuckWalk(what, cursor)
        self._cursors.add(cursor)
        return cursor

    def _is_new(self, key: str | bytes) -> bool:
        known = key in self._served
        self._served.add(key)
        return not known


def _inside(row: Order, after: datetime | None, until: datetime | None) -> bool:
    """Whether an order belongs to the window; the id cursor knows no bounds. Equal stamps count as inside."""
    at = row.submitted_at
    return at is None or ((after is None or at >= after) and (until is None or at <= until))


def _later(since: datetime | None, candidate: datetime | None) -> datetime | None:
    if since is None or candidate is None:
        return candidate or since
    return max(since, candidate)


def _is_past(rows: Sequence[Order], until: datetime | None) -> bool:
    return until is not None and any(row.submitted_at and row.submitted_at > until for row in rows)
