"""The table of open trades of one account, kept in step with its book, and what is told of each change.

Owns when rows are written and removed; the market's columns belong to the valuation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import msgspec

from coldharbour.db import Database, notify
from coldharbour.live import store
from coldharbour.live.following import FollowedBook
from coldharbour.live.positions import store as positions
from coldharbour.live.rows import Row, open_row
from coldharbour.live.store import LotVersion

TABLE_LIMIT_S = 120.0  # for a whole table at once


@dataclass(frozen=True, slots=True)
class BrokerAverage:
    """The broker's average cost of a symbol, per share, and when it was asked for it."""

    price: Decimal
    as_of: datetime


class OpenTrades:
    """Writes the structural columns of an account's open trades, and removes the rows of lots that are gone."""

    def __init__(self, db: Database, followed: FollowedBook) -> None:
        self._averages: dict[str, BrokerAverage] = {}
        self._db, self._followed, self._slug = db, followed, followed.slug
        self._written: dict[str, frozenset[str]] = {}  # the lots of each symbol that stand in the table

    async def write_all(self) -> None:
        """Make the whole table what the book says, in one transaction.

        The ledger is read on while nobody else may write, so that nothing older replaces what stands there.
        """
        async with self._db.transaction(timeout_s=TABLE_LIMIT_S) as conn:
            await store.take_turn(conn, self._slug, "open_trades")
            await self._followed.catch_up(conn)
            self._averages = _averages(await positions.positions(conn, self._slug))
            rows = list(self._rows(self._followed.book.symbols()))
            stored = await store.open_trade_ids(conn, self._slug)
            changed = await store.save_open_trades(conn, self._slug, rows)
            gone = await store.remove_open_trades(conn, self._slug, stored - {row["parent_id"] for row in rows})
            if changed or gone:
                await store.count_structure(conn, self._slug)
        self._note(self._followed.book.symbols())
        await self._tell(changed, gone)

    async def take_averages(self) -> None:
        """Take over the average costs of the broker's newest positions."""
        async with self._db.transaction() as conn:
            self._averages = _averages(await positions.positions(conn, self._slug))
        await self.write([symbol for symbol, lots in self._written.items() if lots])

    async def write(self, symbols: Iterable[str]) -> None:
        """Write the lots of these symbols as the book has them now, in one transaction."""
        symbols = list(symbols)
        rows = list(self._rows(symbols))
        present = {row["parent_id"] for row in rows}
        gone = [lot for symbol in symbols for lot in self._written.get(symbol, ()) if lot not in present]
        if not rows and not gone:
            return
        async with self._db.transaction() as conn:
            await store.take_turn(conn, self._slug, "open_trades")
            changed = await store.save_open_trades(conn, self._slug, rows) if rows else []
            gone = await store.remove_open_trades(conn, self._slug, gone) if gone else []
            if changed or gone:
                await store.count_structure(conn, self._slug)
        self._note(symbols)
        await self._tell(changed, gone)

    def _rows(self, symbols: Iterable[str]) -> Iterable[Row]:
        for symbol in symbols:
            average = self._average(symbol)
            for lot in self._followed.book.lots(symbol):
                yield open_row(lot, average)

    def _average(self, symbol: str) -> Decimal | None:
        """Return the broker's average cost if it is newer than all that moved the symbol. Source: domain.md 4."""
        known, moved_at = self._averages.get(symbol), self._followed.moved_at.get(symbol)
        return None if known is None or (moved_at is not None and known.as_of <= moved_at) else known.price

    def _note(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            self._written[symbol] = frozenset(lot.parent_id for lot in self._followed.book.lots(symbol))

    async def _tell(self, changed: Iterable[LotVersion], gone: Iterable[str]) -> None:
        payloads = [{"op": "lot", "parent_id": lot.parent_id, "version": lot.version} for lot in changed]
        payloads += [{"op": "delete", "parent_id": parent_id} for parent_id in gone]
        if payloads:
            await notify(
                self._db, f"pos_channel_{self._slug}", *(msgspec.json.encode(payload).decode() for payload in payloads)
            )


def _averages(known: Iterable[positions.BrokerPosition]) -> dict[str, BrokerAverage]:
    return {
        position.symbol: BrokerAverage(position.avg_entry_price, position.as_of)
        for position in known
        if position.avg_entry_price is not None
    }
