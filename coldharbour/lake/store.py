"""The lake's rows: orders, activities, frames, and messages put aside, written so that any order ends the same.

Never decides what is newer (`changes.py` does) or what to fetch. Functions take a connection, and the caller owns
the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from psycopg import AsyncConnection, AsyncCursor, sql

from coldharbour.lake.changes import Changes, Held, compare, settle
from coldharbour.lake.completeness.store import STREAM_ALIVE
from coldharbour.lake.families import Member
from coldharbour.lake.model import ActivityRow, Harvest, HeldActivity, HeldOrder, OrderRow

SCHEMA = "account_activities"

ORDER_COLUMNS = {
    "id": "uuid", "client_order_id": "text", "status": "text", "symbol": "text", "side": "text",
    "order_type": "text", "order_class": "text", "time_in_force": "text", "position_intent": "text",
    "qty": "numeric", "notional": "numeric", "filled_qty": "numeric", "filled_avg_price": "numeric",
    "limit_price": "numeric", "stop_price": "numeric", "trail_price": "numeric", "trail_percent": "numeric",
    "replaces": "uuid", "replaced_by": "uuid", "created_at": "timestamptz", "updated_at": "timestamptz",
    "submitted_at": "timestamptz", "filled_at": "timestamptz", "expired_at": "timestamptz",
    "expires_at": "timestamptz", "canceled_at": "timestamptz", "failed_at": "timestamptz",
    "replaced_at": "timestamptz", "legs_updated_at": "timestamptz", "source": "text", "parent_id": "uuid",
    "legs": "uuid[]",
}  # fmt: skip
ACTIVITY_COLUMNS = {
    "id": "text", "execution_id": "text", "activity_type": "text", "transaction_time": "timestamptz",
    "activity_date": "date", "symbol": "text", "side": "text", "qty": "numeric", "price": "numeric",
    "net_amount": "numeric", "order_id": "uuid", "status": "text", "source": "text",
}  # fmt: skip
FACTS = [name for name in ACTIVITY_COLUMNS if name != "source"]  # what an activity says, whoever tells it


Telling = tuple[str, str, str]  # event, order id, execution id


@dataclass(frozen=True, slots=True)
class Frame:
    """One stream frame as it came off the socket, with what could be read of it."""

    received_at: datetime
    connection: str
    event: str | None
    order_id: str | None
    execution_id: str | None
    raw: bytes

    @property
    def telling(self) -> Telling | None:
        """What this frame tells of; another one of the same must have the same content."""
        if self.event is None or self.order_id is None or self.execution_id is None:
            return None
        return self.event, self.order_id, self.execution_id


def _table(parent: str, slug: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"{parent}_{slug}")


def _names(columns: Iterable[str], prefix: str = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(prefix) + sql.Identifier(name) for name in columns)


def _incoming(columns: dict[str, str]) -> sql.Composed:
    """The rows that a statement is given: their columns as JSON, and the raw payloads beside them as they are."""
    typed = sql.SQL(", ").join(sql.Identifier(name) + sql.SQL(f" {kind}") for name, kind in columns.items())
    return sql.SQL("""
        select {names}, convert_from(raw, 'UTF8')::json as raw_json
        from rows from (json_to_recordset(%(rows)s::json) as ({typed}), unnest(%(raws)b::bytea[]))
        as incoming({names}, raw)""").format(names=_names(columns), typed=typed)


def _assignments(columns: Iterable[str], key: str) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns if name != key
    )


# One writer per account at a time. Two that do not see each other's rows yet could neither tie a replacement to
# its parent nor compare with what is held. What follows in the transaction is planned once, not for each batch.
TAKE_TURN = """
    select pg_advisory_xact_lock(hashtextextended('coldharbour:lake:' || %s, 0)),
           set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)
