"""The market's columns of `accounts.open_trades`: reads whole lots, writes prices, values and extremes.

A mark is written only on the version of the lot that it was made for. Functions take a connection, and the caller
owns the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import kwargs_row

from coldharbour.live.marks.model import Extremes, HeldLot, Mark, StoredLot
from coldharbour.live.model import Side

SCHEMA, TABLE = "accounts", "open_trades"
MARK_COLUMNS = {
    "mkt_px": "numeric", "mkt_at": "timestamptz", "mkt_value": "numeric", "profit_loss": "numeric",
    "profit_loss_lot": "numeric", "tp_sl_reach_pct": "numeric", "r_multiple": "numeric", "high_px": "numeric",
    "low_px": "numeric", "extremes_through": "timestamptz",
}  # fmt: skip

HELD = sql.SQL("""
    select parent_id, symbol, side, qty, entry_qty, avg_fill, avg_px_symbol, entry_time, last_fill_time, initial_stop,
           sl_px as stop_price, stop_order_id, tp_px as take_price, take_order_id, expires_at, unprotected_s,
           unprotected_since, version, moved_flag, mkt_px, mkt_at, high_px, low_px, extremes_through
    from {table} where destination = %(slug)s and (%(ids)s::text[] is null or parent_id = any(%(ids)s))
    order by entry_time, parent_id
""")
SAVE = sql.SQL("""
    update {table} as stored set {assignments}, valued_at = clock_timestamp()
    from json_to_recordset(%(marks)s::json) as mark(parent_id text, version bigint, {typed})
    where stored.destination = %(slug)s and stored.parent_id = mark.parent_id and stored.version = mark.version
    returning stored.parent_id
""")
# What a crash loses of it is computed again: nobody need wait for the disk.
TURN = """
    select pg_try_advisory_xact_lock(hashtextextended(%s, 0)), set_config('synchronous_commit', 'off', true)
"""


async def held_lots(conn: AsyncConnection, slug: str, parent_ids: Collection[str] | None = None) -> list[StoredLot]:
    """Return the account's open lots, or those of these ids that are still open; oldest entry first."""
    query = HELD.format(table=_table(slug))
    async with conn.cursor(row_factory=kwargs_row(_stored_lot)) as cur:
        await cur.execute(query, {"slug": slug, "ids": None if parent_ids is None else list(parent_ids)})
        return await cur.fetchall()


async def take_turn(conn: AsyncConnection, slug: str) -> bool:
    """Take the turn of writing the account's open trades to the end of the transaction; False if another has it.

    It is the turn for which the book-keeping waits (`live.store.take_turn`); valuation rather comes again.
    """
    row = await (await conn.execute(TURN, [f"coldharbour:{TABLE}:{slug}"])).fetchone()
    return row is not None and bool(row[0])


async def save_marks(conn: AsyncConnection, slug: str, marks: Sequence[Mark]) -> set[str]:
    """Write the marks in one statement; return the lots that took theirs: the others have changed, or are gone."""
    cursor = await conn.execute(_save(slug), {"slug": slug, "marks": msgspec.json.encode(marks).decode()})
    return {row[0] for row in await cursor.fetchall()}


@cache
def _save(slug: str) -> bytes:
    return SAVE.format(
        table=_table(slug),
        assignments=sql.SQL(", ").join(sql.SQL("{0} = mark.{0}").format(sql.Identifier(name)) for name in MARK_COLUMNS),
        typed=sql.SQL(", ").join(sql.Identifier(name) + sql.SQL(f" {kind}") for name, kind in MARK_COLUMNS.items()),
    ).as_bytes(None)


def _table(slug: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"{TABLE}_{slug}")


def _stored_lot(
    *, side: str, mkt_px: Any, mkt_at: Any, high_px: Any, low_px: Any, extremes_through: Any, **structure: Any
) -> StoredLot:
    lot = HeldLot(side=Side(side), **structure)
    return StoredLot(lot, mkt_px, mkt_at, Extremes(high_px, low_px, extremes_through))
