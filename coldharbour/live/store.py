"""The live tables of an account: open trades, closed trades, their extremes, and what the book could not settle.

Writes change only what differs, so that the same book written twice leaves no trace. Functions take a connection,
and the caller owns the transaction; two writers of one table take turns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from coldharbour.live.extremes import Extremes, Holding, Watch
from coldharbour.live.rows import Row
from coldharbour.live.splits import Split

SCHEMA = "accounts"

OPEN_COLUMNS = {
    "parent_id": "text", "symbol": "text", "side": "text", "qty": "numeric", "entry_qty": "numeric",
    "avg_fill": "numeric", "avg_px_symbol": "numeric", "buy_value": "numeric", "entry_time": "timestamptz",
    "last_fill_time": "timestamptz", "initial_stop": "numeric", "sl_px": "numeric", "stop_order_id": "text",
    "tp_px": "numeric", "take_order_id": "text", "expires_at": "timestamptz", "unprotected_s": "double precision",
    "unprotected_since": "timestamptz",
}  # fmt: skip
CLOSED_COLUMNS = {
    "entry_lot_id": "text", "exit_order_id": "text", "exit_parent_id": "text", "symbol": "text", "side": "text",
    "qty": "numeric", "entry_time": "timestamptz", "entry_price": "numeric", "exit_time": "timestamptz",
    "exit_price": "numeric", "exit_type": "text", "pnl_cash": "numeric", "pnl_cash_fifo": "numeric",
    "diff_pnl": "numeric", "return_pct": "numeric", "duration_sec": "bigint", "initial_stop": "numeric",
    "r_multiple": "numeric", "unprotected_s": "double precision", "splits": "jsonb", "closes_lot": "boolean",
}  # fmt: skip
OPEN_KEY = ("parent_id",)
CLOSED_KEY = ("entry_lot_id", "exit_order_id")

ClosedKey = tuple[str, str]  # entry lot, exit order


@dataclass(frozen=True, slots=True)
class LotVersion:
    """An open trade that is new or changed, and the version that it has now."""

    parent_id: str
    version: int


@dataclass(frozen=True, slots=True)
class ArchivedTrade:
    """A closed trade that is new or changed; closed_lot: with it, the lot went to zero just now."""

    entry_lot_id: str
    exit_order_id: str
    symbol: str
    exit_time: datetime
    closed_lot: bool


class Unmeasured(NamedTuple):
    """A closed trade whose extremes are not known."""

    key: ClosedKey
    holding: Holding


WAS_SPLIT = sql.SQL("(stored.entry_qty <> excluded.entry_qty and stored.last_fill_time = excluded.last_fill_time)")

# Where the shares of a lot changed and no fill came, they were split: its extremes are those of other prices.
SAVE_OPEN = sql.SQL("""
    insert into {table} as stored (destination, {names})
    select %(slug)s, {names} from json_to_recordset(%(rows)s::json) as incoming({typed})
    on conflict (destination, parent_id) do update
        set {assignments}, version = stored.version + 1, structure_at = clock_timestamp(),
            high_px = case when not {was_split} then stored.high_px end,
            low_px = case when not {was_split} then stored.low_px end,
            extremes_through = case when not {was_split} then stored.extremes_through end
    where ({stored}) is distinct from ({excluded})
    returning parent_id, version
""")

# The extremes of a lot outlive it: its closed trades are written by another hand, a moment later.
REMOVE_OPEN = sql.SQL("""
    with gone as (
        delete from {table} where destination = %(slug)s and parent_id = any(%(ids)s)
        returning parent_id, high_px, low_px, extremes_through
    ), kept as (
        insert into {extremes} (destination, parent_id, high_px, low_px, extremes_through)
        select %(slug)s, * from gone where high_px is not null and low_px is not null and extremes_through is not null
        on conflict (destination, parent_id) do update set high_px = excluded.high_px, low_px = excluded.low_px,
            extremes_through = excluded.extremes_through
    )
    select parent_id from gone
