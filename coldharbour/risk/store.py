"""The audit of an account's stops, `accounts.log_breakeven`: writes evaluations and reads them back.

Evaluations that find the same extend one row. Functions take a connection, and the caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from coldharbour.live.store import take_turn
from coldharbour.risk.audit import AuditEntry, AuditRow, NewestDecision
from coldharbour.risk.model import Flag, Reason

SCHEMA = "accounts"
MOST_IN_A_ROW = 60  # evaluations; above it the arrays of a row would leave its page
NO_REPEAT = timedelta(0)  # `within` of actions, which never share a row

COLUMNS = {
    "at": "timestamptz", "parent_id": "text", "symbol": "text", "side": "text", "moved_flag": "text", "reason": "text",
    "detail": "text", "old_stop": "numeric", "new_stop": "numeric", "mkt_px": "numeric", "be_tp": "numeric",
    "extreme_px": "numeric", "filled_at": "timestamptz", "qty": "numeric", "entry_px": "numeric",
    "stop_order_id": "text", "new_order_id": "text", "client_order_id": "text", "error": "text",
    "is_action": "boolean",
}  # fmt: skip
CHANGES_ALONG = ("at", "parent_id", "symbol", "side", "detail", "mkt_px", "extreme_px", "is_action")
SAME = [name for name in COLUMNS if name not in CHANGES_ALONG]
STORED = [name for name in COLUMNS if name != "at"]
ENDS = ("moved_flag", "reason", "detail", "new_order_id", "error")  # what becomes of an intent changes of its row

RECORD = sql.SQL("""
    with incoming as materialized (
        select {names} from json_to_recordset(%(entries)s::json) as entry({typed})
    ), newest as materialized (
        select found.* from incoming cross join lateral (
            select * from {table} as stored
            where stored.destination = %(slug)s and stored.parent_id = incoming.parent_id order by id desc limit 1
        ) as found
    ), extended as (
        update {table} as stored set last_at = incoming.at, detail = incoming.detail, mkt_px = incoming.mkt_px,
            extreme_px = incoming.extreme_px, evaluated_at = array_append(stored.evaluated_at, incoming.at),
            prices = array_append(stored.prices, incoming.mkt_px)
        from incoming join newest using (parent_id)
        where stored.destination = %(slug)s and stored.id = newest.id and not (newest.is_action or incoming.is_action)
            and cardinality(newest.evaluated_at) < %(most)s
            and newest.last_at between incoming.at - %(within)s and incoming.at
            and ({same_stored}) is not distinct from ({same_incoming})
        returning stored.parent_id
    )
    insert into {table} (destination, "timestamp", last_at, evaluated_at, prices, {stored})
    select %(slug)s, at, at, array[at], array[mkt_px], {stored} from incoming
    where parent_id not in (select parent_id from extended)
""")
END = sql.SQL("""
    insert into {table} (destination, "timestamp", last_at, evaluated_at, prices, {kept}, moved_flag, reason, detail,
        new_order_id, error)
    select destination, %(at)s, %(at)s, array[%(at)s::timestamptz], prices, {kept}, %(moved_flag)s, %(reason)s,
        %(detail)s, %(new_order_id)s, %(error)s
    from {table} where destination = %(slug)s and client_order_id = %(intent)s and reason = 'planned'
""")
NEWEST = sql.SQL("""
    select newest.* from {lots} as lot cross join lateral (
        select parent_id, reason, moved_flag, detail, new_stop, be_tp, last_at as at from {table}
        where destination = %(slug)s and parent_id = lot.parent_id order by id desc limit 1
    ) as newest
    where lot.destination = %(slug)s
""")
PAGE = sql.SQL("""
    select id, "timestamp" as first_at, last_at, cardinality(evaluated_at) as evaluations, {stored} from {table}
    where destination = %(slug)s and (%(before)s::bigint is null or id < %(before)s)
        and (%(parent_id)s::text is null or parent_id = %(parent_id)s)
    order by id desc limit %(limit)s
""")
# The page wants to know of each lot whether its stop was moved by us: what finds it there later says less.
FLAG = sql.SQL("""
    update {lots} as lot set moved_flag = told.flag
    from unnest(%(ids)s::text[], %(flags)s::text[]) as told(parent_id, flag)
    where lot.destination = %(slug)s and lot.parent_id = told.parent_id and lot.moved_flag <> told.flag
        and (lot.moved_flag, told.flag) <> ('OK', 'Already')
    returning lot.parent_id, lot.version
