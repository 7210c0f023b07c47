"""Owns the pool and its transactions, short and shielded; never SQL of a stage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import LiteralString

import anyio
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from coldharbour.clock import Clock, SystemClock
from coldharbour.connect import (
    Limit,
    cut_after,
    masked,
    normalize_url,
    one_line,
    session_conninfo,
    wait_for_database,
)
from coldharbour.errors import Transient
from coldharbour.listen import RESYNC, Listener, Note, Subscription, check_channel

__all__ = [
    "RESYNC",
    "Database",
    "Listener",
    "Note",
    "StorageFull",
    "Subscription",
    "masked",
    "normalize_url",
    "notify",
    "open_database",
    "wait_for_database",
]

CHECKOUT_S = 5.0  # to get a connection from the pool
BEGIN_S = 3.0  # for the first answer of a pooled connection
TRANSACTION_S = 8.0  # for everything else in a transaction
MAX_WAITING = 100  # callers in the pool's queue; the next one is turned away at once
MAX_PAYLOAD_BYTES = 7_900  # PostgreSQL refuses 8,000
# A notification that a crash loses is no loss: nobody need wait for the disk.
NOTIFY = """
    select pg_notify(%s, payload), set_config('synchronous_commit', 'off', true) from unnest(%s::text[]) as payload
"""
SWALLOWED = "a statement failed and its error was swallowed: use conn.transaction() around it"
TOO_MUCH = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex)  # refused however often tried
STORAGE_STATES = {"53100": "its disk is full", "25006": "it is read-only"}  # PostgreSQL, appendix A

log = structlog.get_logger(__name__)


class StorageFull(Transient):
    """The database can be read but not written; writing again at once makes a full disk worse."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the database cannot be written: {reason}",
            hint="free some of its disk; what waits in memory is written when that is done",
            retry_after_s=30,
        )


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
    async def transaction(
        self, *, timeout_s: float = TRANSACTION_S, one_snapshot: bool = False, pipelined: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a transaction: committed after the block, rolled back if it raises.

        The block is shielded from cancellation, which would close the connection and leave the query running.
        In exchange it may take timeout_s at most, so it does nothing but talk to the database. A connection
        that was dead already is replaced unseen. one_snapshot: all statements see the tables as of one moment.
        pipelined: statements are sent without waiting for their answers until one is fetched; what failed is
        raised there or at the end, and the commit goes with the last of them.
        Raises Transient (StorageFull if writing is impossible) for every failure that is not the caller's; after
        one at the commit the outcome is unknown. Other psycopg errors pass.
        """
        conn, generation = await self._first_answer("begin")
        try:
            with (
                anyio.CancelScope(shield=True, deadline=anyio.current_time() + timeout_s + 1) as scope,
                cut_after(conn, timeout_s) as limit,
            ):
                async with conn.pipeline() if pipelined else nullcontext():
                    if one_snapshot:
                        await conn.execute("set transaction isolation level repeatable read")
                    if timeout_s != TRANSACTION_S:
                        await _allow(conn, timeout_s)
                    yield conn
                    _refuse_half(conn)
                    await conn.execute("commit")
        except psycopg.errors.PipelineAborted as error:  # what aborted it was raised before this
            raise RuntimeError(SWALLOWED) from error
        except psycopg.Error as error:
            failure = await self._failure(error, limit, timeout_s, generation)
            if failure is None:
                raise
            raise failure from error
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
        listener = Listener(lambda: self.connect("listen"), self.clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.run)
            try:
                yield listener
            finally:
                tasks.cancel_scope.cancel()
                listener.close()

    async def send_notes(self, channel: str, payloads: Sequence[str]) -> None:
        """Send NOTIFY in a transaction of its own, in one round trip; `notify` is what others call."""
        conn, _ = await self._first_answer(NOTIFY, [channel, [*payloads]])
        with anyio.CancelScope(shield=True):
            await self._give_back(conn)

    async def _first_answer(
        self, query: LiteralString, arguments: Sequence[object] = ()
    ) -> tuple[AsyncConnection, int]:
        """Return a connection that has answered a query; a second attempt makes up for one that had died."""
        try:
            return await self._try(query, arguments)
        except psycopg.OperationalError as first:
            if isinstance(first, (PoolTimeout, TooManyRequests)):
                self._note_loss(first)
                raise Transient(f"no database connection within {CHECKOUT_S:g} s: {one_line(first)}") from first
            if not _has_died(first):
                raise
        try:
            return await self._try(query, arguments)
        except psycopg.OperationalError as error:
            raise Transient(f"the database does not answer: {one_line(error)}") from error

    async def _try(self, query: LiteralString, arguments: Sequence[object]) -> tuple[AsyncConnection, int]:
        generation = self._generation
        conn = await self._pool.getconn()
        with anyio.CancelScope(shield=True):
            try:
                with cut_after(conn, BEGIN_S):
                    await conn.execute(query, arguments)
            except BaseException as error:
                await self._give_back(conn)
                if isinstance(error, psycopg.OperationalError) and _has_died(error):
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
                log.debug("db.rollback_failed", reason=one_line(error))
                await conn.close()
        await self._pool.putconn(conn)

    async def _failure(self, error: psycopg.Error, limit: Limit, timeout_s: float, generation: int) -> Transient | None:
        """Return what a psycopg error means, None if it is the caller's own; after a death, forget the others."""
        if error.sqlstate in STORAGE_STATES:
            return StorageFull(STORAGE_STATES[error.sqlstate])
        if not isinstance(error, psycopg.OperationalError) or isinstance(error, TOO_MUCH):
            return None
        if _has_died(error):
            with anyio.CancelScope(shield=True):
                await self._forget_connections(generation, error)
        if limit.expired:
            return Transient(f"the database did not answer within {timeout_s:g} s")
        return Transient(f"the database failed: {one_line(error)}")

    async def _forget_connections(self, generation: int, error: psycopg.Error) -> None:
        """After a death, replace all connections of the same age: each of them would cost an error."""
        self._note_loss(error)
        if generation == self._generation:
            self._generation += 1
            await self._pool.drain()

    def _note_loss(self, error: psycopg.Error) -> None:
        if self._lost_at is None:
            self._lost_at = self.clock.monotonic()
            log.warning("db.lost", reason=one_line(error))

    def _note_answer(self) -> None:
        if self._lost_at is not None:
            log.info("db.recovered", lost_s=round(self.clock.monotonic() - self._lost_at, 1))
            self._lost_at = None


def _has_died(error: psycopg.OperationalError) -> bool:
    return error.sqlstate is None or error.sqlstate.startswith("57P")  # 57P: ended on purpose


def _refuse_half(conn: AsyncConnection) -> None:
    """Raise RuntimeError after a failed statement: the server would answer the commit by undoing everything."""
    if conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
        raise RuntimeError(SWALLOWED)


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
    check_channel(channel)
    for payload in payloads:
        if len(payload.encode()) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload on {channel} has more than {MAX_PAYLOAD_BYTES} bytes: send the key instead")
    try:
        await db.send_notes(channel, payloads)
    except (Transient, psycopg.Error) as error:
        db.failed_notifies += len(payloads)
        log.warning("db.notify_failed", channel=channel, failed=db.failed_notifies, reason=one_line(error))
