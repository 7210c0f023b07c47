"""Leases: one worker of a kind per destination, across all processes and hosts; decides nothing else.

An advisory lock says who may begin, an epoch row says who may still act: a lock alone is no fence, since a
holder that was cut off goes on unaware. Both live on one connection of their own; when it dies or freezes,
every lease of this process is revoked and its workers begin again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import psycopg
import structlog
from psycopg import AsyncConnection

from coldharbour import store
from coldharbour.connect import cut, cut_after, one_line
from coldharbour.db import Database
from coldharbour.supervise import LeaseLost

HEARTBEAT_S = 3.0
ANSWER_WITHIN_S = 3.0
TRY_AGAIN_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class HeldLease:
    """The right to run one worker; `lost` is set when it is gone."""

    destination: str
    kind: str
    epoch: int
    lost: anyio.Event = field(default_factory=anyio.Event)

    async def check(self, conn: AsyncConnection) -> None:
        """Raise LeaseLost unless this is the newest epoch; holds it still until the transaction ends."""
        epoch, holder = await store.current_epoch(conn, self.destination, self.kind)
        if epoch != self.epoch:
            raise LeaseLost(f"{self.kind} of {self.destination} is run by {holder} since epoch {epoch}")


class LeaseKeeper:
    """Takes and keeps the leases of one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._conn: AsyncConnection | None = None
        self._turn = anyio.Lock()
        self._held: set[HeldLease] = set()
        self.holder = f"{socket.gethostname()}:{os.getpid()}"

    @asynccontextmanager
    async def hold(self, destination: str, kind: str) -> AsyncIterator[HeldLease]:
        """Wait until the worker is free, hold it, and give it back."""
        lease = await self._acquire(destination, kind)
        self._held.add(lease)
        try:
            yield lease
        finally:
            with anyio.CancelScope(shield=True):
                await self._release(lease)
            self._held.discard(lease)

    async def run(self) -> None:
        """Watch the connection; when it stops answering, revoke every lease."""
        while True:
            await anyio.sleep(HEARTBEAT_S)
            async with self._turn:
                if self._conn is not None:
                    async with self._asking() as conn:
                        await conn.execute("select 1")

    async def close(self) -> None:
        """Drop the connection, and with it every lock."""
        await self._revoke("closed")

    async def _acquire(self, destination: str, kind: str) -> HeldLease:
        while True:
            async with self._turn:
                lease = await self._try(destination, kind)
            if lease is not None:
                return lease
            await anyio.sleep(TRY_AGAIN_S)

    async def _try(self, destination: str, kind: str) -> HeldLease | None:
        lease = None
        async with self._asking() as conn:
            if await store.try_lock(conn, destination, kind):
                epoch = await store.next_epoch(conn, destination, kind, self.holder)
                lease = HeldLease(destination, kind, epoch)
        return lease

    async def _release(self, lease: HeldLease) -> None:
        async with self._turn:
            if not lease.lost.is_set():
                async with self._asking() as conn:
                    await store.unlock(conn, lease.destination, lease.kind)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AsyncConnection]:
        """Lend the connection for a question; if it fails or takes too long, every lease is revoked."""
        try:
            with anyio.CancelScope(shield=True):
                conn = self._conn = self._conn or await self._db.connect("leases")
                with cut_after(conn, ANSWER_WITHIN_S):
                    yield conn
        except psycopg.OperationalError as error:
            await self._revoke(one_line(error))

    async def _revoke(self, reason: str) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            cut(conn)  # without a word to the server, which may be frozen; it sees the end by itself
            await conn.close()
        if self._held:
            log.warning("leases.lost", count=len(self._held), reason=reason)
        for lease in self._held:
            lease.lost.set()
