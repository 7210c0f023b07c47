"""What the preview of an action reads of one open lot."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class LotRow:
    """An open lot as far as its stop is concerned. Prices per share; sl_px is None without a stop."""

    parent_id: str
    symbol: str
    side: str
    qty: Decimal
    avg_fill: Decimal
    sl_px: Decimal | None
    mkt_px: Decimal | None


async def open_lot(conn: AsyncConnection, slug: str, parent_id: str) -> LotRow | None:
    """Return an open lot of an account, None if there is none of this id."""
    async with conn.cursor(row_factory=class_row(LotRow)) as cur:
        await cur.execute(
            """
            select parent_id, symbol, side, qty, avg_fill, sl_px, mkt_px
            from accounts.open_trades where destination = %s and parent_id = %s
            """,
            [slug, parent_id],
        )
        return await cur.fetchone()