""")

# A row whose times or prices were restated has other extremes; they are looked for again.
SAVE_CLOSED = sql.SQL("""
    with incoming as materialized (
        select {names} from json_to_recordset(%(rows)s::json) as incoming({typed})
    ), before as (
        select entry_lot_id, exit_order_id, stored.closes_lot from incoming join {table} as stored
        using (entry_lot_id, exit_order_id) where stored.destination = %(slug)s
    ), written as (
        insert into {table} as stored (destination, {names}) select %(slug)s, {names} from incoming
        on conflict (destination, entry_lot_id, exit_order_id) do update set {assignments},
            high_px = case when {same_trade} then stored.high_px end,
            low_px = case when {same_trade} then stored.low_px end,
            extremes_source = case when {same_trade} then stored.extremes_source end
        where ({stored}) is distinct from ({excluded})
        returning entry_lot_id, exit_order_id, symbol, exit_time, closes_lot
    )
    select entry_lot_id, exit_order_id, symbol, exit_time,
           written.closes_lot and not coalesce(before.closes_lot, false) as closed_lot
    from written left join before using (entry_lot_id, exit_order_id)
""")

REMOVE_CLOSED = sql.SQL("""
    delete from {table} using unnest(%(lots)s::text[], %(exits)s::text[]) as gone(lot, exit)
    where destination = %(slug)s and entry_lot_id = gone.lot and exit_order_id = gone.exit
    returning entry_lot_id, exit_order_id
""")

UNMEASURED = sql.SQL("""
    select closed.entry_lot_id, closed.exit_order_id, closed.symbol, closed.entry_time, closed.entry_price,
           closed.exit_time, closed.exit_price, closed.splits, coalesce(gone.high_px, open.high_px),
           coalesce(gone.low_px, open.low_px), coalesce(gone.extremes_through, open.extremes_through)
    from {closed} as closed
    left join {extremes} as gone on gone.destination = closed.destination and gone.parent_id = closed.entry_lot_id
    left join {open} as open on open.destination = closed.destination and open.parent_id = closed.entry_lot_id
        and open.high_px is not null and open.low_px is not null and open.extremes_through is not null
    where closed.destination = %(slug)s and closed.high_px is null order by closed.exit_time desc limit %(limit)s
