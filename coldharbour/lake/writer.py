"""The lake of one account as its workers use it: write what was heard, tell who waits, keep what is unreadable.

Owns the transaction around a write and the NOTIFY after it; never asks the broker anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection

from coldharbour.broker import Frame as StreamFrame
from coldharbour.broker.model import Activity, Order
from coldharbour.broker.translate import Malformed
from coldharbour.clock import Clock
from coldharbour.connect import one_line
from coldharbour.db import TOO_MUCH, Database, notify
from coldharbour.events import FillRecorded
from coldharbour.lake import store
from coldharbour.lake.changes import Recorded
from coldharbour.lake.completeness import store as completeness
from coldharbour.lake.completeness.store import Cursor
from coldharbour.lake.model import Harvest, Unstorable, activity_row, combine, harvest_order, harvest_update
from coldharbour.lake.store import Frame, Telling

ITEMS_AT_ONCE = 500  # of a REST page, each with its legs, in one transaction
COPIED_FROM = 50  # rows of a page: fewer are upserted in one round trip
NOTICE_BYTES = 7000  # PostgreSQL refuses payloads of 8000 bytes

log = structlog.get_logger(__name__)

POISON = (psycopg.DataError, psycopg.IntegrityError, *TOO_MUCH)  # what PostgreSQL will never hold

Unreadable = tuple[datetime, str, bytes]


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a REST page: its text, what the lake makes of it, and why that cannot be stored."""

    raw: bytes
    harvest: Harvest
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Lake:
    """Where one account's history is written."""

    slug: str
    db: Database
    clock: Clock

    async def write_frames(self, frames: Sequence[StreamFrame]) -> Recorded:
        """Write stream frames, the orders and fills in them, and the unreadable ones, in one transaction."""
        try:
            return await self._write_frames(frames)
        except POISON as error:
            if len(frames) > 1:  # one frame poisons the batch: find it, keep the others
                parts = [await self.write_frames([frame]) for frame in frames]
                return sum(parts, Recorded())
            problem = _reason(error)
            return await self._write_frames([msgspec.structs.replace(frames[0], update=None, problem=problem)])

    async def _write_frames(self, frames: Sequence[StreamFrame]) -> Recorded:
        rows = [_frame_row(frame) for frame in frames]
        said = [_read(frame) for frame in frames]
        async with self.db.transaction(pipelined=True) as conn:
            await store.take_turn(conn, self.slug)
            told = await store.ask_what_was_told(conn, self.slug, rows)
            held = await store.look_up(conn, self.slug, combine(harvest for harvest, _ in said))
            harvests, unreadable = _judge(rows, said, await store.told(told))
            await store.append_frames(conn, self.slug, rows)
            changes = await store.record(conn, self.slug, combine(harvests), held)
            quarantined = await self._put_aside(conn, unreadable, "stream")
        await self._tell(changes.recorded, quarantined, "stream", wake=True)
        return changes.recorded

    async def write_orders(
        self, orders: Iterable[Order], malformed: Sequence[Malformed] = (), *, cursor: Cursor | None = None
    ) -> Recorded:
        """Write a page of orders as REST told them; `cursor` moves in the same transaction."""
        return await self.write_page([*map(order_item, orders)], malformed, "orders", cursor)

    async def write_activities(
        self,
        activities: Iterable[Activity],
        malformed: Sequence[Malformed] = (),
        *,
        cursor: Cursor | None = None,
    ) -> Recorded:
        """Write a page of activities as REST told them; `cursor` moves in the same transaction."""
        return await self.write_page([*map(activity_item, activities)], malformed, "activities", cursor)

    async def write_page(
        self, items: Sequence[Item], malformed: Sequence[Malformed], name: str, cursor: Cursor | None
    ) -> Recorded:
        """Write a page in parts, so that the stream waits for one of them at most; the cursor moves with the last.

        name: of the cursor.
        """
        parts = [items[start : start + ITEMS_AT_ONCE] for start in range(0, len(items), ITEMS_AT_ONCE)]
        recorded = Recorded()
        for part in parts[:-1]:
            recorded += await self._write_part(part, (), name, None)
        last = parts[-1] if parts else items
        return recorded + await self._write_part(last, malformed, name, cursor)

    async def _write_part(
        self, items: Sequence[Item], malformed: Sequence[Malformed], name: str, cursor: Cursor | None
    ) -> Recorded:
        """Write a part; a row that PostgreSQL cannot hold is put aside, and the cursor moves after all others."""
        try:
            return await self._write_whole_part(items, malformed, name, cursor)
        except POISON as error:
            if not items:
                raise
            if len(items) == 1:
                poison = Malformed(items[0].raw, _reason(error))
                return await self._write_whole_part((), [*malformed, poison], name, cursor)
        parts = [await self._write_part([item], (), name, None) for item in items]
        return sum(parts, await self._write_whole_part((), malformed, name, cursor))

    async def _write_whole_part(
        self, items: Sequence[Item], malformed: Sequence[Malformed], name: str, cursor: Cursor | None
    ) -> Recorded:
        now = self.clock.now()
        harvest = combine(item.harvest for item in items)
        unreadable = [(now, item.problem, item.raw) for item in items if item.problem is not None]
        unreadable += [(now, problem.reason, problem.raw) for problem in malformed]
        copying = len(items) >= COPIED_FROM
        async with self.db.transaction(pipelined=not copying) as conn:
            async with conn.pipeline() if copying else nullcontext():
                await store.take_turn(conn, self.slug)
                held = await store.look_up(conn, self.slug, harvest)
            changes = await store.record(conn, self.slug, harvest, held, copying=copying)
            unreadable += [(now, _dispute(f"activity {row.id}"), row.raw_json) for row in changes.disputed]
            quarantined = await self._put_aside(conn, unreadable, "rest")
            if cursor is not None:
                await completeness.move_cursor(conn, self.slug, name, cursor)
        await self._tell(changes.recorded, quarantined, "rest", wake=bool(changes.recorded or quarantined))
        return changes.recorded

    async def _put_aside(
        self, conn: AsyncConnection, unreadable: Sequence[Unreadable], source: str
    ) -> list[tuple[str, int]]:
        return await store.quarantine(conn, self.slug, unreadable, source) if unreadable else []

    async def _tell(
        self, recorded: Recorded, quarantined: Iterable[tuple[str, int]], source: str, *, wake: bool
    ) -> None:
        """Log what is newly in quarantine, and wake who reads the lake; only ever after the commit."""
        for reason, size in quarantined:
            log.warning("lake.quarantined", destination=self.slug, source=source, reason=reason, bytes=size)
        if wake:
            await notify(self.db, f"raw_channel_{self.slug}", _notice(recorded))


