"""Pulling: what REST knows is brought into the lake; pages, windows, and orders by their ids.

Owns the order of the questions; how they are asked is the broker's, how answers are written the writer's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TypeVar
from uuid import UUID

import anyio
import structlog

from coldharbour.broker import ActivitiesPage, Activity, Broker, Malformed, NotFound, OrdersPage, Priority
from coldharbour.broker.pages import slices
from coldharbour.lake.changes import Recorded
from coldharbour.lake.completeness import store as completeness
from coldharbour.lake.completeness.store import Cursor
from coldharbour.lake.writer import Item, Lake, activity_item, order_item

ACTIVITIES_AT_ONCE = 500  # the broker's pages are small: five of them are written in one transaction
PAGES_AHEAD = 5  # asked for and not yet written
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

Page = TypeVar("Page")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Puller:
    """Brings one account's history from the broker. `alive` is called with every answer."""

    lake: Lake
    broker: Broker
    alive: Callable[[], None]
    priority: Priority = Priority.HEAL

    async def missed(self, since: datetime, *, thorough: bool = False) -> Recorded:
        """Bring all that can have happened unheard since a moment: what is new, and what changed without a trace.

        thorough: ask for every family of open orders, not only for those that the lists leave in doubt.
        """
        recorded = await self.recent(since)
        recorded += await self._unfinished(thorough=thorough)
        return recorded

    async def recent(self, since: datetime) -> Recorded:
        """Bring what was submitted or done since a moment, and every order that it proves stale.

        Orders are read twice: nested, which ties legs to parents, and flat, since a leg that was replaced
        today hides under a parent of weeks ago.
        """
        recorded = await self.orders(since, nested=True)
        recorded += await self.orders(since, nested=False)
        recorded += await self.activities(since)
        return recorded + await self.complete(recorded)

    async def complete(self, recorded: Recorded) -> Recorded:
        """Follow up on what was recorded: orders behind their fills, and missing members of their chains."""
        follow_up = Recorded()
        asked: set[UUID] = set()
        while True:
            async with self.lake.db.transaction() as conn:
                wanted = await completeness.orders_behind_their_fills(conn, self.lake.slug, recorded.activity_ids)
                wanted += await completeness.unsettled_links(conn, self.lake.slug, recorded.order_ids)
            missing = set(wanted) - asked
            if not missing:
                return follow_up
            asked |= missing
            recorded = await self.by_id(missing)
            follow_up += recorded

    async def orders(self, since: datetime, *, nested: bool) -> Recorded:
        """Bring the orders submitted since a moment."""
        recorded = Recorded()
        async for page in self.broker.walk_orders(since, nested=nested, priority=self.priority):
            self.alive()
            recorded += await self.lake.write_orders(page.orders, page.malformed)
        return recorded

    async def _unfinished(self, *, thorough: bool) -> Recorded:
        """Bring the orders that may have ended: what is open in one list, families in doubt by their root.

        A held leg is on no list. While a sibling is still listed as open it is held as before, since a group ends
        together; else only its root can tell.
        """
        recorded, listed = await self.open_orders()
        async with self.lake.db.transaction() as conn:
            unfinished = await completeness.unfinished_orders(conn, self.lake.slug)
        doubtful = {order.root for order in unfinished if order.id not in listed and order.status != "held"}
        doubtful |= {order.root for order in unfinished} - {order.root for order in unfinished if order.id in listed}
        recorded += await self.by_id({order.root for order in unfinished} if thorough else doubtful)
        return recorded + await self.complete(recorded)

    async def activities(self, since: datetime, *, category: str | None = None) -> Recorded:
        """Bring the activities since a moment, all or of one category."""
        recorded = Recorded()
        async for page in self.broker.walk_activities(since, category=category, priority=self.priority):
            self.alive()
            recorded += await self.lake.write_activities(page.activities, page.malformed)
        return recorded

    async def open_orders(self) -> tuple[Recorded, set[UUID]]:
        """Bring what the broker lists as open; return also the ids it listed. Held legs are not among them."""
        orders = await self.broker.open_orders(priority=self.priority)
        self.alive()
        return await self.lake.write_orders(orders), {UUID(order.id) for order in orders}

    async def by_id(self, ids: Iterable[UUID]) -> Recorded:
        """Bring orders by id, with their legs. One the broker does not know is logged and left as it is."""
        recorded = Recorded()
        for order_id in sorted(ids):
            try:
                order = await self.broker.order(str(order_id), priority=self.priority)
            except NotFound as error:
                log.warning("pull.unknown_order", destination=self.lake.slug, order=str(order_id), error=str(error))
            else:
                recorded += await self.lake.write_orders([order])
            self.alive()
        return recorded


