"""The lake of one account as its workers use it: write what was heard, tell who waits, keep what is unreadable.

Owns the transaction around a write and the NOTIFY after it; never asks the broker anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg
import structlog

from coldharbour.broker import Frame as StreamFrame
from coldharbour.broker.model import Activity, Order
from coldharbour.broker.translate import Malformed
from coldharbour.clock import Clock
from coldharbour.db import Database, notify
from coldharbour.events import FillRecorded
from coldharbour.lake import store
from coldharbour.lake.model import Harvest, Unstorable, activity_row, combine, harvest_order, harvest_update
from coldharbour.lake.store import Cursor, Frame, Recorded

NOTICE_BYTES = 7000  # PostgreSQL refuses payloads of 8000 bytes

log = structlog.get_logger(__name__)

Unreadable = tuple[datetime, str, bytes]
Said = TypeVar("Said", Order, Activity)


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
        except psycopg.DataError as error:
            if len(frames) > 1:  # one frame poisons the batch: find it, keep the others
                parts = [await self.write_frames([frame]) for frame in frames]
                return sum(parts, Recorded())
            return await self._write_frames([msgspec.structs.replace(frames[0], update=None, problem=str(error))])

    async def _write_frames(self, frames: Sequence[StreamFrame]) -> Recorded:
        harvests, unreadable = _read_frames(frames)
        return await self._write(
            combine(harvests),
            [_frame_row(frame) for frame in frames],
            unreadable,
            "stream",
            alive_at=self.clock.now(),
        )

    async def write_orders(
        self, orders: Iterable[Order], malformed: Sequence[Malformed] = (), *, cursor: Cursor | None = None
    ) -> Recorded:
        """Write a page of orders as REST told them; `cursor` moves in the same transaction."""
        harvests, unreadable = _harvest(orders, lambda order: harvest_order(order, "rest"), self.clock.now())
        unreadable += [(self.clock.now(), problem.reason, problem.raw) for problem in malformed]
        return await self._write(combine(harvests), (), unreadable, "rest", cursors={"orders": cursor})

    async def write_activities(
        self,
        activities: Iterable[Activity],
        malformed: Sequence[Malformed] = (),
        *,
        cursor: Cursor | None = None,
    ) -> Recorded:
        """Write a page of activities as REST told them; `cursor` moves in the same transaction."""
        harvests, unreadable = _harvest(
            activities, lambda activity: Harvest(activities=(activity_row(activity),)), self.clock.now()
        )
        unreadable += [(self.clock.now(), problem.reason, problem.raw) for problem in malformed]
        return await self._write(combine(harvests), (), unreadable, "rest", cursors={"activities": cursor})

    async def _write(
        self,
        harvest: Harvest,
        frames: Sequence[Frame],
        unreadable: Sequence[Unreadable],
        source: str,
        *,
        cursors: dict[str, Cursor | None] | None = None,
        alive_at: datetime | None = None,
    ) -> Recorded:
        async with self.db.transaction() as conn:
            if frames:
                await store.append_frames(conn, self.slug, frames)
            recorded = await store.record(conn, self.slug, harvest, self.clock.now())
            if unreadable:
                await store.quarantine(conn, self.slug, unreadable, source)
            for name, cursor in (cursors or {}).items():
                if cursor is not None:
                    await store.move_cursor(conn, self.slug, name, cursor)
            if alive_at is not None:
                await store.mark_stream_alive(conn, self.slug, alive_at)
        for _, reason, raw in unreadable:
            log.warning("lake.quarantined", destination=self.slug, source=source, reason=reason, bytes=len(raw))
        if recorded or frames or unreadable:
            await notify(self.db, f"raw_channel_{self.slug}", _notice(recorded))
        return recorded


def fill_events(recorded: Recorded) -> Iterator[FillRecorded]:
    """Yield the domain event of every fill that was new to the lake."""
    for fill in recorded.new_fills:
        yield FillRecorded(
            at=fill.transaction_time, execution_id=fill.execution_id, order_id=str(fill.order_id),
            symbol=fill.symbol, side=fill.side, qty=fill.qty, price=fill.price,
        )  # fmt: skip


def _read_frames(frames: Sequence[StreamFrame]) -> tuple[list[Harvest], list[Unreadable]]:
    harvests, unreadable = [], []
    for frame in frames:
        problem = frame.problem
        if frame.update is not None:
            try:
                harvests.append(harvest_update(frame.update))
            except Unstorable as error:
                problem = str(error)
        if problem is not None:
            unreadable.append((frame.received_at, problem, frame.raw))
    return harvests, unreadable


def _harvest(
    items: Iterable[Said], translate: Callable[[Said], Harvest], now: datetime
) -> tuple[list[Harvest], list[Unreadable]]:
    harvests, unreadable = [], []
    for item in items:
        try:
            harvests.append(translate(item))
        except Unstorable as error:
            unreadable.append((now, str(error), item.raw))
    return harvests, unreadable


def _frame_row(frame: StreamFrame) -> Frame:
    update = frame.update
    return Frame(
        received_at=frame.received_at,
        connection=UUID(frame.connection),
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


def _notice(recorded: Recorded) -> str:
    """Return the ids that changed, or a request to re-read when they would not fit."""
    notice = msgspec.json.encode({"orders": recorded.order_ids, "activities": recorded.activity_ids})
    return notice.decode() if len(notice) < NOTICE_BYTES else '{"op":"resync"}'
