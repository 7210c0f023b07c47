"""The lake's tables: idempotent writes that end the same in any order, and the reads that ingest needs.

Owns all SQL of `account_activities`; never decides what to fetch. Functions take a connection, and the
caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.rows import class_row

from coldharbour.lake.families import Member, misplaced
from coldharbour.lake.model import FINISHED, Harvest, Row

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
TIES = frozenset({"parent_id", "legs"})  # of an order: never overwritten by what one message says
ACTIVITY_COLUMNS = {
    "id": "text", "execution_id": "text", "activity_type": "text", "transaction_time": "timestamptz",
    "activity_date": "date", "symbol": "text", "side": "text", "qty": "numeric", "price": "numeric",
    "net_amount": "numeric", "order_id": "uuid", "status": "text", "source": "text",
}  # fmt: skip
FACTS = [name for name in ACTIVITY_COLUMNS if name != "source"]  # what an activity says, whoever tells it


Telling = tuple[str, str, str]  # event, order id, execution id


@dataclass(frozen=True, slots=True)
class NewFill:
    """A fill that entered the lake for the first time."""

    execution_id: str
    order_id: UUID
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    transaction_time: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a write changed.

    order_ids, activity_ids: rows that are new, newer, or completed by REST. order_news: (status, updated_at)
    of the orders that moved on, not merely came again from another source. new_fills: seen for the first time.
    conflicts: activities that came again with other content, kept in quarantine.
    """

    order_ids: tuple[UUID, ...] = ()
    order_news: tuple[tuple[str, datetime], ...] = ()
    activity_ids: tuple[str, ...] = ()
    new_fills: tuple[NewFill, ...] = ()
    conflicts: int = 0

    def __bool__(self) -> bool:
        return bool(self.order_ids or self.activity_ids)

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(
            self.order_ids + other.order_ids,
            self.order_news + other.order_news,
            self.activity_ids + other.activity_ids,
            self.new_fills + other.new_fills,
            self.conflicts + other.conflicts,
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One stream frame as it came off the socket, with what could be read of it."""

    received_at: datetime
    connection: UUID
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


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An order that may still change; `root` is the order to ask for, since it brings this one with it."""

    id: UUID
    root: UUID
    status: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far completed pages reach without a hole.

    position: through here everything is in the lake. token: where an unfinished walk stands.
    complete_through: the moment up to which the last finished walk looked.
    """

    position: datetime
    token: str | None = None
    complete_through: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """One blind time of the order stream."""

    id: int
    blind_from: datetime
    blind_to: datetime | None
    reason: str
    healed_at: datetime | None
    orders_recovered: int
    fills_recovered: int


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


def _assignments(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns if name not in {"id", *TIES}
    )


def _version(row: str) -> sql.Composed:
    """The SQL twin of `lake.model.version`."""
    return sql.SQL(
        "({r}.status = any({finished}), {r}.updated_at, {r}.filled_qty, {r}.source = 'rest',"
        " coalesce({r}.legs_updated_at, '-infinity'), {r}.raw_json::text collate \"C\")"
    ).format(r=sql.SQL(row), finished=sql.Literal(sorted(FINISHED)))


# One writer per account at a time. Two that do not see each other's rows yet could neither tie a replacement to
# its parent nor avoid waiting for each other's rows.
TAKE_TURN = "select pg_advisory_xact_lock(hashtextextended('coldharbour:lake:' || %s, 0))"

# In all that follows, `offset 0` keeps a join a lookup by key. The planner cannot know how few rows come in or how
# small families are, and on a table that grew since it was analysed it would rather read the whole of it.

UPSERT_ORDERS = sql.SQL("""
    with incoming as materialized ({incoming}), before as (
        select stored.id, stored.updated_at from incoming cross join lateral (
            select id, updated_at from {table} where destination = %(slug)s and id = incoming.id offset 0
        ) as stored
    ), written as (
        insert into {table} as stored (destination, {names})
        select %(slug)s, {incoming_names} from incoming
        on conflict (destination, id) do update set {assignments}, revision = default
        where {excluded_version} > {stored_version}
        returning id, status, updated_at
    )
    select written.id, written.status, written.updated_at,
           before.id is null or before.updated_at < written.updated_at as is_news
    from written left join before using (id)
""")

# The rows as they stood before this statement are what conflicts are judged against: first come, first kept.
# A fill that REST tells as the stream did is no news to those who follow revisions.
UPSERT_ACTIVITIES = sql.SQL("""
    with incoming as materialized ({incoming}), conflicting as (
        insert into {quarantine} (destination, received_at, source, reason, raw)
        select %(slug)s, %(now)s, 'rest', 'activity ' || incoming.id || ' came again with other content',
               convert_to(incoming.raw_json::text, 'UTF8')
        from incoming cross join lateral (
            select * from {table} where destination = %(slug)s and id = incoming.id offset 0
        ) as stored
        where stored.source = 'rest' and incoming.source = 'rest'
          and stored.status is not distinct from incoming.status
          and stored.raw_json::jsonb <> incoming.raw_json::jsonb
        on conflict do nothing
        returning 1
    ), fills as (
        insert into {table} as stored (destination, {names})
        select %(slug)s, {incoming_names} from incoming where execution_id is not null
        on conflict (destination, execution_id) do update set {assignments}, id = excluded.id,
            revision = case when ({told}) is distinct from ({told_again}) then pg_current_xact_id()
                else stored.revision end
        where stored.source = 'stream' and excluded.source = 'rest'
        returning id, xmax = 0 as is_new, execution_id, order_id, symbol, side, qty, price, transaction_time
    ), others as (
        insert into {table} as stored (destination, {names})
        select %(slug)s, {incoming_names} from incoming where execution_id is null
        on conflict (destination, id) do update set {assignments}, revision = default
        where array_position(array['correct', 'canceled'], excluded.status)
            > coalesce(array_position(array['correct', 'canceled'], stored.status), 0)
        returning id
    )
    select id, is_new, execution_id, order_id, symbol, side, qty, price, transaction_time,
           (select count(*) from conflicting) as conflicts from fills
    union all
    select id, false, null, null, null, null, null, null, null, (select count(*) from conflicting) from others
    union all
    select null, false, null, null, null, null, null, null, null, count(*) from conflicting having count(*) > 0
""")

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
    select member.* from family cross join lateral (
        select id::text, replaces::text, replaced_by::text, parent_id::text, legs::text[] from {orders}
        where destination = %(slug)s and id = family.id offset 0
    ) as member
""")

