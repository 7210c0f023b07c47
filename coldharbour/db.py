"""Owns the database connections: pool, short shielded transactions, LISTEN with a heart-beat; no stage's SQL.

A database that stops answering is noticed by our own clock: TCP may take hours, and a frozen server process
never says a word. What takes too long is ended by cutting its socket. That is immediate, where a cancelled
psycopg call would first ask the frozen server to cancel.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import anyio
import psycopg
import structlog
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from coldharbour.clock import Clock, SystemClock
from coldharbour.errors import BadConfig, Transient

CHECKOUT_S = 5.0  # to get a connection from the pool
BEGIN_S = 3.0  # for the first answer of a pooled connection
TRANSACTION_S = 8.0  # for everything else in a transaction
MAX_WAITING = 100  # callers in the pool's queue; the next one is turned away at once
HEARTBEAT_S = 5.0  # the listener asks for a sign of life this often, and waits this long for it
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.1, 5.0
MAX_QUEUED_NOTES = 1_000  # per subscription
MAX_PAYLOAD_BYTES = 7_900  # PostgreSQL refuses 8,000
CHANNEL = re.compile(r"[a-z_][a-z0-9_]{0,62}")
STORAGE_STATES = {"53100": "its disk is full", "25006": "it is read-only"}  # PostgreSQL, appendix A
LIVENESS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,  # ms
}
SESSION = {"timezone": "UTC", "statement_timeout": "7s", "idle_in_transaction_session_timeout": "10s"}
DIALECT = re.compile(r"(postgres(?:ql)?)\+\w+(?=://)", re.ASCII)

log = structlog.get_logger(__name__)


class StorageFull(Transient):
    """The database can be read but not written; writing again at once makes a full disk worse."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the database cannot be written: {reason}",
            hint="free some of its disk; what waits in memory is written when that is done",
            retry_after_s=30,
        )


def normalize_url(url: str) -> str:
    """Return a libpq conninfo for any of the usual ways to name a PostgreSQL database.

    Accepts postgresql:// and postgres:// URLs, SQLAlchemy's (postgresql+psycopg2://) and libpq's own
    "host=... dbname=...". Raises BadConfig, which never quotes the input: it may hold a password.
    """
    text = DIALECT.sub(r"\1", url.strip())
    try:
        parts = conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        parts = {}
    if not parts or not _plausible(parts):
        raise BadConfig(
            ["the database URL cannot be read"],
            hint="write postgresql://user:password@host:5432/name, with special characters of the password "
            "percent-encoded (@ as %40, / as %2F)",
        )
    return make_conninfo("", **parts)


def _plausible(parts: Mapping[str, object]) -> bool:
    """Return whether libpq read what was meant: a raw / or @ in a password moves a part of it elsewhere."""
    elsewhere = f"{parts.get('host', '')}{parts.get('dbname', '')}"
    return "@" not in elsewhere and re.fullmatch(r"[\d,]*", str(parts.get("port", ""))) is not None


def masked(url: str) -> str:
    """Return the conninfo of a URL fit for logs and pages: whatever is secret is replaced by ***."""
    try:
        parts = conninfo_to_dict(normalize_url(url))
    except BadConfig:
        return "(unreadable database URL)"
    secret = {name: "***" for name in parts if "password" in name or "secret" in name}
    return make_conninfo("", **(parts | secret))


def session_conninfo(conninfo: str, name: str) -> str:
    """Return the conninfo of one of our own sessions, which the server shows as coldharbour/<name>.

    What the operator wrote into the conninfo wins over our keepalives and timeouts.
    """
    given = conninfo_to_dict(conninfo)
    options = " ".join(f"-c {key}={value}" for key, value in SESSION.items())
    ours = LIVENESS | {"application_name": f"coldharbour/{name}"}
    return make_conninfo("", **(ours | given | {"options": f"{options} {given.get('options', '')}".strip()}))


async def wait_for_database(conninfo: str, *, clock: Clock | None = None) -> None:
    """Return when the database answers; the caller's cancel scope decides how long that may take."""
    clock = clock or SystemClock()
    started = clock.monotonic()
    delays = _backoff()
    while True:
        try:
            conn = await AsyncConnection.connect(session_conninfo(conninfo, "start"))
        except psycopg.OperationalError as error:
            delay_s = next(delays)
            if delay_s == MIN_BACKOFF_S:
                log.warning("db.waiting", database=masked(conninfo), reason=_reason(error))
            await clock.sleep(delay_s)
        else:
            await conn.close()
            break
    if clock.monotonic() - started > 1:
        log.info("db.recovered", waited_s=round(clock.monotonic() - started, 1))


def _backoff() -> Iterator[float]:
    delay_s = MIN_BACKOFF_S
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, MAX_BACKOFF_S)


def _reason(error: Exception) -> str:
    """Return an error as one line."""
    return " ".join(str(error).split())


