"""An account's book, kept in step with the lake: loaded whole, then moved on by what is new.

Owns the one way from the ledger into the book; writes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import anyio
import anyio.to_thread
from psycopg import AsyncConnection

from coldharbour.clock import Clock
from coldharbour.db import Database, Subscription
from coldharbour.live.book import Book
from coldharbour.live.collector import no_collections
from coldharbour.live.ledger.reader import LedgerReader, Reach, Reading
from coldharbour.live.model import Fill, ShareMove

AREA: Final = "book"  # of the findings
RECENT = timedelta(minutes=5)  # fills that a broker's answer may not know yet


class FollowedBook:
    """The book of one account and how far it follows the lake.

    After any exception it is not to be used again: read the ledger anew, in another one.
    """

    def __init__(self, db: Database, slug: str, market: str, clock: Clock) -> None:
        self.slug, self.book = slug, Book()
        self.moved_at: dict[str, datetime] = {}  # by symbol: its newest fill or share move
        self._reader = LedgerReader(db, slug, market)
        self._clock = clock
        self._recent: dict[str, Fill] = {}
        self._homeless: dict[str, str] = {}  # by the order that is missing

    async def load(self, reach: Reach = lambda done, expected: None) -> None:
        """Read the whole ledger into the book; a thread works it out, since a large one takes seconds."""
        with no_collections():
            reading = await self._reader.whole(reach)
            await anyio.to_thread.run_sync(self._begin, reading)

    async def catch_up(self, conn: AsyncConnection | None = None) -> frozenset[str]:
        """Move the book on to what the lake holds now; return the symbols that were touched.

        conn: the caller's transaction to read in, if it has one.
        """
        reading = await self._reader.news(conn)
        return self._apply(reading) if reading else frozenset()

    @property
    def problems(self) -> dict[str, str]:
        """What could not be used as it should, by its key: rows, links of orders, fills whose order is missing."""
        return {**self._reader.problems, **dict(self.book.lineage.problems()), **self._homeless}

    def recent_fills(self) -> list[Fill]:
        """Return the fills of the last minutes, in no order."""
        horizon = self._clock.now() - RECENT
        self._recent = {key: fill for key, fill in self._recent.items() if fill.at > horizon}
        return list(self._recent.values())

    def _begin(self, reading: Reading) -> None:
        for symbol in self._apply(reading):
            self.book.lots(symbol)  # the first time takes long, and the event loop has no time for it
        self.book.lineage.problems()

    def _apply(self, reading: Reading) -> frozenset[str]:
        horizon = self._clock.now() - RECENT
        events: list[Fill | ShareMove] = [*reading.fills, *reading.moves]
        for event in events:
            self.moved_at[event.symbol] = max(event.at, self.moved_at.get(event.symbol, event.at))
        self._recent |= {fill.id: fill for fill in reading.fills if fill.at > horizon}
        touched = self.book.apply(orders=reading.orders, fills=reading.fills, moves=reading.moves)
        self._seek_orders(reading)
        return touched

    def _seek_orders(self, reading: Reading) -> None:
        """Note the fills whose orders the lake does not hold."""
        for order in reading.orders:
            self._homeless.pop(order.id, None)
        for fill in reading.fills:
            if fill.order_id != fill.id and self.book.lineage.order(fill.order_id) is None:
                self._homeless[fill.order_id] = f"fills of order {fill.order_id} in {fill.symbol}, which is unknown"


@asynccontextmanager
async def wakeups(db: Database, *channels: str, poll_s: float) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Lend a function that returns when one of the channels was notified since its last call, or after poll_s."""
    noted = anyio.Event()

    async def hear(notes: Subscription) -> None:
        async for _ in notes:
            noted.set()

    async def wait() -> None:
        nonlocal noted
        with anyio.move_on_after(poll_s):
            await noted.wait()
        noted = anyio.Event()

    async with (
        db.listener() as listener,
        listener.subscribe(*channels) as notes,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(hear, notes)
        yield wait
        tasks.cancel_scope.cancel()