async def catch_up_orders(puller: Puller, *, started_at: datetime, on_page: Callable[[datetime, int], None]) -> int:
    """Bring every order since the cursor, moving it page by page; return how many rows were read.

    on_page(reached, rows) reports progress. A crash resumes at the last completed page.
    """
    lake, rows = puller.lake, 0
    async with lake.db.transaction() as conn:
        cursor = await completeness.cursor(conn, lake.slug, "orders")
    since = cursor.position if cursor else None
    walk = _order_items(puller.broker.walk_orders(since, priority=puller.priority))
    async with aclosing(ahead(walk)) as pages:
        async for page, items in pages:
            puller.alive()
            reached = page.resume_after or since or (started_at if page.complete else LONG_AGO)
            done = started_at if page.complete else None
            await lake.write_page(items, page.malformed, "orders", Cursor(reached, None, done))
            rows += len(items)
            on_page(reached, rows)
    return rows


async def catch_up_activities(
    puller: Puller,
    *,
    started_at: datetime,
    overlap_from: Callable[[datetime], datetime],
    on_page: Callable[[datetime, int], None],
) -> int:
    """Bring every activity since the cursor, moving it page by page; return how many rows were read.

    overlap_from: where to begin again behind a finished walk, since rows may appear behind its end.
    """
    lake, rows = puller.lake, 0
    async with lake.db.transaction() as conn:
        cursor = await completeness.cursor(conn, lake.slug, "activities")
    token = cursor.token if cursor else None
    since = overlap_from(cursor.position) if cursor and token is None else None
    reached = cursor.position if cursor else LONG_AGO
    found: list[Item] = []
    malformed: list[Malformed] = []
    walk = _activity_items(puller.broker.walk_activities(since, page_token=token, priority=puller.priority))
    async with aclosing(ahead(walk)) as pages:
        async for page, items in pages:
            puller.alive()
            found += items
            malformed += page.malformed
            reached = max([reached, *(moment for moment in map(_moment, page.activities) if moment)])
            if len(found) < ACTIVITIES_AT_ONCE and not page.complete:
                continue
            moved = Cursor(reached, None, started_at) if page.complete else Cursor(reached, page.next_token)
            await lake.write_page(found, malformed, "activities", moved)
            rows += len(found)
            on_page(reached, rows)
            found, malformed = [], []
    return rows


async def _order_items(pages: AsyncIterator[OrdersPage]) -> AsyncIterator[tuple[OrdersPage, list[Item]]]:
    async for page in pages:
        yield page, [order_item(order) async for part in slices(page.orders) for order in part]


async def _activity_items(
    pages: AsyncIterator[ActivitiesPage],
) -> AsyncIterator[tuple[ActivitiesPage, list[Item]]]:
    async for page in pages:
        yield page, [activity_item(activity) async for part in slices(page.activities) for activity in part]


async def ahead(pages: AsyncIterator[Page]) -> AsyncGenerator[Page]:
    """Yield pages in their order while the next ones are already on their way: writing need not wait for the broker.

    A plain task, since a task group would wrap the walk's own errors in a group; one is raised behind the last good
    page. Close it, so that no request goes on alone.
    """
    arrived, taken = anyio.create_memory_object_stream[Page](PAGES_AHEAD)

    async def walk() -> None:
        with arrived:
            async for page in pages:
                await arrived.send(page)

    walking = asyncio.create_task(walk())
    try:
        async for page in taken:
            yield page
        await walking
    finally:
        taken.close()
        walking.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([walking])
        if not walking.cancelled():
            walking.exception()  # raised already, or of no interest to anyone now


def _moment(activity: Activity) -> datetime | None:
    if activity.transaction_time is not None or activity.date is None:
        return activity.transaction_time
    return datetime.combine(activity.date, time(), UTC)