"""

# In all that follows, `offset 0` keeps a join a lookup by key. The planner cannot know how few rows come in or how
# small families are, and on a table that grew since it was analysed it would rather read the whole of it.

HELD_ORDERS = sql.SQL("""
    select asked.id::text, is_awaited, stored.* from unnest(%(ids)s::uuid[]) as asked(id)
    left join lateral (
        select id::text, status, updated_at, filled_qty, source, legs_updated_at, replaces::text, replaced_by::text,
               parent_id::text, legs::text[], raw_json::text
        from {orders} where destination = %(slug)s and id = asked.id offset 0
    ) as stored on true
    cross join lateral (
        select case when stored.id is null then coalesce(
            (select true from {orders} where destination = %(slug)s and replaces = asked.id limit 1),
            (select true from {orders} where destination = %(slug)s and replaced_by = asked.id limit 1)) end offset 0
    ) as waiting(is_awaited)
    where stored.id is not null or is_awaited
""")

HELD_ACTIVITIES = sql.SQL("""
    select key, stored.* from unnest(%(executions)s::text[]) as asked(key) cross join lateral (
        select id, status, source, raw_json::text from {activities}
        where destination = %(slug)s and execution_id = key offset 0
    ) as stored
    union all
    select key, stored.* from unnest(%(ids)s::text[]) as asked(key) cross join lateral (
        select id, status, source, raw_json::text from {activities}
        where destination = %(slug)s and id = key offset 0
    ) as stored
""")

# Whether a row is worth writing was decided in `lake.changes`, in this writer's turn.
UPSERT = sql.SQL("""
    insert into {table} as stored (destination, {names}) select %(slug)s, {names} from ({incoming}) as incoming
    on conflict (destination, {key}) do update set {assignments}, revision = {revision}
""")

# Quicker than the upsert where there are many rows; no other writer can add one of them during our turn.
COPY = sql.SQL("copy {table} (destination, {names}) from stdin")

# A fill that REST tells as the stream did is no news to those who follow revisions.
REVISION_OF_NEWS = sql.SQL(
    "case when ({told}) is distinct from ({told_again}) then pg_current_xact_id() else stored.revision end"
)

# Everyone who is connected with the touched orders: along chains of replacement in both directions, to parents and
# to legs.
FAMILIES = sql.SQL("""
    with recursive family as (
        select id from unnest(%(touched)s::uuid[]) as touched(id)
        union
        select beside.id from family cross join lateral (
            select unnest(array[replaces, replaced_by, parent_id]) as id from {orders}
            where destination = %(slug)s and id = family.id
            union all
            select id from {orders} where destination = %(slug)s and replaces = family.id
            union all
            select id from {orders} where destination = %(slug)s and replaced_by = family.id
            union all
            select id from {orders} where destination = %(slug)s and parent_id = family.id
            offset 0
        ) as beside
        where beside.id is not null
    )
    select family.id::text, member.* from family left join lateral (
        select id::text, replaces::text, replaced_by::text, parent_id::text, legs::text[] from {orders}
        where destination = %(slug)s and id = family.id offset 0
    ) as member on true
""")

PLACE = sql.SQL("""
    update {orders} as stored set parent_id = place.parent_id, legs = place.legs, revision = default
    from json_to_recordset(%(places)s::json) as place(id uuid, parent_id uuid, legs uuid[]) cross join lateral (
        select ctid from {orders} where destination = %(slug)s and id = place.id offset 0
    ) as found
    where stored.ctid = found.ctid
""")

APPEND_FRAMES = sql.SQL("""
    with alive as ({alive})
    insert into {events} (destination, received_at, connection, event, order_id, execution_id, frame)
    select %s, * from unnest(%s::timestamptz[], %s::uuid[], %s::text[], %s::uuid[], %s::text[], %b::bytea[])
""")

FRAMES_TOLD_BEFORE = sql.SQL("""
    select told.* from unnest(%s::text[]) as wanted(execution_id) cross join lateral (
        select id, event, order_id::text, execution_id, frame from {events}
        where destination = %s and execution_id = wanted.execution_id and event is not null and order_id is not null
        offset 0
    ) as told
