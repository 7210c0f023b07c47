"""The table of closed trades of one account, kept in step with its book, and what is told of each change.

Owns when rows are written and removed; a row is removed only when the ledger was restated so that it no longer follows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

import anyio.to_thread
import msgspec
from psycopg import AsyncConnection

from coldharbour.db import Database, notify
from coldharbour.events import TradeClosed
from coldharbour.live import store
from coldharbour.live.closings import Closing, Closings
from coldharbour.live.following import FollowedBook
from coldharbour.live.model import ZERO
from coldharbour.live.news import ClosedKey
from coldharbour.live.rows import closed_row
from coldharbour.live.store import ArchivedTrade

TABLE_LIMIT_S = 300.0  # for a whole table at once
AT_ONCE = 2_000  # rows in one statement: between two, others have their turn
TOLD_ONE_BY_ONE = 1_000  # changes; more of them are told as one request to read everything again


class ClosedTrades:
    """Writes an account's closed trades, and removes what no longer follows from the ledger.

    emit: is given each trade that closes while this installation knows the account; what was closed before is history.
    """

    def __init__(self, db: Database, followed: FollowedBook, emit: Callable[[TradeClosed], None]) -> None:
        self._db, self._followed, self._slug, self._emit = db, followed, followed.slug, emit
        self._closings = Closings()
        self._known_since: datetime | None = None

    async def write_all(self) -> None:
        """Make the whole table what the book says, in one transaction.

        The ledger is read on while nobody else may write, so that nothing older replaces what stands there.
        """
        await anyio.to_thread.run_sync(self._take)
        async with self._db.transaction(timeout_s=TABLE_LIMIT_S) as conn:
            await store.take_turn(conn, self._slug, "closed_trades")
            if await self._followed.catch_up(conn):
                self._take()
            self._known_since = await store.known_since(conn, self._slug)
            rows = list(self._closings)
            gone = await store.closed_trade_keys(conn, self._slug) - {closing.key for closing in rows}
            changed, removed = await _save(conn, self._slug, rows, gone)
        await self._tell(changed, removed)

    async def write(self) -> None:
        """Write what changed in the book since it was written last, in one transaction."""
        rows, gone = await anyio.to_thread.run_sync(self._take)
        if not rows and not gone:
            return
        async with self._db.transaction(timeout_s=TABLE_LIMIT_S) as conn:
            await store.take_turn(conn, self._slug, "closed_trades")
            changed, removed = await _save(conn, self._slug, rows, gone)
        await self._tell(changed, removed)

    def _take(self) -> tuple[list[Closing], list[ClosedKey]]:
        return self._closings.take(self._followed.book.take_changes())

    async def tell(self, changed: Iterable[ClosedKey], removed: Iterable[ClosedKey] = ()) -> None:
        """Tell who listens which rows changed and which are gone."""
        told = [("closed", key) for key in changed] + [("delete", key) for key in removed]
        payloads = [{"op": op, "entry_lot_id": lot, "exit_order_id": exit_id} for op, (lot, exit_id) in told]
        if len(payloads) > TOLD_ONE_BY_ONE:
            payloads = [{"op": "resync"}]
        if payloads:
            texts = [msgspec.json.encode(payload).decode() for payload in payloads]
            await notify(self._db, f"closed_channel_{self._slug}", *texts)

    async def _tell(self, changed: Sequence[ArchivedTrade], removed: Sequence[ClosedKey]) -> None:
        await self.tell(((trade.entry_lot_id, trade.exit_order_id) for trade in changed), removed)
        for trade in changed:
            if trade.closed_lot and self._known_since is not None and trade.exit_time >= self._known_since:
                self._emit_closed(trade)

    def _emit_closed(self, last: ArchivedTrade) -> None:
        """Tell that a lot went to zero, with what all its closings made."""
        trades = [closing.trade for closing in self._closings.of_lot(last.entry_lot_id)]
        self._emit(
            TradeClosed(
                at=last.exit_time, lot_id=last.entry_lot_id, symbol=last.symbol, side=trades[0].side,
                qty=sum((trade.qty for trade in trades), ZERO),
                pnl_cash=sum((trade.pnl_cash for trade in trades), ZERO),
                exit_type=next(trade.exit_type for trade in trades if trade.exit_order_id == last.exit_order_id),
            )
        )  # fmt: skip


async def _save(
    conn: AsyncConnection, slug: str, rows: Sequence[Closing], gone: Collection[ClosedKey]
) -> tuple[list[ArchivedTrade], list[ClosedKey]]:
    changed = []
    for start in range(0, len(rows), AT_ONCE):
        part = [closed_row(trade, closes_lot=closes_lot) for trade, closes_lot in rows[start : start + AT_ONCE]]
        changed += await store.save_closed_trades(conn, slug, part)
    return changed, await store.remove_closed_trades(conn, slug, gone) if gone else []