class Limit:
    """Whether a connection was cut because its time was up."""

    def __init__(self) -> None:
        self.expired = False


@contextmanager
def cut_after(conn: AsyncConnection, seconds: float) -> Iterator[Limit]:
    """Cut the connection's socket if the block takes longer: a call that waits for it then fails at once.

    The server finds out by itself. Do not use the connection afterwards: it is closed as soon as it notices.
    """
    limit = Limit()

    def expire() -> None:
        limit.expired = True
        cut(conn)

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield limit
    finally:
        timer.cancel()


def cut(conn: AsyncConnection) -> None:
    """Make every call that waits for this connection fail now."""
    if conn.closed:
        return
    with socket.socket(fileno=os.dup(conn.fileno())) as ours:
        try:
            ours.shutdown(socket.SHUT_RDWR)
        except OSError as error:  # the other side was faster
            log.debug("db.already_cut", reason=str(error))


@asynccontextmanager
async def open_database(
    conninfo: str, *, name: str, min_size: int = 1, max_size: int = 4, clock: Clock | None = None
) -> AsyncIterator[Database]:
    """Lend a Database for the block; it need not be up yet (see `wait_for_database`).

    conninfo: as `normalize_url` returns it. name: what this process is called in pg_stat_activity.
    min_size, max_size: connections in the pool.
    """
    pool = AsyncConnectionPool(
        session_conninfo(conninfo, name),
        kwargs={"autocommit": True},  # transactions are begun in words, by us
        min_size=min_size,
        max_size=max_size,
        timeout=CHECKOUT_S,
        max_waiting=MAX_WAITING,
        reconnect_timeout=5,  # s; longer ones back off so far that a returned database waits for us
        name=name,
        open=False,
    )
    await pool.open()
    try:
        yield Database(conninfo, name, pool, clock or SystemClock())
    finally:
        with anyio.move_on_after(5, shield=True):
            await pool.close(timeout=2)


class Database:
    """The connections of one process; made by `open_database`."""

    def __init__(self, conninfo: str, name: str, pool: AsyncConnectionPool, clock: Clock) -> None:
        self.conninfo = conninfo
        self.clock = clock
        self.failed_notifies = 0
        self._name = name
        self._pool = pool
        self._lost_at: float | None = None
        self._generation = 0  # of the pooled connections: the next one begins when they are thrown away

    @asynccontextmanager
    async def transaction(self, *, timeout_s: float = TRANSACTION_S) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a transaction: committed after the block, rolled back if it raises.

        The block is shielded from cancellation, which would close the connection and leave the query running.
        In exchange it may take timeout_s at most, so it does nothing but talk to the database. A connection
        that was dead already is replaced unseen. Raises Transient (StorageFull if writing is impossible) for
        every failure that is not the caller's; after one at the commit the outcome is unknown. Other psycopg
        errors pass.
        """
        conn, generation = await self._begin()
        try:
            with (
                anyio.CancelScope(shield=True, deadline=anyio.current_time() + timeout_s + 1) as scope,
                cut_after(conn, timeout_s) as limit,
            ):
                if timeout_s != TRANSACTION_S:
                    await _allow(conn, timeout_s)
                yield conn
                await conn.commit()
        except psycopg.Error as error:
            raise await self._failure(error, limit, timeout_s, generation) from error
        finally:
            with anyio.CancelScope(shield=True):
                await self._give_back(conn)
        if scope.cancelled_caught:  # the block waited for something else than the database
            raise Transient(f"a transaction took more than {timeout_s:g} s and was undone")
        self._note_answer()

    async def connect(self, purpose: str) -> AsyncConnection:
        """Return a new autocommit connection that the caller closes. Raises OperationalError."""
        return await AsyncConnection.connect(
            session_conninfo(self.conninfo, f"{self._name}/{purpose}"), autocommit=True
        )

    @asynccontextmanager
    async def listener(self) -> AsyncIterator[Listener]:
        """Lend the ears of this process: one connection, however many channels and subscriptions.

        It reconnects for as long as the block lasts. An error of the block comes out in an exception group.
        """
        listener = Listener(self)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.run)
            try:
                yield listener
            finally:
                tasks.cancel_scope.cancel()
                listener.close()

    async def _begin(self) -> tuple[AsyncConnection, int]:
        """Return a connection with an open transaction; a second attempt makes up for one that had died."""
        try:
            return await self._try_begin()
        except psycopg.OperationalError as first:
            if isinstance(first, (PoolTimeout, TooManyRequests)):
                self._note_loss(first)
                raise Transient(f"no database connection within {CHECKOUT_S:g} s: {_reason(first)}") from first
        try:
            return await self._try_begin()
        except psycopg.OperationalError as error:
            raise Transient(f"the database does not answer: {_reason(error)}") from error

    async def _try_begin(self) -> tuple[AsyncConnection, int]:
        generation = self._generation
        conn = await self._pool.getconn()
        with anyio.CancelScope(shield=True):
            try:
                with cut_after(conn, BEGIN_S):
                    await conn.execute("begin")
            except BaseException as error:
                await self._give_back(conn)
                if isinstance(error, psycopg.OperationalError):
                    await self._forget_connections(generation, error)
                raise
        return conn, generation

    async def _give_back(self, conn: AsyncConnection) -> None:
        """Return the connection to the pool; what is not committed by now is rolled back."""
        if not conn.closed and conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            try:
                with cut_after(conn, BEGIN_S):
                    await conn.rollback()
            except psycopg.Error as error:
                log.debug("db.rollback_failed", reason=_reason(error))
                await conn.close()
        await self._pool.putconn(conn)

    async def _failure(self, error: psycopg.Error, limit: Limit, timeout_s: float, generation: int) -> Exception:
        """Return what callers shall see for a psycopg error, and learn from it."""
        if error.sqlstate in STORAGE_STATES:
            return StorageFull(STORAGE_STATES[error.sqlstate])
        if not isinstance(error, psycopg.OperationalError):
            return error
        if error.sqlstate is None or error.sqlstate.startswith("57P"):  # the connection died (57P: on purpose)
            with anyio.CancelScope(shield=True):
                await self._forget_connections(generation, error)
        if limit.expired:
            return Transient(f"the database did not answer within {timeout_s:g} s")
        return Transient(f"the database failed: {_reason(error)}")

    async def _forget_connections(self, generation: int, error: psycopg.Error) -> None:
        """After a death, replace all connections of the same age: each of them would cost an error."""
        self._note_loss(error)
        if generation == self._generation:
            self._generation += 1
            await self._pool.drain()

    def _note_loss(self, error: psycopg.Error) -> None:
        if self._lost_at is None:
            self._lost_at = self.clock.monotonic()
            log.warning("db.lost", reason=_reason(error))

    def _note_answer(self) -> None:
        if self._lost_at is not None:
            log.info("db.recovered", lost_s=round(self.clock.monotonic() - self._lost_at, 1))
            self._lost_at = None


async def _allow(conn: AsyncConnection, timeout_s: float) -> None:
    """Give this transaction's statements the time its caller asked for."""
    milliseconds = f"{timeout_s * 1000:.0f}"
    await conn.execute(
        "select set_config('statement_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)",
        [milliseconds, milliseconds],
    )


