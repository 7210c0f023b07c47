"""A running web worker over a test's database, and the hand that fills the tables it reads.

The worker is the real one on a real socket; only the kernel around it is left out.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import pluggy
import psycopg
import structlog
import structlog.testing
from anyio.abc import TaskStatus
from pydantic import BaseModel, SecretStr

from coldharbour.accounts import SystemContext
from coldharbour.clock import Clock, SystemClock
from coldharbour.db import Database, notify, open_database
from coldharbour.destinations import Destination
from coldharbour.hookspecs import PROJECT, PanelSpec, WorkerSpec
from coldharbour.registry import Assignment, Plugin, RegisteredPanel, RegisteredWorker, Registry
from coldharbour.schema import upgrade
from coldharbour.sections import PAPER_URL, Settings, WebSettings
from coldharbour.sessions import MarketSession
from coldharbour.settings import Configuration
from coldharbour.store import WorkerRow, append_events, save_sessions, save_status
from coldharbour.web.app import serve_web

SLUG = "paper"
KINDS = ("stream", "healing")
CANARY = "CANARY-4711"  # part of every secret here: it must never be seen anywhere
PLUGIN = Plugin("room", "the tests", ModuleType("room"), built_in=True)
HEALTHY = WorkerRow(
    destination=SLUG,
    kind="",
    service="ingest",
    state="ready",
    detail="",
    since=datetime.now(UTC),
    last_success=None,
    last_error=None,
    restarts=0,
    lag_s=None,
    host="here",
    pid=1,
    updated_at=datetime.now(UTC),
)


class NoSettings(BaseModel):
    """The web worker's own table is empty."""


@dataclass
class Room:
    """The pages at `url`, and the lake behind them. Writers notify as the product's own do."""

    url: str
    db: Database
    worker: anyio.CancelScope
    ended: anyio.Event

    @property
    def dashboard(self) -> str:
        """The account's own page."""
        return f"{self.url}/{SLUG}/"

    async def report(self, rows: Iterable[WorkerRow]) -> None:
        """Write worker states as they are now."""
        now = datetime.now(UTC)
        async with self.db.transaction() as conn:
            await save_status(conn, [replace(row, updated_at=now) for row in rows])
        await notify(self.db, "status_channel", "{}")

    async def hear(
        self, *, symbol: str = "AAPL", event: str = "new", qty: str = "10", price: str = "101.5"
    ) -> uuid.UUID:
        """Record one stream event of a new order, and its fill if it is one; return the order's id."""
        order_id = await self.order(symbol=symbol, status="filled" if event == "fill" else "new", qty=qty, price=price)
        execution = str(uuid.uuid4()) if event == "fill" else None
        async with self.db.transaction() as conn:
            await conn.execute(
                "insert into account_activities.raw_events"
                " (destination, received_at, connection, event, order_id, execution_id, frame)"
                " values (%s, %s, %s, %s, %s, %s, '')",
                [SLUG, datetime.now(UTC), uuid.uuid4(), event, order_id, execution],
            )
        if execution:
            await self.fill(order_id, execution, source="stream", symbol=symbol, qty=qty, price=price)
        await notify(self.db, f"raw_channel_{SLUG}", "{}")
        return order_id

    async def order(self, *, symbol: str, status: str, qty: str, price: str) -> uuid.UUID:
        """Record one order."""
        order_id, now = uuid.uuid4(), datetime.now(UTC)
        async with self.db.transaction() as conn:
            await conn.execute(
                "insert into account_activities.raw_orders (destination, id, client_order_id, status, symbol, side,"
                " order_type, qty, filled_qty, limit_price, updated_at, submitted_at, raw_json, source)"
                " values (%s, %s, %s, %s, %s, 'buy', 'limit', %s, 0, %s, %s, %s, '{}', 'stream')",
                [SLUG, order_id, str(order_id), status, symbol, Decimal(qty), Decimal(price), now, now],
            )
        return order_id

    async def fill(
        self, order_id: uuid.UUID, execution: str, *, source: str, symbol: str, qty: str, price: str
    ) -> None:
        """Record one fill."""
        async with self.db.transaction() as conn:
            await conn.execute(
                "insert into account_activities.raw_activities (destination, id, execution_id, activity_type,"
                " transaction_time, symbol, side, qty, price, order_id, raw_json, source)"
                " values (%s, %s, %s, 'FILL', %s, %s, 'buy', %s, %s, %s, '{}', %s)",
                [SLUG, execution, execution, datetime.now(UTC), symbol, Decimal(qty), Decimal(price), order_id, source],
            )
        await notify(self.db, f"raw_channel_{SLUG}", "{}")

    async def gap(self, *, seconds: float, healed: bool, orders: int = 0, fills: int = 0) -> None:
        """Record a blind time that began some seconds ago."""
        now = datetime.now(UTC)
        ended = now if healed else None
        async with self.db.transaction() as conn:
            await conn.execute(
                "insert into account_activities.gaps"
                " (destination, blind_from, blind_to, reason, healed_at, orders_recovered, fills_recovered)"
                " values (%s, %s, %s, 'closed', %s, %s, %s)",
                [SLUG, now - timedelta(seconds=seconds), ended, ended, orders, fills],
            )
        await notify(self.db, f"raw_channel_{SLUG}", "{}")

    async def emit(self, kind: str, **facts: Any) -> None:
        """Record a domain event."""
        now = datetime.now(UTC)
        payload = json.dumps({"kind": kind, "at": now.isoformat(), **facts})
        async with self.db.transaction() as conn:
            await append_events(conn, [(SLUG, now, kind, payload)])
        await notify(self.db, f"event_channel_{SLUG}", "{}")


