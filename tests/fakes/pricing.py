"""A price stream that a test speaks into, and open lots as the book-keeping would write them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import zmq
import zmq.asyncio
from psycopg import sql

from coldharbour.db import Database, notify
from coldharbour.sessions import session_of
from coldharbour.store import save_sessions

SLUG = "paper"


def trade_message(symbol: str, price: object, at: datetime | None = None, **changes: Any) -> bytes:
    """Return a trade as the publisher writes it, made now unless a moment is given."""
    stamp = (at or datetime.now(UTC)).isoformat()
    trade = {"symbol": symbol, "price": price, "size": 100, "conditions": ["@"], "timestamp": stamp, **changes}
    return msgspec.msgpack.encode({"trade": trade})


@dataclass
class Publisher:
    """The publisher's end of the price stream."""

    socket: zmq.asyncio.Socket
    endpoint: str

    async def until_subscribed(self) -> None:
        """Return when one more subscriber listens."""
        while (await self.socket.recv())[:1] != b"\x01":  # 0 begins what a leaver says
            pass

    async def send(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            await self.socket.send(message)

    async def trade(self, symbol: str, *prices: float, at: datetime | None = None) -> None:
        """Print prices one after the other."""
        await self.send([trade_message(symbol, price, at) for price in prices])

    async def open_at(self, symbol: str, price: float) -> None:
        """Give a symbol its first price, which needs a confirmation."""
        await self.trade(symbol, price, price)


@asynccontextmanager
async def publishing(endpoint: str = "tcp://127.0.0.1:*") -> AsyncIterator[Publisher]:
    """Publish during the block; yields the real endpoint with it."""
    with zmq.asyncio.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.sndhwm = 0
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        socket.bind(endpoint)
        yield Publisher(socket, socket.getsockopt_string(zmq.LAST_ENDPOINT))


@dataclass
class Lots:
    """The book-keeping's hand in the table of open trades of one account."""

    db: Database
    slug: str = SLUG

    async def open(self, parent_id: str, symbol: str, *, tell: bool = True, **changes: Any) -> None:
        """Enter a lot: 10 shares long at 50, a stop at 49 and a target at 54, an hour old, unless it says otherwise."""
        entered = datetime.now(UTC) - timedelta(hours=1)
        row = {
            "destination": self.slug, "parent_id": parent_id, "symbol": symbol, "side": "Long", "qty": Decimal(10),
            "entry_qty": Decimal(10), "avg_fill": Decimal(50), "avg_px_symbol": Decimal(50), "buy_value": Decimal(500),
            "entry_time": entered, "last_fill_time": entered, "initial_stop": Decimal(49), "sl_px": Decimal(49),
            "stop_order_id": "stop", "tp_px": Decimal(54), "take_order_id": "take", **changes,
        }  # fmt: skip
        insert = sql.SQL("insert into accounts.open_trades ({}) values ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
        )
        async with self.db.transaction() as conn:
            await conn.execute(insert, row)
        if tell:
            await self.tell({"op": "lot", "parent_id": parent_id, "version": 1})

    async def change(self, parent_id: str, *, tell: bool = True, **changes: Any) -> None:
        """Change the structure of a lot, which counts its version up."""
        update = sql.SQL("update accounts.open_trades set {}, version = version + 1 where parent_id = {}").format(
            sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in changes),
            sql.Placeholder("parent_id"),
        )
        async with self.db.transaction() as conn:
            await conn.execute(update, {**changes, "parent_id": parent_id})
        if tell:
            await self.tell({"op": "lot", "parent_id": parent_id, "version": 2})

    async def close(self, parent_id: str) -> None:
        """Remove a lot of which nothing is left."""
        async with self.db.transaction() as conn:
            await conn.execute("delete from accounts.open_trades where parent_id = %s", [parent_id])
        await self.tell({"op": "delete", "parent_id": parent_id})

    async def tell(self, note: dict[str, Any]) -> None:
        await notify(self.db, f"pos_channel_{self.slug}", msgspec.json.encode(note).decode())


def open_all_day(conninfo: str, market: str = "us_equity", days: int = 5) -> None:
    """Write a calendar whose every day, some back and one ahead, is regular hours around the clock."""
    today = datetime.now(UTC).date()
    with psycopg.connect(conninfo) as conn:
        for day in (today + timedelta(days=number) for number in range(-days, 2)):
            session = session_of(day, time(0, 0), time(23, 59, 59))
            conn.execute(
                "insert into accounts.market_schedule (market, session_date, pre_open_utc, open_utc, close_utc,"
                " post_close_utc, source) values (%s, %s, %s, %s, %s, %s, 'test')",
                [market, day, session.pre_open_utc, session.open_utc, session.close_utc, session.post_close_utc],
            )


async def save_calendar(db: Database, days: Iterable[date], market: str = "us_equity") -> None:
    """Write a calendar of usual days."""
    sessions = [session_of(day, time(9, 30), time(16, 0)) for day in days]
    async with db.transaction() as conn:
        await save_sessions(conn, market, "test", sessions, sessions[-1].session_date)
