"""What the lab reads from an account's tables: its closed trades; writes nothing. The caller owns the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from coldharbour.live.splits import Split


@dataclass(frozen=True, slots=True)
class StoredTrade:
    """A closed trade. qty: shares, above zero. initial_stop: None without one. pnl_cash: account currency.

    splits: those that it was held over; its quantity and prices are those of the shares after them.
    """

    entry_lot_id: str
    exit_order_id: str
    symbol: str
    side: str
    qty: Decimal
    entry_time: datetime
    entry_price: Decimal
    exit_time: datetime
    exit_price: Decimal
    exit_type: str
    initial_stop: Decimal | None
    pnl_cash: Decimal
    splits: tuple[Split, ...]


async def closed_trades(conn: AsyncConnection, slug: str, since: datetime | None) -> list[StoredTrade]:
    """Return the trades that were closed at or after a moment, None for all; by time of exit."""
    query = sql.SQL("""
        select entry_lot_id, exit_order_id, symbol, side, qty, entry_time, entry_price, exit_time, exit_price,
               exit_type, initial_stop, pnl_cash, splits
        from {table} where destination = %(slug)s and (%(since)s::timestamptz is null or exit_time >= %(since)s)
        order by exit_time, entry_lot_id, exit_order_id
    """).format(table=sql.Identifier("accounts", f"closed_trades_{slug}"))
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(query, {"slug": slug, "since": since})
        return msgspec.convert(await cur.fetchall(), list[StoredTrade])