async def notify(db: Database, channel: str, *payloads: str) -> None:
    """Tell whoever listens that something changed; call it after the commit of what changed.

    A failure is counted in `db.failed_notifies` and logged, never raised: listeners poll as well, and a full
    notification queue must not stop the writer. Raises ValueError for what can never work: an impossible
    channel, a payload above MAX_PAYLOAD_BYTES.
    """
    _check_channel(channel)
    for payload in payloads:
        if len(payload.encode()) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload on {channel} has more than {MAX_PAYLOAD_BYTES} bytes: send the key instead")
    try:
        async with db.transaction() as conn:
            await conn.execute("select pg_notify(%s, payload) from unnest(%s::text[]) payload", [channel, [*payloads]])
    except (Transient, psycopg.Error) as error:
        db.failed_notifies += len(payloads)
        log.warning("db.notify_failed", channel=channel, failed=db.failed_notifies, reason=_reason(error))


def _check_channel(channel: str) -> None:
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

    def __init__(self, listener: Listener, channels: Iterable[str]) -> None:
        self.channels = frozenset(channels)
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

    def __init__(self, db: Database) -> None:
        self._db = db
        self._conn: AsyncConnection | None = None
        self._subscriptions: set[Subscription] = set()
        self._new: set[Subscription] = set()  # not told yet that their channels are heard
        self._wake = asyncio.Event()
        self._proven_at = db.clock.monotonic()
        self._delays = _backoff()
        self._lost = False

    def subscribe(self, *channels: str) -> Subscription:
        """Return the notes of these channels from now on. Raises ValueError for an impossible name."""
        for channel in channels:
            _check_channel(channel)
        subscription = Subscription(self, channels)
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
        return self._db.clock.monotonic() - self._proven_at

    def close(self) -> None:
        """End every subscription, and every call that waits for the server."""
        for subscription in self._subscriptions:
            subscription.close()
        if self._conn:
            cut(self._conn)

    async def run(self) -> None:
        """Listen until cancelled, whatever happens to the server."""
        while True:
            try:
                await self._listen()
            except psycopg.OperationalError as error:
                if not self._lost:
                    log.warning("db.listener_lost", reason=_reason(error))
                self._lost = True
            await self._db.clock.sleep(next(self._delays))

    async def _listen(self) -> None:
        """Hear one connection until it dies. Raises OperationalError."""
        self._conn = conn = await self._db.connect("listen")
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
        self._proven_at = self._db.clock.monotonic()
        self._delays = _backoff()
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
