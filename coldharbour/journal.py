"""The event journal: what workers emit, kept in a table and handed to the observers; never blocks a worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
import msgspec
import structlog

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

log = structlog.get_logger(__name__)
decoder = msgspec.json.Decoder(AnyEvent)


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
            rows = [
                (account, event.at, type(event).__name__, msgspec.json.encode(event).decode())
                for account, event in batch
            ]
            async with self._db.transaction() as conn:
                await store.append_events(conn, rows)
            for _ in batch:
                self._waiting.popleft()
            for account in {account for account, _ in batch}:
                await notify(self._db, f"event_channel_{account}" if account else "event_channel", "{}")
        if self._dropped:
            log.error("journal.dropped", events=self._dropped)
            self._dropped = 0


@dataclass
class Observer:
    """One plugin's `on_event`, with the memory of its failures."""

    plugin: Plugin
    call: Callable[[str, Event], None]
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=OBSERVER_FAILURES))
    off: bool = False


class EventDispatcher:
    """Hands new events to the observers of this process, in order, each call on its own."""

    def __init__(
        self, db: Database, clock: Clock, observers: Sequence[tuple[Plugin, Callable[[str, Event], None]]]
    ) -> None:
        self._db, self._clock = db, clock
        self._observers = [Observer(plugin, call) for plugin, call in observers]

    async def run(self) -> None:
        """Follow the journal from its end, for ever."""
        if not self._observers:
            return
        last_id: int | None = None
        while True:
            try:
                last_id = await self._follow(last_id)
            except Transient as error:
                log.debug("observers.waiting", error=str(error))
            await self._clock.sleep(POLL_S)

    async def _follow(self, last_id: int | None) -> int:
        async with self._db.transaction() as conn:
            if last_id is None:
                return await store.last_event_id(conn)
            rows = await store.events_after(conn, last_id)
        for row in rows:
            last_id = row.id
            try:
                event = decoder.decode(row.payload)
            except msgspec.ValidationError as error:  # of another plugin, or of another version of ours
                log.debug("observers.unknown_event", id=row.id, error=str(error))
            else:
                self._hand_out(row.destination, event)
        return last_id

    def _hand_out(self, account: str, event: Event) -> None:
        for observer in self._observers:
            if not observer.off:
                self._call(observer, account, event)

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
