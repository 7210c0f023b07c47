"""The kernel: every failure of a worker ends where it should, in a state that people see, and harms no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread
import psycopg
import pytest
from anyio.abc import TaskStatus
from coldharbour_plugins.simulator.pace import PacedClock
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from pydantic import BaseModel

from coldharbour import loader, schema, settings, store
from coldharbour.accounts import AccountContext
from coldharbour.clock import Clock, SystemClock
from coldharbour.db import Database, open_database
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.events import Event, WorkerFailed, WorkerGaveUp, WorkerParked
from coldharbour.hookspecs import WorkerSpec
from coldharbour.kernel import Busy, Kernel
from coldharbour.loader import Assignment, Plugin, RegisteredWorker, Registry
from coldharbour.sessions import REGULAR_HOURS, MarketSession
from coldharbour.settings import Configuration
from coldharbour.store import WorkerRow
from coldharbour.supervise import LeaseLost

pytestmark = pytest.mark.anyio

PATIENCE_S = 15.0
PACE = 30.0  # how much faster the kernel's clock runs where only waits of its own are looked at
DEMO = """
[simulator]
port = 1

[destinations.paper]
simulated = true

[destinations.swing]
simulated = true
"""
Run = Callable[..., Awaitable[float | None]]


class Rhythm(BaseModel, frozen=True, extra="forbid"):
    """The settings of the test's own workers."""

    interval_s: float = 3600


@dataclass
class Harbour:
    """One installation on a database of its own; any number of kernels may run in it."""

    url: str
    configuration: Configuration
    registry: Registry
    db: Database
    stack: AsyncExitStack

    def assign(self, kind: str, run: Run, *, on: Sequence[str] = ("paper",), every: str = "interval_s",
               stall_s: float = 25, phases: frozenset[str] | None = None) -> list[Assignment]:  # fmt: skip
        spec = WorkerSpec(kind=kind, settings=Rhythm, run=run, every=every, service="test", stall_s=stall_s)
        if phases is not None:
            spec = WorkerSpec(kind=kind, settings=Rhythm, run=run, every=every, service="test", phases=phases)
        worker = RegisteredWorker(spec, self.registry.plugins[0])
        return [Assignment(worker, self.configuration.destination(slug), Rhythm()) for slug in on]

    async def kernel(self, *assignments: Assignment, clock: Clock | None = None, name: str = "test") -> Kernel:
        """Return a kernel with connections of its own, as another process would have."""
        db = await self.stack.enter_async_context(open_database(self.url, name=name, max_size=3))
        return Kernel(self.configuration, self.registry, assignments, db=db, clock=clock, random=Random(1))

    @asynccontextmanager
    async def running(
        self, *assignments: Assignment, clock: Clock | None = None, name: str = "test"
    ) -> AsyncIterator[Kernel]:
        kernel = await self.kernel(*assignments, clock=clock, name=name)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kernel.run)
            yield kernel
            tasks.cancel_scope.cancel()

    async def row(self, kind: str, slug: str = "paper") -> WorkerRow | None:
        async with self.db.transaction() as conn:
            rows = await store.worker_rows(conn)
        return next((row for row in rows if (row.destination, row.kind) == (slug, kind)), None)

    async def until(self, is_so: Callable[[WorkerRow], bool], kind: str = "probe", slug: str = "paper") -> WorkerRow:
        """Return the worker's row once it is so; every change of a state is announced, so that nobody polls."""
        with anyio.fail_after(PATIENCE_S):
            async with self.db.listener() as listener, listener.subscribe("status_channel") as notes:
                async for _ in notes:
                    row = await self.row(kind, slug)
                    if row is not None and is_so(row):
                        return row
        raise AssertionError("the listener ended")

    async def until_state(self, state: str, kind: str = "probe", slug: str = "paper") -> WorkerRow:
        return await self.until(lambda row: row.state == state, kind, slug)

    async def events(self, count: int) -> list[Event]:
        """Return the first events of the journal once there are so many."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                async with self.db.transaction() as conn:
                    rows = await store.events_after(conn, 0)
                if len(rows) >= count:
                    return [loader_decoder(row.payload) for row in rows]
                await anyio.sleep(0.05)
