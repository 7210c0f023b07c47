"""Reads an account's ledger whole, then follows it: each change once, and nothing skipped.

Owns how far it has read and what it could not use; decides nothing about lots. A row carries the transaction that
wrote it last (`revision`), and a reading begins where the one before could not see to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from psycopg import AsyncConnection

from coldharbour.activity_types import FILL
from coldharbour.db import Database
from coldharbour.lake.model import SELLS
from coldharbour.live import cash
from coldharbour.live.cash import AccountActivity
from coldharbour.live.ledger import store
from coldharbour.live.model import ZERO, Fill, MoveKind, OrderFact, ShareMove
from coldharbour.sessions import NEW_YORK

WHOLE_LIMIT_S = 600.0  # for a whole ledger; millions of rows take minutes

Reach = Callable[[int, int], None]  # rows read, rows expected
Row = tuple[Any, ...]
Told = tuple[str, AccountActivity, str]  # the id that stays, the activity, its order's id


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reading brought that the ones before did not."""

    orders: tuple[OrderFact, ...] = ()
    fills: tuple[Fill, ...] = ()
    moves: tuple[ShareMove, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.orders or self.fills or self.moves)


class LedgerReader:
    """One reader of one account's ledger; after an exception it is not to be used again.

    problems: what is used only as far as it is known, by the key of the finding. What cannot be counted at all is left
    out without a word: the cash flows tell of it.
    """

    def __init__(self, db: Database, slug: str, market: str) -> None:
        self.problems: dict[str, str] = {}
        self._db, self._slug, self._market = db, slug, market
        self._since = 0
        self._met: dict[str, int] = {}  # the revisions of the rows that the next reading meets again
        self._unpriced: dict[str, ShareMove] = {}

    async def whole(self, reach: Reach = lambda done, expected: None) -> Reading:
        """Read everything there is; later readings begin here."""
        met: dict[str, int] = {}
        orders: list[OrderFact] = []
        activities: list[Told] = []
        async with self._db.transaction(timeout_s=WHOLE_LIMIT_S, one_snapshot=True) as conn:
            floor = await store.floor(conn)
            expected = sum(await store.size(conn, self._slug))
            async for rows in store.all_orders(conn, self._slug):
                orders += map(_order, _unmet(rows, met, floor))
                reach(len(orders), expected)
            async for rows in store.all_activities(conn, self._slug):
                activities += map(_activity, _unmet(rows, met, floor))
                reach(len(orders) + len(activities), expected)
            reading = await self._reading(conn, orders, activities)
        self._since, self._met = floor, met
        return reading

    async def news(self, conn: AsyncConnection | None = None) -> Reading:
        """Read what changed since the last reading, as of one moment; on a transaction of the caller's, if given."""
        if conn is not None:
            return await self._news(conn)
        async with self._db.transaction(one_snapshot=True) as own:
            return await self._news(own)

    async def _news(self, conn: AsyncConnection) -> Reading:
        # Orders last: in a transaction that sees each commit as it happens, no fill comes before its order.
        met = dict(self._met)
        async with conn.pipeline():
            await store.expect_few(conn)
            floor = await store.floor(conn)
            activities = await store.activities_since(conn, self._slug, self._since)
            orders = await store.orders_since(conn, self._slug, self._since)
        new_activities = [_activity(row) for row in _unmet(activities, met)]
        new_orders = [_order(row) for row in _unmet(orders, met)]
        reading = await self._reading(conn, new_orders, new_activities)
        self._since, self._met = floor, {key: revision for key, revision in met.items() if revision >= floor}
        return reading

    async def _reading(self, conn: AsyncConnection, orders: Iterable[OrderFact], activities: Iterable[Told]) -> Reading:
        fills, moves = [], []
        for key, activity, order_id in activities:
            self.problems.pop(key, None)
            if cash.problem_of(activity):
                continue
            if activity.activity_type == FILL:
                fills.append(self._fill(key, activity, order_id))
            elif activity.symbol:  # the cash of a corporate action moves no shares
                moves.append(_move(key, activity))
        return Reading(tuple(orders), tuple(fills), tuple(await self._priced(conn, moves)))

    def _fill(self, key: str, activity: AccountActivity, order_id: str) -> Fill:
        if not order_id:
            self.problems[key] = f"fill {activity.id} names no order: it counts as an order of its own"
        elif activity.transaction_time is None:
            self.problems[key] = f"fill {activity.id} has a day and no time: it counts as the day's first"
        return Fill(
            id=key, at=_moment(activity), order_id=order_id or key, symbol=activity.symbol,
            is_buy=activity.side not in SELLS, qty=activity.qty or ZERO, price=activity.price or ZERO,
        )  # fmt: skip

    async def _priced(self, conn: AsyncConnection, moves: list[ShareMove]) -> list[ShareMove]:
        """Return the moves, transfers with that day's close; one that has none yet is tried again at every reading."""
        for move in moves:
            self._unpriced.pop(move.id, None)
            if move.kind is MoveKind.TRANSFER and move.price is None and move.qty:
                self._unpriced[move.id] = move
        if not self._unpriced:
            return moves
        waiting = list(self._unpriced.values())
        wanted = [(move.symbol, move.at.astimezone(NEW_YORK).date()) for move in waiting]
        found = await store.closes(conn, self._market, wanted)
        settled = {move.id: move for move in moves}
        for move, close in zip(waiting, found, strict=True):
            if close is None:
                self.problems[move.id] = f"transfer {move.id} of {move.symbol} has no price yet"
                continue
            settled[move.id] = ShareMove(move.id, move.at, move.symbol, move.kind, move.qty, close)
            self.problems.pop(move.id, None)
            del self._unpriced[move.id]
        return list(settled.values())