""")


class Statements:
    """The statements of one account's write path, composed once: composing takes as long as a small write."""

    def __init__(self, slug: str) -> None:
        orders, activities, events = (_table(f"raw_{what}", slug) for what in ("orders", "activities", "events"))
        self.held_orders = _compose(HELD_ORDERS, orders=orders)
        self.held_activities = _compose(HELD_ACTIVITIES, activities=activities)
        self.upsert_orders = _upsert(orders, ORDER_COLUMNS, "id")
        self.upsert_fills = _upsert(
            activities,
            ACTIVITY_COLUMNS,
            "execution_id",
            REVISION_OF_NEWS.format(told=_names(FACTS, "stored."), told_again=_names(FACTS, "excluded.")),
        )
        self.upsert_others = _upsert(activities, ACTIVITY_COLUMNS, "id")
        self.copy_orders = _compose(COPY, table=orders, names=_names(OrderRow.__struct_fields__))
        self.copy_activities = _compose(COPY, table=activities, names=_names(ActivityRow.__struct_fields__))
        self.families = _compose(FAMILIES, orders=orders)
        self.place = _compose(PLACE, orders=orders)
        self.append_frames = _compose(APPEND_FRAMES, events=events, alive=sql.SQL(STREAM_ALIVE))
        self.frames_told_before = _compose(FRAMES_TOLD_BEFORE, events=events)


def _upsert(table: sql.Identifier, columns: dict[str, str], key: str, revision: sql.Composable = sql.DEFAULT) -> bytes:
    written = [*columns, "raw_json"]
    return _compose(
        UPSERT,
        table=table,
        names=_names(written),
        incoming=_incoming(columns),
        key=sql.Identifier(key),
        assignments=_assignments(written, key),
        revision=revision,
    )


def _compose(template: sql.SQL, **parts: sql.Composable) -> bytes:
    return template.format(**parts).as_bytes(None)


_statements = cache(Statements)


async def take_turn(conn: AsyncConnection, slug: str) -> None:
    """Wait until nobody else writes this account's lake; from here on to the end of the transaction it is ours."""
    await conn.execute(TAKE_TURN, [slug])


async def look_up(conn: AsyncConnection, slug: str, harvest: Harvest) -> Held:
    """Return what the lake holds of a harvest already."""
    executions = [row.execution_id for row in harvest.activities if row.execution_id is not None]
    ids = [row.id for row in harvest.activities if row.execution_id is None]
    statements, orders, activities = _statements(slug), None, None
    if harvest.orders:
        ids_of_orders = _uuids(row.id for row in harvest.orders)
        orders = await conn.execute(statements.held_orders, {"slug": slug, "ids": ids_of_orders})
    if harvest.activities:
        asked = {"slug": slug, "executions": executions, "ids": ids}
        activities = await conn.execute(statements.held_activities, asked)
    found = await orders.fetchall() if orders else []
    known = await activities.fetchall() if activities else []
    return Held(
        orders={order_id: _held_order(*row) for order_id, is_awaited, *row in found if not is_awaited},
        activities={key: _held_activity(*row) for key, *row in known},
        awaited=frozenset(order_id for order_id, is_awaited, *_ in found if is_awaited),
    )


def _uuids(ids: Iterable[str]) -> str:
    """Return a `uuid[]` as PostgreSQL reads it, without a look at each of them: rows hold none but known ids."""
    return f"{{{','.join(ids)}}}"


def _held_order(*row: Any) -> HeldOrder:
    *plain, legs, raw = row
    return HeldOrder(*[*plain, tuple(legs), raw.encode()])


def _held_activity(*row: Any) -> HeldActivity:
    *plain, raw = row
    return HeldActivity(*[*plain, raw.encode()])