PLACE = sql.SQL("""
    update {orders} as stored set parent_id = place.parent_id, legs = place.legs, revision = default
    from json_to_recordset(%(places)s::json) as place(id uuid, parent_id uuid, legs uuid[]) cross join lateral (
        select ctid from {orders} where destination = %(slug)s and id = place.id offset 0
    ) as found
    where stored.ctid = found.ctid
""")

APPEND_FRAMES = sql.SQL("""
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
        orders, activities = _table("raw_orders", slug), _table("raw_activities", slug)
        self.upsert_orders = _compose(
            UPSERT_ORDERS,
            table=orders,
            incoming=_incoming(ORDER_COLUMNS),
            names=_names([*ORDER_COLUMNS, "raw_json"]),
            incoming_names=_names([*ORDER_COLUMNS, "raw_json"], "incoming."),
            assignments=_assignments([*ORDER_COLUMNS, "raw_json"]),
            excluded_version=_version("excluded"),
            stored_version=_version("stored"),
        )
        self.upsert_activities = _compose(
            UPSERT_ACTIVITIES,
            table=activities,
            quarantine=sql.Identifier(SCHEMA, "quarantine"),
            incoming=_incoming(ACTIVITY_COLUMNS),
            names=_names([*ACTIVITY_COLUMNS, "raw_json"]),
            incoming_names=_names([*ACTIVITY_COLUMNS, "raw_json"], "incoming."),
            assignments=_assignments([*ACTIVITY_COLUMNS, "raw_json"]),
            told=_names(FACTS, "stored."),
            told_again=_names(FACTS, "excluded."),
        )
        self.families = _compose(FAMILIES, orders=orders)
        self.place = _compose(PLACE, orders=orders)
        self.append_frames = _compose(APPEND_FRAMES, events=_table("raw_events", slug))
        self.frames_told_before = _compose(FRAMES_TOLD_BEFORE, events=_table("raw_events", slug))


def _compose(template: sql.SQL, **parts: sql.Composable) -> bytes:
    return template.format(**parts).as_bytes(None)


_statements = cache(Statements)


async def record(
    conn: AsyncConnection, slug: str, harvest: Harvest, now: datetime, *, alive_at: datetime | None = None
) -> Recorded:
    """Write a combined harvest; what is already there, or older than what is there, changes nothing.

    Writers of one account take turns from here to the end of their transactions. alive_at: up to when the stream
    has delivered with this.
    """
    async with conn.pipeline():
        await conn.execute(TAKE_TURN, [slug])
        orders = await _upsert_orders(conn, slug, harvest.orders)
        activities = await _upsert_activities(conn, slug, harvest.activities, now)
        families = await _find_families(conn, slug, harvest)
        if alive_at is not None:
            await mark_stream_alive(conn, slug, alive_at)
        recorded = Recorded()
        if orders is not None:
            recorded += _recorded_orders(await orders.fetchall())
        if activities is not None:
            recorded += _recorded_activities(await activities.fetchall())
        if families is not None:
            await _place(conn, slug, await families.fetchall(), harvest.links)
    return recorded


async def _upsert_orders(conn: AsyncConnection, slug: str, rows: Sequence[Row]) -> AsyncCursor | None:
    return await conn.execute(_statements(slug).upsert_orders, _arguments(slug, rows)) if rows else None


async def _upsert_activities(
    conn: AsyncConnection, slug: str, rows: Sequence[Row], now: datetime
) -> AsyncCursor | None:
    if not rows:
        return None
    return await conn.execute(_statements(slug).upsert_activities, {**_arguments(slug, rows), "now": now})


async def _find_families(conn: AsyncConnection, slug: str, harvest: Harvest) -> AsyncCursor | None:
    """Ask for the families of the orders whose ties this harvest says something about."""
    touched = {order_id for link in harvest.links for order_id in link}
    touched |= {row["id"] for row in harvest.orders if row["replaces"] or row["replaced_by"]}
    if not touched:
        return None
    return await conn.execute(_statements(slug).families, {"slug": slug, "touched": sorted(touched)})


async def _place(
    conn: AsyncConnection, slug: str, families: Iterable[tuple[Any, ...]], nestings: Sequence[tuple[str, str]]
) -> None:
    """Tie legs that are misplaced to their true parents, and list them there."""
    members = [Member(order_id, old, new, parent, tuple(legs)) for order_id, old, new, parent, legs in families]
    if moved := misplaced(members, nestings):
        places = [{"id": m.id, "parent_id": m.parent_id, "legs": m.legs} for m in moved]
        await conn.execute(_statements(slug).place, {"slug": slug, "places": msgspec.json.encode(places).decode()})


def _recorded_orders(changed: Sequence[tuple[Any, ...]]) -> Recorded:
    return Recorded(
        order_ids=tuple(row[0] for row in changed),
        order_news=tuple((status, at) for _, status, at, is_news in changed if is_news),
    )


def _recorded_activities(changed: Sequence[tuple[Any, ...]]) -> Recorded:
    return Recorded(
        activity_ids=tuple(row[0] for row in changed if row[0] is not None),
        new_fills=tuple(NewFill(*row[2:9]) for row in changed if row[1]),
        conflicts=changed[0][9] if changed else 0,
    )


def _arguments(slug: str, rows: Sequence[Row]) -> dict[str, Any]:
    columns = [{name: value for name, value in row.items() if value is not None and name != "raw_json"} for row in rows]
    raws = [bytes(row["raw_json"]) for row in rows]
    return {"slug": slug, "rows": msgspec.json.encode(columns).decode(), "raws": raws}


async def append_frames(conn: AsyncConnection, slug: str, frames: Sequence[Frame]) -> None:
    """Append stream frames as received; this table is never updated."""
    columns = zip(
        *((f.received_at, f.connection, f.event, f.order_id, f.execution_id, f.raw) for f in frames),
        strict=True,
    )
    await conn.execute(_statements(slug).append_frames, [slug, *map(list, columns)])


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


async def cursor(conn: AsyncConnection, slug: str, name: str) -> Cursor | None:
    """Return the named cursor of a destination, None before its first completed page."""
    async with conn.cursor(row_factory=class_row(Cursor)) as cur:
        await cur.execute(
            "select position, token, complete_through from account_activities.cursors"
            " where destination = %s and name = %s",
            [slug, name],
        )
        return await cur.fetchone()


async def move_cursor(conn: AsyncConnection, slug: str, name: str, to: Cursor) -> None:
    """Move a cursor; only ever in the transaction that wrote the page it passes."""
    await conn.execute(
        """
        insert into account_activities.cursors (destination, name, position, token, complete_through)
        values (%s, %s, %s, %s, %s)
        on conflict (destination, name) do update set
            position = greatest(cursors.position, excluded.position),
            token = excluded.token,
            complete_through = greatest(cursors.complete_through, excluded.complete_through),
            updated_at = now()
        """,
        [slug, name, to.position, to.token, to.complete_through],
    )


async def unfinished_orders(conn: AsyncConnection, slug: str) -> list[Unfinished]:
    """Return every order that may still change."""
    query = sql.SQL("""
        select id, coalesce(parent_id, id) as root, status from {table}
        where destination = %s and status not in ('filled', 'canceled', 'expired', 'replaced', 'rejected')
    """).format(table=_table("raw_orders", slug))
    async with conn.cursor(row_factory=class_row(Unfinished)) as cur:
        await cur.execute(query, [slug])
        return await cur.fetchall()


async def orders_behind_their_fills(
    conn: AsyncConnection, slug: str, activity_ids: Sequence[str] | None = None
) -> list[UUID]:
    """Return the orders of these fills (of all, for None) that we miss or know with less filled than they say."""
    query = sql.SQL("""
        select fills.order_id from {activities} fills
        left join {orders} orders on orders.destination = %(slug)s and orders.id = fills.order_id
        where fills.destination = %(slug)s and fills.execution_id is not null and fills.order_id is not null
          and (%(ids)s::text[] is null or fills.order_id in (
              select order_id from {activities} where destination = %(slug)s and id = any(%(ids)s)))
        group by fills.order_id
        having sum(fills.qty) > coalesce(max(orders.filled_qty), -1)
    """).format(activities=_table("raw_activities", slug), orders=_table("raw_orders", slug))
    ids = None if activity_ids is None else list(activity_ids)
    result = await conn.execute(query, {"slug": slug, "ids": ids})
    return [row[0] for row in await result.fetchall()]


async def unsettled_links(conn: AsyncConnection, slug: str, order_ids: Sequence[UUID]) -> list[UUID]:
    """Return what these orders' links prove to be missing or stale: the members of their chains to ask for.

    An order that the lake does not hold, or one that has a successor and does not show it yet.
    """
    query = sql.SQL("""
        select distinct pointed.id from {table} touched cross join lateral (
            values (touched.replaces, true), (touched.replaced_by, false)
        ) as pointed(id, is_succeeded)
        where touched.destination = %(slug)s and touched.id = any(%(ids)s) and pointed.id is not null
          and not exists (
            select from {table} known where known.destination = %(slug)s and known.id = pointed.id
              and (not pointed.is_succeeded
                   or known.status in ('filled', 'canceled', 'expired', 'replaced', 'rejected')))
    """).format(table=_table("raw_orders", slug))
    result = await conn.execute(query, {"slug": slug, "ids": list(order_ids)})
    return [row[0] for row in await result.fetchall()]


async def stream_alive_at(conn: AsyncConnection, slug: str) -> datetime | None:
    """Return when the order stream was last known to deliver, None if it never was."""
    query = sql.SQL("select stream_alive_at from {table}").format(table=_table("raw_history_meta", slug))
    row = await (await conn.execute(query)).fetchone()
    return row[0] if row else None


async def mark_stream_alive(conn: AsyncConnection, slug: str, at: datetime) -> None:
    """Remember that the stream delivered everything up to `at`."""
    await conn.execute(
        """
        insert into account_activities.raw_history_meta (destination, stream_alive_at) values (%s, %s)
        on conflict (destination) do update set stream_alive_at = excluded.stream_alive_at
        """,
        [slug, at],
    )


async def refresh_history_meta(conn: AsyncConnection, slug: str) -> None:
    """Note the oldest order and activity in the lake."""
    query = sql.SQL("""
        insert into {meta} as meta (destination, earliest_order, earliest_activity)
        select %(slug)s, (select min(submitted_at) from {orders} where destination = %(slug)s),
            (select min(coalesce(transaction_time, activity_date::timestamptz)) from {activities})
        on conflict (destination) do update set
            earliest_order = excluded.earliest_order, earliest_activity = excluded.earliest_activity
    """).format(
        meta=_table("raw_history_meta", slug),
        orders=_table("raw_orders", slug),
        activities=_table("raw_activities", slug),
    )
    await conn.execute(query, {"slug": slug})


async def open_gap(conn: AsyncConnection, slug: str, blind_from: datetime, reason: str) -> int:
    """Open a gap, or return the one that is open already: one blindness is one row."""
    open_one = await open_gaps(conn, slug)
    if open_one:
        return open_one[0].id
    result = await conn.execute(
        "insert into account_activities.gaps (destination, blind_from, reason) values (%s, %s, %s) returning id",
        [slug, blind_from, reason],
    )
    return int((await result.fetchone() or [0])[0])


async def open_gaps(conn: AsyncConnection, slug: str) -> list[Gap]:
    """Return the gaps that are not healed, oldest first."""
    query = sql.SQL("""
        select id, blind_from, blind_to, reason, healed_at, orders_recovered, fills_recovered
        from {table} where healed_at is null order by id
    """).format(table=_table("gaps", slug))
    async with conn.cursor(row_factory=class_row(Gap)) as cur:
        await cur.execute(query)
        return await cur.fetchall()


async def credit_gap(conn: AsyncConnection, slug: str, gap_id: int, orders: int, fills: int) -> None:
    """Add what was recovered to a gap."""
    await conn.execute(
        """
        update account_activities.gaps set orders_recovered = orders_recovered + %s,
            fills_recovered = fills_recovered + %s where destination = %s and id = %s
        """,
        [orders, fills, slug, gap_id],
    )


async def heal_gap(
    conn: AsyncConnection, slug: str, gap_id: int, *, blind_to: datetime, healed_at: datetime
) -> Gap | None:
    """Close a gap and return it: the stream listens again since `blind_to`, all before has been fetched."""
    async with conn.cursor(row_factory=class_row(Gap)) as cur:
        await cur.execute(
            """
            update account_activities.gaps set blind_to = %s, healed_at = %s
            where destination = %s and id = %s
            returning id, blind_from, blind_to, reason, healed_at, orders_recovered, fills_recovered
            """,
            [blind_to, healed_at, slug, gap_id],
        )
        return await cur.fetchone()


async def order_facts(
    conn: AsyncConnection, slug: str, after: datetime | None, until: datetime | None
) -> dict[str, tuple[str, Decimal, Decimal | None]]:
    """Return what verification compares of the orders submitted between two moments, exclusive; None is open.

    id -> (status, filled_qty, filled_avg_price).
    """
    query = sql.SQL("""
        select id::text, status, filled_qty, filled_avg_price from {table}
        where destination = %(slug)s and (%(after)s::timestamptz is null or submitted_at > %(after)s)
          and (%(until)s::timestamptz is null or submitted_at < %(until)s)
    """).format(table=_table("raw_orders", slug))
    result = await conn.execute(query, {"slug": slug, "after": after, "until": until})
    return {row[0]: row[1:] for row in await result.fetchall()}


async def activity_facts(
    conn: AsyncConnection, slug: str, after: datetime | None, until: datetime | None
) -> dict[str, tuple[str, Decimal | None, Decimal | None, Decimal | None]]:
    """Return what verification compares of the activities between two moments, exclusive; None is open.

    id -> (type, qty, price, net_amount). Activities without a time count at midnight of their New York day.
    """
    query = sql.SQL("""
        select id, activity_type, qty, price, net_amount
        from {table} cross join lateral (
            select coalesce(transaction_time, activity_date::timestamp at time zone 'America/New_York') as moment
        ) as happened
        where destination = %(slug)s and (%(after)s::timestamptz is null or moment > %(after)s)
          and (%(until)s::timestamptz is null or moment < %(until)s)
    """).format(table=_table("raw_activities", slug))
    result = await conn.execute(query, {"slug": slug, "after": after, "until": until})
    return {row[0]: row[1:] for row in await result.fetchall()}


async def cash(conn: AsyncConnection, slug: str) -> Decimal:
    """Return the sum of all cash effects in the lake; canceled activities do not count (domain.md 6)."""
    query = sql.SQL("""
        select coalesce(sum(net_amount), 0) from {table}
        where destination = %s and status is distinct from 'canceled'
    """).format(table=_table("raw_activities", slug))
    row = await (await conn.execute(query, [slug])).fetchone()
    return row[0] if row else Decimal(0)
