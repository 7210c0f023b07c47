"""Owns LISTEN: one connection for the ears of a whole process, proven by a heart-beat; decides nothing.

A note only wakes. Whoever hears it reads the tables, and whoever may have missed one is told to (RESYNC).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import anyio
import psycopg
import structlog
from psycopg import AsyncConnection, sql

from coldharbour.clock import Clock
from coldharbour.connect import backoff, cut, cut_after, one_line

HEARTBEAT_S = 5.0  # a sign of life is asked for this often, and waited for this long
MAX_QUEUED_NOTES = 1_000  # per subscription
CHANNEL = re.compile(r"[a-z_][a-z0-9_]{0,62}")

log = structlog.get_logger(__name__)


def check_channel(channel: str) -> None:
    """Refuse names that LISTEN would fold or cut and pg_notify would not. Raises ValueError."""
    if not CHANNEL.fullmatch(channel):
        raise ValueError(f"not a channel name: {channel!r} (lower case, digits and _, at most 63 bytes)")


@dataclass(frozen=True)
class Note:
    """One notification. It only wakes: what changed stands in the tables."""

    channel: str
    payload: str


RESYNC: Final = Note("", "")  # notes may have been missed: read everything again


class Subscription:
    """The notes of some channels, in order, for one reader; too slow a reader gets RESYNC instead.

    Iterate it with `async for`; it begins with RESYNC once the channels are heard, gives RESYNC after every
    interruption, and ends with its listener. `async with` ends it earlier.
    """

    def __init__(self, listener: Listener, channels: Iterable[str], only: str = "") -> None:
        self.channels = frozenset(channels)
        self._only = only
        self._listener = listener
        self._queue: deque[Note] = deque()
        self._arrived = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Note:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.forget(self)

    def put(self, note: Note) -> None:
        if note is not RESYNC and not note.payload.startswith(self._only):
            return
        if note is RESYNC or len(self._queue) >= MAX_QUEUED_NOTES:
            self._queue.clear()  # reading everything again covers whatever waited
            note = RESYNC
        self._queue.append(note)
        self._arrived.set()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()


class Listener:
    """One connection that listens for the whole process, proves itself every few seconds and reconnects."""

    def __init__(self, connect: Callable[[], Awaitable[AsyncConnection]], clock: Clock) -> None:
        """connect: opens an autocommit connection; raises OperationalError."""
        self._connect = connect
        self._clock = clock
        self._conn: AsyncConnection | None = None
        self._subscriptions: set[Subscription] = set()
        self._new: set[Subscription] = set()  # not told yet that their channels are heard
        self._wake = asyncio.Event()
        self._proven_at = clock.monotonic()
        self._delays = backoff()
        self._lost = False
        self._closed = False

    def subscribe(self, *channels: str, only: str = "") -> Subscription:
        """Return the notes of these channels from now on. Raises ValueError for an impossible name.

        only: how a payload must begin to be kept, for a reader who is not concerned by most of them.
        """
        for channel in channels:
            check_channel(channel)
        subscription = Subscription(self, channels, only)
        self._subscriptions.add(subscription)
        self._new.add(subscription)
        self._wake.set()
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._subscriptions.discard(subscription)
        self._new.discard(subscription)
        subscription.close()
        self._wake.set()

    @property
    def silent_s(self) -> float:
        """Seconds since the server last proved that it would tell us; above 10, poll instead."""
        return self._clock.monotonic() - self._proven_at

    def close(self) -> None:
        """End every subscription, and every call that waits for the server."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
        if self._conn:
            cut(self._conn)

    async def run(self) -> None:
        """Listen until cancelled or closed, whatever happens to the server."""
        while not self._closed:
            try:
                await self._listen()
            except psycopg.OperationalError as error:
                if self._closed:
                    return
                if not self._lost:
                    log.warning("db.listener_lost", reason=one_line(error))
                self._lost = True
            await self._clock.sleep(next(self._delays))

    async def _listen(self) -> None:
        """Hear one connection until it dies. Raises OperationalError."""
        self._conn = conn = await self._connect()
        try:
            conn.add_notify_handler(self._deliver)
            self._new = set(self._subscriptions)
            heard: set[str] = set()
            await self._prove(conn)
            while True:
                self._wake.clear()
                heard = await self._follow(conn, heard)
                _read(conn)
                await self._wait(conn)
                if self.silent_s >= HEARTBEAT_S:
                    await self._prove(conn)
        finally:
            await conn.close()

    async def _prove(self, conn: AsyncConnection) -> None:
        """Make the server answer on this very connection. Raises OperationalError if it does not."""
        await _bounded(conn, sql.SQL("select 1"))
        self._proven_at = self._clock.monotonic()
        self._delays = backoff()
        if self._lost:
            log.info("db.listener_recovered")
        self._lost = False

    async def _follow(self, conn: AsyncConnection, heard: set[str]) -> set[str]:
        """Listen to exactly what is subscribed, then tell the new ones to read; return what is heard now."""
        new, self._new = self._new, set()
        wanted = {channel for subscription in self._subscriptions for channel in subscription.channels}
        for channel in wanted - heard:
            await _bounded(conn, sql.SQL("listen {}").format(sql.Identifier(channel)))
        for channel in heard - wanted:
            await _bounded(conn, sql.SQL("unlisten {}").format(sql.Identifier(channel)))
        for subscription in new:
            subscription.put(RESYNC)
        return wanted

    async def _wait(self, conn: AsyncConnection) -> None:
        """Return when the server said something, a subscription changed, or a proof is due."""
        loop, descriptor = asyncio.get_running_loop(), conn.fileno()
        loop.add_reader(descriptor, self._wake.set)
        try:
            with anyio.move_on_after(max(HEARTBEAT_S - self.silent_s, 0)):
                await self._wake.wait()
        finally:
            loop.remove_reader(descriptor)

    def _deliver(self, notice: psycopg.Notify) -> None:
        note = Note(notice.channel, notice.payload)
        for subscription in self._subscriptions:
            if note.channel in subscription.channels:
                subscription.put(note)


async def _bounded(conn: AsyncConnection, statement: sql.SQL | sql.Composed) -> None:
    """Execute, but fail with OperationalError when there is no answer in time."""
    with anyio.CancelScope(shield=True), cut_after(conn, HEARTBEAT_S):
        await conn.execute(statement)


def _read(conn: AsyncConnection) -> None:
    """Deliver what the server sent between our statements. Raises OperationalError if it hung up."""
    conn.pgconn.consume_input()
    while notice := conn.pgconn.notifies():
        if conn.pgconn.notify_handler:
            conn.pgconn.notify_handler(notice)
