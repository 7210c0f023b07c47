"""The table of intents of one account, `accounts.stop_intents`, and what the lake tells of the order stream.

A state is only ever replaced by one that may follow it. Functions take a connection, and the caller owns the
transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row, dict_row

from coldharbour.live.model import Side
from coldharbour.risk.holds import Attempt
from coldharbour.risk.model import StopMove
from coldharbour.risk.moves import FINAL, Intent, MoveState

INTENT = sql.SQL("""
    select lot_id, symbol, side, order_id, old_stop, new_stop, old_limit, new_limit, epoch, attempt, state, reason,
           new_order_id
    from {table} where destination = %(slug)s
""")


@dataclass(frozen=True, slots=True)
class RecordedIntent:
    """An intent as it stands on record, and the symbol that it is about."""

    intent: Intent
    symbol: str


def _table(slug: str) -> sql.Identifier:
    return sql.Identifier("accounts", f"stop_intents_{slug}")


async def insert(conn: AsyncConnection, intent: Intent, symbol: str, at: datetime) -> None:
    """Put a planned intent on record. The table refuses a second one whose outcome is not known."""
    move = intent.move
    await conn.execute(
        """
        insert into accounts.stop_intents (destination, client_order_id, lot_id, symbol, side, order_id, old_stop,
            new_stop, old_limit, new_limit, epoch, attempt, state, planned_at)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [intent.destination, intent.client_order_id, intent.lot_id, symbol, move.side, move.order_id, move.old_stop,
         move.stop_price, move.old_limit, move.limit_price, intent.epoch, intent.attempt, intent.state, at],
    )  # fmt: skip


async def keep_answer(conn: AsyncConnection, intent: Intent, answer: str, at: datetime) -> bool:
    """Note how a request ended; False if it is not awaited any more. answer: what the broker said, or what came."""
    cursor = await conn.execute(
        """
        update accounts.stop_intents set state = %s, reason = %s, new_order_id = %s, answer = %s, answered_at = %s,
            answer_state = case when %s then null else %s end, settled_at = case when %s then %s end
        where destination = %s and client_order_id = %s and state = 'PLANNED'
        """,
        [intent.state, intent.reason, intent.new_order_id, answer, at, intent.state is MoveState.NOT_MOVED,
         intent.state, intent.is_final, at, intent.destination, intent.client_order_id],
    )  # fmt: skip
    return cursor.rowcount == 1


async def keep_outcome(conn: AsyncConnection, intent: Intent, at: datetime) -> bool:
    """Note what was proved of an intent, or that its outcome is unknown after its process went.

    False if it is final already.
    """
    cursor = await conn.execute(
        """
        update accounts.stop_intents set state = %s, reason = %s, new_order_id = %s,
            answer_state = coalesce(answer_state, 'UNKNOWN'), answered_at = coalesce(answered_at, %s),
            settled_at = case when %s then %s end
        where destination = %s and client_order_id = %s and state <> all(%s)
        """,
        [intent.state, intent.reason, intent.new_order_id, at, intent.is_final, at, intent.destination,
         intent.client_order_id, list(FINAL)],
    )  # fmt: skip
    return cursor.rowcount == 1


async def unsettled(conn: AsyncConnection, slug: str) -> list[RecordedIntent]:
    """Return the intents whose outcome is not known, oldest first."""
    query = INTENT.format(table=_table(slug)) + sql.SQL(" and state <> all(%(final)s) order by planned_at")
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(query, {"slug": slug, "final": list(FINAL)})
        return [RecordedIntent(_intent(slug, row), row["symbol"]) for row in await cur.fetchall()]


async def earlier(conn: AsyncConnection, slug: str, lot_id: str, order_id: str) -> list[Intent]:
    """Return all intents of a lot, and all for an order."""
    query = INTENT.format(table=_table(slug)) + sql.SQL(" and (lot_id = %(lot_id)s or order_id = %(order_id)s)")
    async with conn.cursor(row_factory=dict_row) as cur:
        await cur.execute(query, {"slug": slug, "lot_id": lot_id, "order_id": order_id})
        return [_intent(slug, row) for row in await cur.fetchall()]


async def attempts(conn: AsyncConnection, slug: str, since: datetime) -> list[Attempt]:
    """Return what was asked of the broker since a moment and how that went, newest first."""
    query = sql.SQL("""
        select symbol, answered_at as at, answer_state, state from {table}
        where destination = %s and planned_at >= %s and answer_state is not null order by planned_at desc
    """).format(table=_table(slug))
    async with conn.cursor(row_factory=class_row(Attempt)) as cur:
        await cur.execute(query, [slug, since])
        return await cur.fetchall()


async def stream_heard(conn: AsyncConnection, slug: str, since: datetime, alive_after: datetime) -> bool:
    """Say whether the order stream was alive from a moment to now.

    alive_after: when it must have been known to deliver, at least.
    """
    query = sql.SQL("""
        select exists (select from {meta} where destination = %(slug)s and stream_alive_at >= %(alive_after)s)
            and not exists (select from {gaps} where destination = %(slug)s
                            and (healed_at is null or blind_to is null or blind_to > %(since)s))
    """).format(
        meta=sql.Identifier("account_activities", f"raw_history_meta_{slug}"),
        gaps=sql.Identifier("account_activities", f"gaps_{slug}"),
    )
    row = await (await conn.execute(query, {"slug": slug, "since": since, "alive_after": alive_after})).fetchone()
    return row is not None and bool(row[0])


def _intent(slug: str, row: dict[str, Any]) -> Intent:
    move = StopMove(
        order_id=row["order_id"], side=Side(row["side"]), old_stop=row["old_stop"], stop_price=row["new_stop"],
        old_limit=row["old_limit"], limit_price=row["new_limit"],
    )  # fmt: skip
    return Intent(
        destination=slug, lot_id=row["lot_id"], move=move, epoch=row["epoch"], attempt=row["attempt"],
        state=MoveState(row["state"]), reason=row["reason"], new_order_id=row["new_order_id"],
    )  # fmt: skip