""")


def _table(parent: str, slug: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"{parent}_{slug}")


def _names(columns: Iterable[str], row: str = "") -> sql.Composed:
    prefix = sql.SQL(f"{row}.") if row else sql.SQL("")
    return sql.SQL(", ").join(prefix + sql.Identifier(name) for name in columns)


@cache
def _save_open(slug: str) -> bytes:
    return _save(SAVE_OPEN, _table("open_trades", slug), OPEN_COLUMNS, OPEN_KEY)


@cache
def _save_closed(slug: str) -> bytes:
    return _save(SAVE_CLOSED, _table("closed_trades", slug), CLOSED_COLUMNS, CLOSED_KEY)


def _save(template: sql.SQL, table: sql.Identifier, columns: Mapping[str, str], key: Collection[str]) -> bytes:
    rest = [name for name in columns if name not in key]
    same = ("entry_time", "entry_price", "exit_time", "exit_price", "splits")
    return template.format(
        table=table,
        names=_names(columns),
        typed=sql.SQL(", ").join(sql.Identifier(name) + sql.SQL(f" {kind}") for name, kind in columns.items()),
        assignments=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in rest),
        stored=_names(rest, "stored"),
        excluded=_names(rest, "excluded"),
        was_split=WAS_SPLIT,
        same_trade=sql.SQL("({}) = ({})").format(_names(same, "stored"), _names(same, "excluded")),
    ).as_bytes(None)


def _json(rows: Sequence[object]) -> str:
    return msgspec.json.encode(rows).decode()


async def take_turn(conn: AsyncConnection, slug: str, table: str) -> None:
    """Wait until no other transaction writes this live table of the account; holds to the end of this one."""
    await conn.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"coldharbour:{table}:{slug}"])


async def save_open_trades(conn: AsyncConnection, slug: str, rows: Sequence[Row]) -> list[LotVersion]:
    """Write lots; return those that are new or differ from what stood there."""
    async with conn.cursor(row_factory=class_row(LotVersion)) as cur:
        await cur.execute(_save_open(slug), {"slug": slug, "rows": _json(rows)})
        return await cur.fetchall()


async def remove_open_trades(conn: AsyncConnection, slug: str, parent_ids: Iterable[str]) -> list[str]:
    """Remove lots of which nothing is left; return those that stood there. Their extremes are kept."""
    query = REMOVE_OPEN.format(table=_table("open_trades", slug), extremes=_table("lot_extremes", slug))
    cursor = await conn.execute(query, {"slug": slug, "ids": list(parent_ids)})
    return [row[0] for row in await cursor.fetchall()]


async def open_trade_ids(conn: AsyncConnection, slug: str) -> set[str]:
    """Return the keys of all open trades."""
    cursor = await conn.execute(sql.SQL("select parent_id from {}").format(_table("open_trades", slug)))
    return {row[0] for row in await cursor.fetchall()}


async def count_structure(conn: AsyncConnection, slug: str) -> None:
    """Count one more change of the open trades."""
    await conn.execute(
        """
        insert into accounts.live_meta as meta (destination, structure_version) values (%s, 1)
        on conflict (destination) do update set structure_version = meta.structure_version + 1
        """,
        [slug],
    )


async def structure_version(conn: AsyncConnection, slug: str) -> int:
    """Return how often the open trades changed so far."""
    cursor = await conn.execute("select structure_version from accounts.live_meta where destination = %s", [slug])
    row = await cursor.fetchone()
    return row[0] if row else 0


async def save_closed_trades(conn: AsyncConnection, slug: str, rows: Sequence[Row]) -> list[ArchivedTrade]:
    """Write closed trades; return those that are new or differ from what stood there."""
    async with conn.cursor(row_factory=class_row(ArchivedTrade)) as cur:
        await cur.execute(_save_closed(slug), {"slug": slug, "rows": _json(rows)})
        return await cur.fetchall()


async def remove_closed_trades(conn: AsyncConnection, slug: str, keys: Iterable[ClosedKey]) -> list[ClosedKey]:
    """Remove closed trades that no longer follow from the ledger; return those that stood there."""
    lots, exits = zip(*keys, strict=True)
    query = REMOVE_CLOSED.format(table=_table("closed_trades", slug))
    cursor = await conn.execute(query, {"slug": slug, "lots": list(lots), "exits": list(exits)})
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def closed_trade_keys(conn: AsyncConnection, slug: str) -> set[ClosedKey]:
    """Return the keys of all closed trades."""
    query = sql.SQL("select entry_lot_id, exit_order_id from {}").format(_table("closed_trades", slug))
    return {(row[0], row[1]) for row in await (await conn.execute(query)).fetchall()}


async def unmeasured_trades(conn: AsyncConnection, slug: str, limit: int) -> list[Unmeasured]:
    """Return closed trades whose extremes are not known, newest first."""
    query = UNMEASURED.format(
        closed=_table("closed_trades", slug), extremes=_table("lot_extremes", slug), open=_table("open_trades", slug)
    )
    cursor = await conn.execute(query, {"slug": slug, "limit": limit})
    return [_unmeasured(*row) for row in await cursor.fetchall()]


def _unmeasured(lot: str, exit_id: str, *row: Any) -> Unmeasured:
    symbol, entry_time, entry_price, exit_time, exit_price, told, high, low, through = row
    watch = None if high is None else Watch(high, low, through)
    splits = msgspec.convert(told, tuple[Split, ...])
    return Unmeasured((lot, exit_id), Holding(symbol, entry_time, entry_price, exit_time, exit_price, watch, splits))


async def save_extremes(conn: AsyncConnection, slug: str, trade: Unmeasured, found: Extremes) -> None:
    """Note the extremes of a closed trade, unless it was restated meanwhile."""
    query = sql.SQL("""
        update {table} set high_px = %s, low_px = %s, extremes_source = %s
        where destination = %s and (entry_lot_id, exit_order_id) = (%s, %s)
          and (entry_time, entry_price, exit_time, exit_price, splits) = (%s, %s, %s, %s, %s::jsonb)
    """).format(table=_table("closed_trades", slug))
    held = trade.holding
    measured = [held.entry_time, held.entry_price, held.exit_time, held.exit_price, _json(held.splits)]
    await conn.execute(query, [found.high, found.low, found.source, slug, *trade.key, *measured])


async def known_since(conn: AsyncConnection, slug: str) -> datetime | None:
    """Return since when this installation knows the account; what was closed before is history, not news."""
    cursor = await conn.execute("select first_seen_at from accounts.destinations where slug = %s", [slug])
    row = await cursor.fetchone()
    return row[0] if row else None
