"""A lake in a test's own database, the broker's messages as text, and what ended up in the tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from coldharbour.broker import Activity, Frame, Malformed, Order
from coldharbour.broker import translate as broker_text
from coldharbour.clock import Clock, SystemClock
from coldharbour.db import open_database
from coldharbour.lake.writer import Lake

SLUG = "paper"
NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)
NAMES = UUID(int=7)
UNORDERED = ("ingested_at", "revision")  # they tell when a row came, not what it says

Json = dict[str, Any]


def name(what: object) -> str:
    """Return the id that stands for something in a test's story."""
    return str(uuid5(NAMES, str(what)))


def moment(seconds: float) -> str:
    """Return noon and so many seconds as the broker writes it."""
    return (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def order_json(who: object, *, at: float = 0, status: str = "new", **changes: Any) -> Json:
    """Return an order named `who`, last changed `at` seconds after noon."""
    return {
        "id": name(who),
        "client_order_id": f"client {who}",
        "created_at": moment(0),
        "updated_at": moment(at),
        "submitted_at": moment(0),
        "symbol": "KO",
        "asset_class": "us_equity",
        "qty": "10",
        "filled_qty": "0",
        "filled_avg_price": None,
        "order_class": "",
        "type": "limit",
        "side": "buy",
        "time_in_force": "gtc",
        "limit_price": "62.10",
        "status": status,
        "legs": None,
        "routing": "a field that nobody knows",
        **changes,
    }


def fill_json(execution: object, *, order: object = "entry", at: float = 0, **changes: Any) -> Json:
    """Return the activity of a fill as REST tells it."""
    wall = (NOON + timedelta(seconds=at)).astimezone(broker_text.NEW_YORK)
    return {
        "id": f"{wall:%Y%m%d%H%M%S}{wall.microsecond // 1000:03d}::{name(execution)}",
        "activity_type": "FILL",
        "transaction_time": moment(at),
        "type": "fill",
        "price": "62.10",
        "qty": "10",
        "side": "buy",
        "symbol": "KO",
        "order_id": name(order),
        **changes,
    }


def cash_json(what: object, **changes: Any) -> Json:
    """Return an activity that is no fill."""
    return {
        "id": f"20261008000000000::{name(what)}",
        "activity_type": "DIV",
        "date": "2026-10-08",
        "net_amount": "1.02",
        "symbol": "KO",
        "status": "executed",
        **changes,
    }


def text(message: Mapping[str, Any]) -> bytes:
    """Return a message as the broker sends it."""
    return json.dumps(message, separators=(",", ":")).encode()


def order(message: Json) -> Order:
    """Return what REST says of an order."""
    return broker_text.order(text(message))


def activity(message: Json) -> Activity:
    """Return what REST says of an activity."""
    return broker_text.activity(text(message))


def update_json(event: str, order: Json, *, execution: object = None, at: float = 0, **changes: Any) -> Json:
    """Return one event of the stream."""
    told = {"event": event, "timestamp": moment(at), "order": order}
    if execution is not None:
        told["execution_id"] = name(execution)
    return {"stream": "trade_updates", "data": {**told, **changes}}


def frame(raw: bytes | Json, *, connection: object = "first") -> Frame:
    """Return a frame as the socket's reader makes it: with its event, or with what is wrong with it."""
    raw = raw if isinstance(raw, bytes) else text(raw)
    update, problem = None, None
    try:
        update = broker_text.trade_update(raw)
    except Malformed as error:
        problem = error.reason
    return Frame(received_at=NOON, connection=name(connection), raw=raw, update=update, problem=problem)


def told(event: str, order: Json, **more: Any) -> Frame:
    """Return the frame of one event."""
    return frame(update_json(event, order, **more))


@asynccontextmanager
async def open_lake(database_url: str, *, clock: Clock | None = None, slug: str = SLUG) -> AsyncIterator[Lake]:
    """Lend the lake of one account, with its partitions."""
    clock = clock or SystemClock()
    async with open_database(database_url, name="test", clock=clock) as db:
        async with db.transaction() as conn:
            await conn.execute("select accounts.ensure_partitions(%s)", [slug])
        yield Lake(slug, db, clock)


async def rows(lake: Lake, table: str, *, without: Collection[str] = UNORDERED) -> list[Json]:
    """Return the account's rows of one of the lake's tables, by id; raw JSON as its exact text."""
    query = sql.SQL("select * from {} where destination = %s order by id")
    async with lake.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
        cursor.adapters.register_loader("json", TextLoader)
        await cursor.execute(query.format(sql.Identifier("account_activities", table)), [lake.slug])
        found = await cursor.fetchall()
    return [{key: value for key, value in row.items() if key not in without} for row in found]


async def one(lake: Lake, who: object) -> Json:
    """Return the row of the order named `who`."""
    found = [row for row in await rows(lake, "raw_orders", without=()) if str(row["id"]) == name(who)]
    assert found, f"no order {who}"
    return found[0]


async def family(lake: Lake) -> dict[str, str | None]:
    """Return which order stands under which, by id."""
    return {
        str(row["id"]): None if row["parent_id"] is None else str(row["parent_id"])
        for row in await rows(lake, "raw_orders")
    }