def fill_events(recorded: Recorded) -> Iterator[FillRecorded]:
    """Yield the domain event of every fill that was new to the lake and says all that the event tells."""
    for fill in recorded.new_fills:
        at, execution_id, order_id = fill.transaction_time, fill.execution_id, fill.order_id
        symbol, side, qty, price = fill.symbol, fill.side, fill.qty, fill.price
        if at and execution_id and order_id and symbol and side and qty is not None and price is not None:
            yield FillRecorded(
                at=at, execution_id=execution_id, order_id=order_id, symbol=symbol, side=side, qty=qty, price=price
            )


def _read(frame: StreamFrame) -> tuple[Harvest, str | None]:
    """Return what a frame says, and the problem with it."""
    if frame.update is None:
        return Harvest(), frame.problem
    try:
        return harvest_update(frame.update), frame.problem
    except Unstorable as error:
        return Harvest(), str(error)


def _judge(
    rows: Sequence[Frame], said: Sequence[tuple[Harvest, str | None]], told: Mapping[Telling, bytes]
) -> tuple[list[Harvest], list[Unreadable]]:
    """Return what counts; a frame that tells a known event with other content is put aside: the first counts."""
    first_told = dict(told)
    harvests, unreadable = [], []
    for row, (harvest, problem) in zip(rows, said, strict=True):
        is_disputed = row.telling is not None and first_told.setdefault(row.telling, row.raw) != row.raw
        if not is_disputed:
            harvests.append(harvest)
        if reason := _dispute(f"{row.event} of order {row.order_id}") if is_disputed else problem:
            unreadable.append((row.received_at, reason, row.raw))
    return harvests, unreadable


def _dispute(what: str) -> str:
    return f"{what} came again with other content"


def order_item(order: Order) -> Item:
    """Return what the lake makes of an order."""
    try:
        return Item(order.raw, harvest_order(order, "rest"))
    except Unstorable as error:
        return Item(order.raw, Harvest(), str(error))


def activity_item(activity: Activity) -> Item:
    """Return what the lake makes of an activity."""
    try:
        return Item(activity.raw, Harvest(activities=(activity_row(activity),)))
    except Unstorable as error:
        return Item(activity.raw, Harvest(), str(error))


def _frame_row(frame: StreamFrame) -> Frame:
    update = frame.update
    return Frame(
        received_at=frame.received_at,
        connection=frame.connection,
        event=update.event if update else None,
        order_id=_uuid_or_none(update.order.id) if update else None,
        execution_id=update.execution_id if update else None,
        raw=frame.raw,
    )


def _uuid_or_none(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None  # the frame itself keeps what was sent


def _reason(error: psycopg.Error) -> str:
    """Return why PostgreSQL refused, without the row that it would quote."""
    return error.diag.message_primary or one_line(error)


def _notice(recorded: Recorded) -> str:
    """Return the ids that changed, or a request to re-read when they would not fit."""
    notice = msgspec.json.encode({"orders": recorded.order_ids, "activities": recorded.activity_ids})
    return notice.decode() if len(notice) < NOTICE_BYTES else '{"op":"resync"}'