async def record(conn: AsyncConnection, slug: str, harvest: Harvest, held: Held, *, copying: bool = False) -> Changes:
    """Write a combined harvest; what is already there, or older than what is there, changes nothing.

    held: what `look_up` found in this turn. copying: for many rows; no pipeline can do that.
    """
    changes = compare(harvest, held)
    if changes.unsettled:
        family = await _families(conn, slug, changes.unsettled - changes.strangers)
        changes = settle(changes, family | dict.fromkeys(changes.unsettled & changes.strangers), harvest.links)
    statements, orders, activities = _statements(slug), changes.orders, changes.activities
    if copying:
        new_orders = [row for row in orders if row.id not in held.orders]
        new_activities = [row for row in activities if row.key not in held.activities]
        await _copy(conn, statements.copy_orders, slug, new_orders)
        await _copy(conn, statements.copy_activities, slug, new_activities)
        orders = [row for row in orders if row.id in held.orders]
        activities = [row for row in activities if row.key in held.activities]
    await _write(conn, statements.upsert_orders, slug, orders)
    await _write(conn, statements.upsert_fills, slug, [row for row in activities if row.execution_id is not None])
    await _write(conn, statements.upsert_others, slug, [row for row in activities if row.execution_id is None])
    if changes.moved:
        places = [{"id": m.id, "parent_id": m.parent_id, "legs": m.legs} for m in changes.moved]
        await conn.execute(statements.place, {"slug": slug, "places": msgspec.json.encode(places).decode()})
    return changes


async def _families(conn: AsyncConnection, slug: str, touched: Collection[str]) -> dict[str, Member | None]:
    """Return everyone who is connected with the touched orders; None for those that are not in the lake."""
    if not touched:
        return {}
    found = await conn.execute(_statements(slug).families, {"slug": slug, "touched": _uuids(touched)})
    return {asked: _member(*row) if row[0] else None for asked, *row in await found.fetchall()}


def _member(*row: Any) -> Member:
    *plain, legs = row
    return Member(*[*plain, tuple(legs)])


async def _write(
    conn: AsyncConnection, statement: bytes, slug: str, rows: Sequence[OrderRow] | Sequence[ActivityRow]
) -> None:
    if rows:
        columns = [msgspec.structs.replace(row, raw_json=b"") for row in rows]  # empty, it is left out
        raws = [row.raw_json for row in rows]
        text = msgspec.json.encode(columns).decode()
        await conn.execute(statement, {"slug": slug, "rows": text, "raws": raws})


async def _copy(
    conn: AsyncConnection, statement: bytes, slug: str, rows: Sequence[OrderRow] | Sequence[ActivityRow]
) -> None:
    if rows:
        async with conn.cursor() as cursor, cursor.copy(statement) as copying:
            for row in rows:
                *plain, raw = msgspec.to_builtins(msgspec.structs.astuple(row), builtin_types=(bytes,))
                if isinstance(row, OrderRow):
                    plain[-1] = _uuids(row.legs)
                await copying.write_row([slug, *plain, raw.decode()])


async def append_frames(conn: AsyncConnection, slug: str, frames: Sequence[Frame]) -> None:
    """Append stream frames as received; this table is never updated. The last of them says until when it lived."""
    columns = zip(
        *((f.received_at, f.connection, f.event, f.order_id, f.execution_id, f.raw) for f in frames),
        strict=True,
    )
    await conn.execute(_statements(slug).append_frames, [slug, frames[-1].received_at, slug, *map(list, columns)])


async def ask_what_was_told(conn: AsyncConnection, slug: str, frames: Sequence[Frame]) -> AsyncCursor:
    """Ask which events of these were told by frames before; `told` reads the answer."""
    execution_ids = {frame.execution_id for frame in frames if frame.telling}
    return await conn.execute(_statements(slug).frames_told_before, [list(execution_ids), slug])


async def told(answer: AsyncCursor) -> dict[Telling, bytes]:
    """Return the first frame that told each event."""
    latest_first = sorted(await answer.fetchall(), reverse=True)
    return {(event, order_id, execution_id): raw for _, event, order_id, execution_id, raw in latest_first}


async def quarantine(
    conn: AsyncConnection, slug: str, messages: Sequence[tuple[datetime, str, bytes]], source: str
) -> list[tuple[str, int]]:
    """Keep messages that could not be read, as (received_at, reason, raw); return (reason, bytes) of the new ones."""
    cursor = await conn.execute(
        """
        insert into account_activities.quarantine (destination, received_at, source, reason, raw)
        select %s, received_at, %s, reason, raw
        from unnest(%s::timestamptz[], %s::text[], %s::bytea[]) as message(received_at, reason, raw)
        on conflict do nothing
        returning reason, length(raw)
        """,
        [slug, source, *map(list, zip(*messages, strict=True))],
    )
    return await cursor.fetchall()