def _unmet(rows: Iterable[Row], met: dict[str, int], floor: int = 0) -> Iterator[Row]:
    """Yield the rows that were not met at their revision yet, and note those that a later reading meets again."""
    for row in rows:
        revision, key = int(row[0]), row[1] or row[3]
        if revision < floor:
            yield row
        elif met.get(key, -1) < revision:
            met[key] = revision
            yield row


def _order(row: Row) -> OrderFact:
    (_, order_id, symbol, side, order_type, order_class, status, time_in_force, qty, filled_qty, limit_price,
     stop_price, parent_id, replaces, replaced_by, created_at, submitted_at, filled_at, canceled_at, expired_at,
     replaced_at, failed_at, expires_at) = row  # fmt: skip
    return OrderFact(
        id=order_id, symbol=symbol, is_buy=side not in SELLS, order_type=order_type, order_class=order_class,
        status=status, time_in_force=time_in_force, qty=qty, filled_qty=filled_qty, limit_price=limit_price,
        stop_price=stop_price, parent_id=parent_id, replaces=replaces, replaced_by=replaced_by, created_at=created_at,
        submitted_at=submitted_at, filled_at=filled_at, canceled_at=canceled_at, expired_at=expired_at,
        replaced_at=replaced_at, failed_at=failed_at, expires_at=expires_at,
    )  # fmt: skip


def _activity(row: Row) -> Told:
    """Return an activity under the id that it keeps, and its order's.

    The stream's fill gets another id when REST tells of it; its execution stays. Among equal times both order alike.
    """
    _, execution_id, order_id, activity_id, kind, at, day, symbol, side, qty, price, net_amount, status, booked = row
    created_at = cash.booked_at(booked)
    activity = AccountActivity(activity_id, kind, at, day, symbol, side, qty, price, net_amount, status, "", created_at)
    return execution_id or activity_id, activity, order_id or ""


def _move(key: str, activity: AccountActivity) -> ShareMove:
    """Return how shares moved; an activity that the broker took back moves none."""
    kind = cash.move_kind(activity.activity_type) or MoveKind.SPLIT
    qty = ZERO if cash.is_canceled(activity) else cash.share_effect(activity)
    price = activity.price if kind is MoveKind.TRANSFER else None
    return ShareMove(key, _moment(activity), activity.symbol, kind, qty, price)


def _moment(activity: AccountActivity) -> datetime:
    """Return when an activity happened; the beginning of its New York day where only that is known.

    Corporate actions are in force when their day begins, whenever the broker books them.
    """
    day, known = cash.day_of(activity), activity.transaction_time
    if cash.move_kind(activity.activity_type) is MoveKind.TRANSFER:
        known = cash.moment_of(activity)
    if known is not None:
        return known
    if day is None:
        raise ValueError(f"activity {activity.id} has neither a time nor a day")
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)