@asynccontextmanager
async def open_room(
    conninfo: str,
    *,
    name: str = "Paper account",
    panels: Sequence[PanelSpec] = (),
    port: int = 0,
    pages_conninfo: str = "",
    web: WebSettings | None = None,
    hashes: Mapping[str, SecretStr] = {},
    clock: Clock | None = None,
) -> AsyncIterator[Room]:
    """Run the web worker for one account.

    pages_conninfo: another way to the same database, for the worker. web: its settings, but for the port. hashes: the
    passwords of those who may log in. clock: the worker's; one that stands still shows what was read at the start.
    """
    await anyio.to_thread.run_sync(upgrade, conninfo, (), (SLUG,))
    ended = anyio.Event()
    async with (
        open_database(conninfo, name="room") as db,
        open_database(pages_conninfo or conninfo, name="web") as pages_db,
        anyio.create_task_group() as tasks,
    ):
        ctx = context(pages_db, name=name, panels=panels, port=port, web=web, hashes=hashes, clock=clock)

        async def work(*, task_status: TaskStatus[anyio.CancelScope]) -> None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    await inner.start(serve_web, ctx, NoSettings())
                    task_status.started(scope)
            ended.set()

        with structlog.testing.capture_logs() as logs:
            worker = await tasks.start(work)
        url = next(entry["url"] for entry in logs if entry["event"] == "web.ready")
        try:
            yield Room(url.rstrip("/"), db, worker, ended)
        finally:
            worker.cancel()


def context(
    db: Database,
    *,
    name: str = "Paper account",
    panels: Sequence[PanelSpec] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    web: WebSettings | None = None,
    hashes: Mapping[str, SecretStr] = {},
    clock: Clock | None = None,
) -> SystemContext:
    """Return the context of a web worker for one account with the workers KINDS."""

    def ignore(*_: object) -> None:
        """Nobody listens to this worker here."""

    destination = Destination(
        key=SLUG,
        name=name,
        slug=SLUG,
        base_url=PAPER_URL,
        data_url="",
        key_id=SecretStr(f"{CANARY}-key"),
        secret=SecretStr(f"{CANARY}-secret"),
        initial_deposit=Decimal(0),
        disable_session_sleep=False,
        armed=False,
        simulated=False,
        requests_per_min=200,
    )
    settings = Settings(web=(web or WebSettings(host=host)).model_copy(update={"port": port}))
    emit: Any = ignore
    return SystemContext(
        db=db,
        clock=clock or SystemClock(),
        random=Random(1),
        log=structlog.get_logger(),
        emit=emit,
        alive=ignore,
        wake=ignore,
        lag=ignore,
        configuration=Configuration(
            file=Path("room.toml"), settings=settings, destinations=(destination,), password_hashes=hashes
        ),
        registry=_registry(destination, panels),
    )


def healthy_workers() -> list[WorkerRow]:
    """Return the rows of workers that all do well."""
    return [replace(HEALTHY, kind=kind) for kind in KINDS]


async def save_open_market(conninfo: str) -> None:
    """Record a session that is open now."""
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    session = MarketSession(now - 2 * hour, now - hour, now + hour, now + 2 * hour, now.date())
    async with await psycopg.AsyncConnection.connect(conninfo) as conn:
        await save_sessions(conn, "us_equity", "room", [session], now.date())


def _registry(destination: Destination, panels: Sequence[PanelSpec]) -> Registry:
    async def rest(*_: object) -> None:
        await anyio.sleep_forever()

    workers = {kind: RegisteredWorker(WorkerSpec(kind=kind, settings=NoSettings, run=rest), PLUGIN) for kind in KINDS}
    return Registry(
        pm=pluggy.PluginManager(PROJECT),
        plugins=(PLUGIN,),
        workers=workers,
        panels=tuple(RegisteredPanel(panel, PLUGIN) for panel in panels),
        migrations=(),
        assignments=tuple(Assignment(worker, destination, NoSettings()) for worker in workers.values()),
    )
