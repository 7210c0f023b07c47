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
from coldharbour.connect import cut
from coldharbour.db import Database
from coldharbour.supervise import LeaseLost

HEARTBEAT_S = 3.0
ANSWER_WITHIN_S = 5.0
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
            self._held.discard(lease)
            with anyio.move_on_after(1, shield=True):
                await self._release(lease)

    async def run(self) -> None:
        """Watch the connection; when it stops answering, revoke every lease."""
        while True:
            await anyio.sleep(HEARTBEAT_S)
            async with self._turn:
                if self._conn is not None:
                    await self._ask(self._conn)

    async def close(self) -> None:
        """Drop the connection, and with it every lock."""
        self._revoke("closed")

    async def _acquire(self, destination: str, kind: str) -> HeldLease:
        while True:
            async with self._turn:
                lease = await self._try(destination, kind)
            if lease is not None:
                return lease
            await anyio.sleep(TRY_AGAIN_S)

    async def _try(self, destination: str, kind: str) -> HeldLease | None:
        try:
            with anyio.fail_after(ANSWER_WITHIN_S, shield=True):
                conn = self._conn = self._conn or await self._db.connect("leases")
                if not await store.try_lock(conn, destination, kind):
                    return None
                return HeldLease(destination, kind, await store.next_epoch(conn, destination, kind, self.holder))
        except (psycopg.OperationalError, TimeoutError) as error:
            self._revoke(str(error) or "no answer")
            return None

    async def _release(self, lease: HeldLease) -> None:
        async with self._turn:
            if self._conn is not None and not lease.lost.is_set():
                try:
                    await store.unlock(self._conn, lease.destination, lease.kind)
                except psycopg.OperationalError as error:
                    self._revoke(str(error))

    async def _ask(self, conn: AsyncConnection) -> None:
        try:
            with anyio.fail_after(ANSWER_WITHIN_S, shield=True):
                await conn.execute("select 1")
        except (psycopg.OperationalError, TimeoutError) as error:
            self._revoke(str(error) or "no answer")

    def _revoke(self, reason: str) -> None:
        if self._conn is None:
            return
        if self._held:
            log.warning("leases.lost", count=len(self._held), reason=reason)
        cut(self._conn)  # without a word to the server, which may be frozen; it sees the end by itself
        self._conn = None
        for lease in self._held:
            lease.lost.set()