""")


class FlaggedLot(NamedTuple):
    """An open trade whose flag changed, and its version."""

    parent_id: str
    version: int


class Evaluation(NamedTuple):
    """One evaluation as it was made: when, at which market price, and the row that tells what it came to."""

    at: datetime
    mkt_px: Decimal | None
    row: AuditRow


def _table(slug: str, parent: str = "log_breakeven") -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"{parent}_{slug}")


def _names(columns: Iterable[str], row: str = "") -> sql.Composed:
    prefix = sql.SQL(f"{row}.") if row else sql.SQL("")
    return sql.SQL(", ").join(prefix + sql.Identifier(name) for name in columns)


@cache
def _record(slug: str) -> bytes:
    return RECORD.format(
        table=_table(slug),
        names=_names(COLUMNS),
        typed=sql.SQL(", ").join(sql.Identifier(name) + sql.SQL(f" {kind}") for name, kind in COLUMNS.items()),
        stored=_names(STORED),
        same_stored=_names(SAME, "newest"),
        same_incoming=_names(SAME, "incoming"),
    ).as_bytes(None)


async def record(conn: AsyncConnection, slug: str, entries: Sequence[AuditEntry], *, within: timedelta) -> None:
    """Write evaluations, one of each lot at most.

    within: how long after a row's last evaluation another one that found the same still extends it; after a longer
    pause nobody looked, and the row must not say so.
    """
    rows = [{field.name: getattr(entry, field.name) for field in fields(entry)} for entry in entries]
    await conn.execute(
        _record(slug),
        {"slug": slug, "entries": msgspec.json.encode(rows).decode(), "most": MOST_IN_A_ROW, "within": within},
    )


async def record_end(
    conn: AsyncConnection,
    slug: str,
    client_order_id: str,
    *,
    at: datetime,
    flag: Flag,
    reason: Reason,
    detail: str,
    new_order_id: str | None,
    error: str | None,
) -> None:
    """Write what became of an intent: the row of its plan again, with its end."""
    query = END.format(table=_table(slug), kept=_names(name for name in STORED if name not in ENDS))
    parameters = {"slug": slug, "intent": client_order_id, "at": at, "moved_flag": flag, "reason": reason,
                  "detail": detail, "new_order_id": new_order_id, "error": error}  # fmt: skip
    await conn.execute(query, parameters)


async def newest_decisions(conn: AsyncConnection, slug: str) -> dict[str, NewestDecision]:
    """Return the newest evaluation of every open lot that was ever evaluated, by parent_id."""
    query = NEWEST.format(table=_table(slug), lots=_table(slug, "open_trades"))
    async with conn.cursor(row_factory=class_row(NewestDecision)) as cur:
        await cur.execute(query, {"slug": slug})
        return {found.parent_id: found for found in await cur.fetchall()}


async def audit_page(
    conn: AsyncConnection, slug: str, before: int | None, limit: int, parent_id: str | None = None
) -> list[AuditRow]:
    """Return rows of the audit, newest first. before: only those with a smaller id. parent_id: only of this lot."""
    query = PAGE.format(table=_table(slug), stored=_names(STORED))
    async with conn.cursor(row_factory=class_row(AuditRow)) as cur:
        await cur.execute(query, {"slug": slug, "before": before, "limit": limit, "parent_id": parent_id})
        return await cur.fetchall()


async def evaluation_at(conn: AsyncConnection, slug: str, parent_id: str, at: datetime) -> Evaluation | None:
    """Return the last evaluation of a lot that was made up to a moment, None if there was none."""
    query = sql.SQL("""
        select id, made.at, made.price from {table} as stored
        cross join lateral unnest(stored.evaluated_at, stored.prices) as made(at, price)
        where stored.destination = %(slug)s and stored.parent_id = %(parent_id)s and stored."timestamp" <= %(at)s
            and made.at <= %(at)s
        order by made.at desc, id desc limit 1
    """).format(table=_table(slug))
    found = await (await conn.execute(query, {"slug": slug, "parent_id": parent_id, "at": at})).fetchone()
    if found is None:
        return None
    [row] = await audit_page(conn, slug, found[0] + 1, 1, parent_id)
    return Evaluation(found[1], found[2], row)


async def prune_routine(conn: AsyncConnection, slug: str, before: datetime) -> int:
    """Remove evaluations made before a moment that led to nothing; return how many rows. Actions stay for ever."""
    query = sql.SQL("delete from {table} where destination = %s and last_at < %s and not is_action")
    return (await conn.execute(query.format(table=_table(slug)), [slug, before])).rowcount


async def flag_lots(conn: AsyncConnection, slug: str, flags: Mapping[str, str]) -> list[FlaggedLot]:
    """Show on the open trades what their evaluations came to; return those that changed.

    Waits for its turn, since others write rows of this table together.
    """
    if not flags:
        return []
    await take_turn(conn, slug, "open_trades")
    query = FLAG.format(lots=_table(slug, "open_trades"))
    cursor = await conn.execute(query, {"slug": slug, "ids": list(flags), "flags": list(flags.values())})
    return [FlaggedLot(*row) for row in await cursor.fetchall()]
