"""An installation in a test's own database: kernels whose workers the test writes, and what they show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.to_thread
from pydantic import BaseModel

from coldharbour import loader, settings, store
from coldharbour.databases import bring_up_to_date
from coldharbour.db import Database, open_database
from coldharbour.events import Event
from coldharbour.hookspecs import WorkerSpec
from coldharbour.journal import decoder
from coldharbour.kernel import Kernel
from coldharbour.registry import Assignment, RegisteredWorker, Registry
from coldharbour.sessions import MarketSession
from coldharbour.settings import Configuration
from coldharbour.store import WorkerRow

PATIENCE_S = 60.0
TWO_ACCOUNTS = """
[simulator]
port = 1

[destinations.paper]
simulated = true

[destinations.swing]
simulated = true
"""
Run = Callable[..., Awaitable[float | None]]


class Rhythm(BaseModel, frozen=True, extra="forbid"):
    """The settings of a test's own workers: they wait for ever unless woken."""

    interval_s: float = 1e6


@dataclass
class Harbour:
    """One installation with two accounts; any number of kernels may run in it, each with its own connections."""

    url: str
    configuration: Configuration
    registry: Registry
    db: Database
    stack: AsyncExitStack

    def assign(self, run: Run, *, kind: str = "probe", to: Sequence[str] = ("paper",), **spec: Any) -> list[Assignment]:
        """Return the work of one worker for some accounts; periodic unless `every` says something else."""
        declared = WorkerSpec(kind=kind, settings=Rhythm, run=run, service="test", **({"every": "interval_s"} | spec))
        worker = RegisteredWorker(declared, self.registry.plugins[0])
        return [Assignment(worker, self.configuration.destination(slug), Rhythm()) for slug in to]

    async def kernel(self, assignments: Iterable[Assignment], *, name: str = "test", **options: Any) -> Kernel:
        """Return a kernel as another process would have one."""
        db = await self.stack.enter_async_context(open_database(self.url, name=name, max_size=3))
        return Kernel(self.configuration, self.registry, [*assignments], db=db, random=Random(1), **options)

    @asynccontextmanager
    async def running(
        self, assignments: Iterable[Assignment], *, name: str = "test", **options: Any
    ) -> AsyncIterator[Kernel]:
        """Run a kernel inside the block; the options are the kernel's own."""
        kernel = await self.kernel(assignments, name=name, **options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kernel.run)
            yield kernel
            tasks.cancel_scope.cancel()

    async def row(self, kind: str = "probe", slug: str = "paper") -> WorkerRow | None:
        """Return what the tables say about a worker."""
        async with self.db.transaction() as conn:
            rows = await store.worker_rows(conn)
        return next((row for row in rows if (row.destination, row.kind) == (slug, kind)), None)

    async def until(self, is_so: Callable[[WorkerRow], bool], kind: str = "probe", slug: str = "paper") -> WorkerRow:
        """Return a worker's row once it is so; every change is announced, and looked at when it is."""
        row = None
        try:
            with anyio.fail_after(PATIENCE_S):
                async with self.db.listener() as listener, listener.subscribe("status_channel") as notes:
                    async for _ in notes:
                        row = await self.row(kind, slug)
                        if row is not None and is_so(row):
                            break
        except TimeoutError:
            raise AssertionError(f"not so within {PATIENCE_S} s: {row}") from None
        assert row is not None
        return row

    async def until_state(self, state: str, kind: str = "probe", slug: str = "paper") -> WorkerRow:
        """Return a worker's row once it is in a state."""
        return await self.until(lambda row: row.state == state, kind, slug)

    async def journal(self) -> list[tuple[str, Event]]:
        """Return all events with the accounts they belong to, oldest first."""
        async with self.db.transaction() as conn:
            cursor = await conn.execute("select destination, payload::text from accounts.events order by id")
            return [(destination, decoder.decode(payload)) for destination, payload in await cursor.fetchall()]

    async def open_market(self, opens: datetime, closes: datetime) -> None:
        """Write the one session that the calendar knows, all of it regular hours."""
        session = MarketSession(opens - timedelta(minutes=1), opens, closes, closes, opens.date())
        async with self.db.transaction() as conn:
            await store.save_sessions(conn, "simulated", "test", [session], opens.date())


@asynccontextmanager
async def open_harbour(url: str, folder: Path, more: str = "") -> AsyncIterator[Harbour]:
    """Lend an installation in an empty database; `folder` is for its configuration, which may say more."""
    file = folder / "harbour.toml"
    file.write_text(more + TWO_ACCOUNTS)
    configuration = settings.load(file, {})
    registry = loader.load_plugins(configuration)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(open_database(url, name="harbour", max_size=2))
        await bring_up_to_date(url, configuration, registry)
        yield Harbour(url, configuration, registry, db, stack)
