"""One account whose lake, calendar and market a test writes, and the workers that count its money."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from random import Random
from typing import Any

import structlog
from coldharbour_plugins.equity import EquitySettings, keep_equity
from psycopg.rows import dict_row
from pydantic import SecretStr

from coldharbour import store as kernel
from coldharbour.accounts import AccountContext
from coldharbour.broker import Broker, translate
from coldharbour.clock import SystemClock
from coldharbour.db import Database, open_database
from coldharbour.destinations import Destination
from coldharbour.feed.prices import Prices
from coldharbour.lake.writer import Lake
from coldharbour.live.cash import AccountActivity
from coldharbour.sessions import NEW_YORK, MarketSession, Phase, session_of
from fakes.past import MarketPast

SLUG = "paper"
HOURS = (time(9, 30), time(16, 0))


def new_york(day: date, wall: str) -> datetime:
    """Return a wall time of New York in UTC."""
    return datetime.combine(day, time.fromisoformat(wall), NEW_YORK).astimezone(UTC)


class StandingClock(SystemClock):
    """A clock that shows what it is set to."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


@dataclass
class CountingHouse:
    """The account, its tables, and what its workers may touch."""

    db: Database
    past: MarketPast
    broker: Broker
    clock: StandingClock
    prices: Prices
    cash_flow_types: tuple[str, ...] = ()
    logged: list[Any] = field(default_factory=list)

    @property
    def ctx(self) -> AccountContext:
        """The context of a worker of the account."""

        def ignore(*_: object) -> None:
            """Nobody listens here."""

        nothing: Any = ignore
        return AccountContext(
            db=self.db, clock=self.clock, random=Random(1), log=structlog.get_logger(), emit=nothing, alive=ignore,
            wake=ignore, lag=ignore, destination=self._destination(), broker=self.broker, prices=self.prices,
            market_db=self.db, lease=None, phase=lambda: Phase.REGULAR,
        )  # fmt: skip

    def _destination(self) -> Destination:
        return Destination(
            key=SLUG, name=SLUG, slug=SLUG, base_url="", data_url="", key_id=SecretStr(""), secret=SecretStr(""),
            initial_deposit=Decimal(0), disable_session_sleep=False, armed=False, simulated=False,
            requests_per_min=200, cash_flow_types=self.cash_flow_types,
        )  # fmt: skip

    async def schedule(self, *days: date) -> None:
        """Write the sessions that the schedule knows."""
        sessions: list[MarketSession] = [session_of(day, *HOURS) for day in days]
        async with self.db.transaction() as conn:
            await kernel.save_sessions(conn, "us_equity", "test", sessions, days[-1])

    async def record(self, *activities: AccountActivity) -> None:
        """Write activities into the lake as REST tells them."""
        told = [translate.activity(lake_json(activity)) for activity in activities]
        await Lake(SLUG, self.db, self.clock).write_activities(told)

    async def hold(self, symbol: str, price: str | None, at: datetime, *, qty: str = "10", **more: str | None) -> None:
        """Write an open trade with its market price."""
        row = {
            "destination": SLUG, "parent_id": f"lot of {symbol}", "symbol": symbol, "side": "Long", "qty": qty,
            "entry_qty": qty, "avg_fill": "1", "avg_px_symbol": "1", "buy_value": qty, "entry_time": at,
            "last_fill_time": at, "mkt_px": price, "mkt_at": at, **more,
        }  # fmt: skip
        names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        statement = f"insert into accounts.open_trades ({names}) values ({places}) on conflict (destination, parent_id) do update set mkt_px = excluded.mkt_px, mkt_at = excluded.mkt_at"  # noqa: E501, S608
        await self.execute(statement, row)

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        """Run a statement."""
        async with self.db.transaction() as conn:
            await conn.execute(statement.encode(), parameters)

    async def select(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Return what a query finds."""
        async with self.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), parameters)
            return await cursor.fetchall()

    async def column(self, query: str, *parameters: object) -> list[Any]:
        """Return the first column of what a query finds."""
        return [next(iter(row.values())) for row in await self.select(query, *parameters)]

    async def count_equity(self, at: datetime | None = None, **settings: Any) -> float:
        """Run one cycle of the equity worker, at a moment."""
        self.clock.at = at or self.clock.at
        with structlog.testing.capture_logs() as lines:
            try:
                return await keep_equity(self.ctx, EquitySettings(**settings))
            finally:
                self.logged += lines

    async def findings(self) -> dict[str, str]:
        """Return what is found wrong and not resolved, by its key."""
        rows = await self.select("select key, finding from accounts.findings where resolved_at is null order by key")
        return {row["key"]: row["finding"] for row in rows}


def lake_json(activity: AccountActivity) -> bytes:
    """Return an activity as the broker writes it; what is missing stays missing."""
    at = activity.transaction_time
    told = {
        "id": activity.id,
        "activity_type": activity.activity_type,
        "transaction_time": at.isoformat().replace("+00:00", "Z") if at else None,
        "date": str(activity.date) if activity.date else None,
        "symbol": activity.symbol,
        "side": activity.side,
        "qty": None if activity.qty is None else str(activity.qty),
        "price": None if activity.price is None else str(activity.price),
        "net_amount": None if activity.net_amount is None else str(activity.net_amount),
        "status": activity.status,
        "description": activity.description,
        "created_at": activity.created_at.isoformat() if activity.created_at else None,
    }
    if activity.activity_type == "FILL":
        told["id"] = f"20261001000000000::{activity.id}"
    return json.dumps({key: value for key, value in told.items() if value}).encode()


@asynccontextmanager
async def open_counting_house(database_url: str, days: Sequence[date], at: datetime) -> AsyncIterator[CountingHouse]:
    """Lend an account in an empty database; the broker's calendar has these days."""
    past, clock = MarketPast(days), StandingClock(at)
    async with open_database(database_url, name="test", clock=clock) as db, past.broker() as broker:
        async with db.transaction() as conn:
            await conn.execute("select accounts.ensure_partitions(%s)", [SLUG])
        yield CountingHouse(db, past, broker, clock, Prices(clock))
