"""The event journal: what workers emit, kept in a table and handed to the observers; never blocks a worker.

An event that people rely on is recorded in the transaction of what it tells of. Observers are told at least once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio
import msgspec
import structlog
from psycopg import AsyncConnection

from coldharbour import store
from coldharbour.clock import Clock
from coldharbour.db import Database, notify
from coldharbour.errors import Transient
from coldharbour.events import AnyEvent, Event
from coldharbour.registry import Plugin

KEPT_IN_MEMORY = 10_000
OBSERVER_FAILURES = 5
OBSERVER_WINDOW_S = 60.0
POLL_S = 2.0
TOLD_LATE = timedelta(days=1)  # what happened before that, while nobody listened, stands in the tables alone

log = structlog.get_logger(__name__)
decoder = msgspec.json.Decoder(AnyEvent)


async def record(conn: AsyncConnection, account: str, events: Sequence[Event]) -> None:
    """Write events of an account in the caller's transaction: then neither they nor what they tell of stand alone.

    To be announced after the commit.
    """
    if events:
        await store.append_events(conn, [_row(account, event) for event in events])


async def announce(db: Database, account: str) -> None:
    """Tell that an account has new events."""
    await notify(db, f"event_channel_{account}" if account else "event_channel", "{}")


def _row(account: str, event: Event) -> tuple[str, datetime, str, str]:
    return account, event.at, type(event).__name__, msgspec.json.encode(event).decode()


class EventJournal:
    """Collects emitted events in memory and writes them in batches.

    While the database is gone it keeps so many, and counts what comes after: the lake itself forgets nothing.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: deque[tuple[str, Event]] = deque()
        self._dropped = 0
        self._some = anyio.Event()

    def emit(self, account: str, event: Event) -> None:
        """Take an event of an account (its slug); returns at once."""
        if len(self._waiting) < KEPT_IN_MEMORY:
            self._waiting.append((account, event))
        else:
            self._dropped += 1
        self._some.set()

    async def run(self) -> None:
        """Write what was emitted, for ever."""
        while True:
            await self._some.wait()
            self._some = anyio.Event()
            try:
                await self.flush()
            except Transient as error:
                log.debug("journal.waiting", error=str(error), events=len(self._waiting))
                self._some.set()
                await anyio.sleep(1)

    async def flush(self) -> None:
        """Write everything that waits."""
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), 500))]
            async with self._db.transaction() as conn:
                await store.append_events(conn, [_row(account, event) for account, event in batch])
            for _ in batch:
                self._waiting.popleft()
            for account in {account for account, _ in batch}:
                await announce(self._db, account)
        if self._dropped:
            log.error("journal.dropped", events=self._dropped)
            self._dropped = 0


@dataclass
class Observer:
    """One plugin's `on_event`, with the memory of its failures. told: the newest event that it was handed."""

    plugin: Plugin
    call: Callable[[str, Event], None]
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=OBSERVER_FAILURES))
    off: bool = False
    told: store.EventMark = (0, 0)


class EventDispatcher:
    """Hands events to the observers of this process, in order, each call on its own.

    How far each was told is kept after each batch: a process that ends between may hand out some of them again.
    """

    def __init__(
        self, db: Database, clock: Clock, observers: Sequence[tuple[Plugin, Callable[[str, Event], None]]]
    ) -> None:
        self._db, self._clock = db, clock
        self._observers = [Observer(plugin, call) for plugin, call in observers]
        self._has_begun = False

    async def run(self) -> None:
        """Follow the journal from where each observer left it, for ever; one that is new begins at its end."""
        if not self._observers:
            return
        while True:
            try:
                if not self._has_begun:
                    await self._begin()
                await self._follow()
            except Transient as error:
                log.debug("observers.waiting", error=str(error))
            await self._clock.sleep(POLL_S)

    async def _begin(self) -> None:
        async with self._db.transaction() as conn:
            newest = await store.newest_mark(conn)
            known = await store.observer_marks(conn, [observer.plugin.name for observer in self._observers])
            for observer in self._observers:  # a mark ahead of the journal is that of another database
                observer.told = min(known.get(observer.plugin.name, newest), newest)
            await store.keep_observer_marks(conn, self._marks())
        self._has_begun = True

    async def _follow(self) -> None:
        async with self._db.transaction() as conn:
            rows = await store.events_after(conn, min(each.told for each in self._observers), TOLD_LATE)
        for row in rows:
            try:
                event = decoder.decode(row.payload)
            except msgspec.ValidationError as error:  # of another plugin, or of another version of ours
                log.debug("observers.unknown_event", id=row.id, error=str(error))
            else:
                self._hand_out(row, event)
        if rows:
            for observer in self._observers:
                observer.told = max(observer.told, rows[-1].mark)
            async with self._db.transaction() as conn:
                await store.keep_observer_marks(conn, self._marks())

    def _marks(self) -> dict[str, store.EventMark]:
        return {observer.plugin.name: observer.told for observer in self._observers}

    def _hand_out(self, row: store.EventRow, event: Event) -> None:
        for observer in self._observers:
            if not observer.off and row.mark > observer.told:
                self._call(observer, row.destination, event)

    def _call(self, observer: Observer, account: str, event: Event) -> None:
        try:
            observer.call(account, event)
        except (Exception, SystemExit):
            now_s = self._clock.monotonic()
            observer.failures.append(now_s)
            log.exception("observer.failed", plugin=observer.plugin.name)
            full = len(observer.failures) == OBSERVER_FAILURES
            if full and now_s - observer.failures[0] <= OBSERVER_WINDOW_S:
                observer.off = True
                log.critical("observer.switched_off", plugin=observer.plugin.name, failures=OBSERVER_FAILURES)
