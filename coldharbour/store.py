"""The kernel's own tables: worker status, epochs, the market's sessions, events. All of the kernel's SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

from psycopg import AsyncConnection
from psycopg.rows import class_row

from coldharbour.sessions import MarketSession

LONG = timedelta(days=36_500)
EventMark = tuple[int, int]  # transaction and id: the place of an event in the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One row of `accounts.worker_status`; destination is "" for the installation's own workers."""

    destination: str
    kind: str
    service: str
    state: str
    detail: str
    since: datetime
    last_success: datetime | None
    last_error: str | None
    restarts: int
    lag_s: float | None
    host: str
    pid: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class EventRow:
    """One row of `accounts.events`; payload is the event as JSON. mark: its place in the journal."""

    id: int
    revision: int
    destination: str
    payload: str

    @property
    def mark(self) -> EventMark:
        """Its place among the events, in the order in which their transactions began."""
        return self.revision, self.id


async def register_destinations(conn: AsyncConnection, destinations: Iterable[tuple[str, str]]) -> None:
    """Note the configured destinations as (slug, name), so that pages and reports know them."""
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.destinations (slug, name) values (%s, %s)
            on conflict (slug) do update set name = excluded.name
            """,
            list(destinations),
        )


async def save_status(conn: AsyncConnection, rows: Sequence[WorkerRow]) -> None:
    """Upsert worker states; the writer of the newest row is the one that runs the worker."""
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.worker_status (destination, kind, service, state, detail, since, last_success,
                last_error, restarts, lag_s, host, pid, updated_at)
            values (%(destination)s, %(kind)s, %(service)s, %(state)s, %(detail)s, %(since)s, %(last_success)s,
                %(last_error)s, %(restarts)s, %(lag_s)s, %(host)s, %(pid)s, %(updated_at)s)
            on conflict (destination, kind) do update set service = excluded.service, state = excluded.state,
                detail = excluded.detail, since = excluded.since,
                last_success = coalesce(excluded.last_success, worker_status.last_success),
                last_error = coalesce(excluded.last_error, worker_status.last_error),
                restarts = excluded.restarts, lag_s = excluded.lag_s, host = excluded.host,
                pid = excluded.pid, updated_at = excluded.updated_at
            """,
            [asdict(row) for row in rows],
        )


async def worker_rows(conn: AsyncConnection) -> list[WorkerRow]:
    """Return the state of every worker that ever ran, by destination and kind."""
    async with conn.cursor(row_factory=class_row(WorkerRow)) as cur:
        await cur.execute(
            """
            select destination, kind, service, state, detail, since, last_success, last_error, restarts, lag_s,
                host, pid, updated_at
            from accounts.worker_status order by destination, kind
            """
        )
        return await cur.fetchall()


async def try_lock(conn: AsyncConnection, destination: str, kind: str) -> bool:
    """Try to take the advisory lock of a worker for this session; it goes when the session goes."""
    result = await conn.execute(
        "select pg_try_advisory_lock(hashtextextended('coldharbour:' || %s || ':' || %s, 0))",
        [destination, kind],
    )
    return await result.fetchone() == (True,)


async def unlock(conn: AsyncConnection, destination: str, kind: str) -> None:
    """Give the advisory lock of a worker back."""
    await conn.execute(
        "select pg_advisory_unlock(hashtextextended('coldharbour:' || %s || ':' || %s, 0))",
        [destination, kind],
    )


async def next_epoch(conn: AsyncConnection, destination: str, kind: str, holder: str) -> int:
    """Begin a new epoch of a worker and return its number; everyone with an older one must not act."""
    result = await conn.execute(
        """
        insert into accounts.worker_epochs as current (destination, kind, epoch, holder) values (%s, %s, 1, %s)
        on conflict (destination, kind) do update set
            epoch = current.epoch + 1, holder = excluded.holder, acquired_at = now()
        returning epoch
        """,
        [destination, kind, holder],
    )
    row = await result.fetchone()
    return int(row[0]) if row else 0


async def current_epoch(conn: AsyncConnection, destination: str, kind: str) -> tuple[int, str]:
    """Return (epoch, holder) and keep it from changing until this transaction ends."""
    result = await conn.execute(
        "select epoch, holder from accounts.worker_epochs where destination = %s and kind = %s for share",
        [destination, kind],
    )
    row = await result.fetchone()
    return (int(row[0]), str(row[1])) if row else (0, "nobody")


async def newest_epochs(conn: AsyncConnection) -> dict[tuple[str, str], int]:
    """Return the newest epoch of every worker that ever ran, by (destination, kind)."""
    result = await conn.execute("select destination, kind, epoch from accounts.worker_epochs")
    return {(destination, kind): epoch async for destination, kind, epoch in result}


async def save_sessions(
    conn: AsyncConnection, market: str, source: str, sessions: Sequence[MarketSession], today: date
) -> None:
    """Replace the sessions from the first given day to the last, and prune those older than 120 days."""
    days = [session.session_date for session in sessions]
    await conn.execute(
        """
        delete from accounts.market_schedule where market = %(market)s and (session_date < %(today)s::date - 120
            or session_date between %(first)s and %(last)s and session_date <> all(%(days)s))
        """,
        {"market": market, "today": today, "first": min(days), "last": max(days), "days": days},
    )
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.market_schedule
                (market, session_date, pre_open_utc, open_utc, close_utc, post_close_utc, source)
            values (%s, %s, %s, %s, %s, %s, %s)
            on conflict (market, session_date) do update set pre_open_utc = excluded.pre_open_utc,
                open_utc = excluded.open_utc, close_utc = excluded.close_utc,
                post_close_utc = excluded.post_close_utc, source = excluded.source, fetched_at = now()
            """,
            [
                (market, s.session_date, s.pre_open_utc, s.open_utc, s.close_utc, s.post_close_utc, source)
                for s in sessions
            ],
        )


async def sessions_of(conn: AsyncConnection, market: str) -> list[MarketSession]:
    """Return the known sessions of a market, oldest first."""
    async with conn.cursor(row_factory=class_row(MarketSession)) as cur:
        await cur.execute(
            """
            select pre_open_utc, open_utc, close_utc, post_close_utc, session_date
            from accounts.market_schedule where market = %s order by session_date
            """,
            [market],
        )
        return await cur.fetchall()


async def append_events(conn: AsyncConnection, events: Sequence[tuple[str, datetime, str, str]]) -> None:
    """Append domain events as (destination, at, kind, JSON payload)."""
    destinations, moments, kinds, payloads = (list(column) for column in zip(*events, strict=True))
    await conn.execute(
        """
        insert into accounts.events (destination, at, kind, payload)
        select destination, at, kind, payload::json
        from unnest(%s::text[], %s::timestamptz[], %s::text[], %s::text[]) as e(destination, at, kind, payload)
        """,
        [destinations, moments, kinds, payloads],
    )


async def newest_mark(conn: AsyncConnection) -> EventMark:
    """Return a place behind every event that is known, and before those whose transactions are not over."""
    row = await (await conn.execute("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")).fetchone()
    return (row[0] if row else 0), 0


async def events_after(
    conn: AsyncConnection, mark: EventMark, within: timedelta = timedelta.max, limit: int = 500
) -> list[EventRow]:
    """Return the events behind a place, up to the first whose transaction may not be over.

    within: how long ago they were recorded at most.
    """
    async with conn.cursor(row_factory=class_row(EventRow)) as cur:
        await cur.execute(
            """
            select id, revision::text::bigint as revision, destination, payload::text from accounts.events
            where (revision, id) > (%s::text::xid8, %s) and revision < pg_snapshot_xmin(pg_current_snapshot())
                and recorded_at > now() - make_interval(secs => %s)
            order by accounts.events.revision, id limit %s
            """,
            [*mark, min(within, LONG).total_seconds(), limit],
        )
        return await cur.fetchall()


async def observer_marks(conn: AsyncConnection, plugins: Sequence[str]) -> dict[str, EventMark]:
    """Return up to where the observers of plugins were told of events; one that never was is missing."""
    cursor = await conn.execute(
        "select plugin, revision::text::bigint, event_id from accounts.observers where plugin = any(%s)",
        [list(plugins)],
    )
    return {plugin: (revision, event_id) for plugin, revision, event_id in await cursor.fetchall()}


async def keep_observer_marks(conn: AsyncConnection, marks: Mapping[str, EventMark]) -> None:
    """Note up to where the observers of plugins were told of events."""
    async with conn.cursor() as cur:
        await cur.executemany(
            """
            insert into accounts.observers (plugin, revision, event_id) values (%s, %s::text::xid8, %s)
            on conflict (plugin) do update set revision = excluded.revision, event_id = excluded.event_id
            """,
            [[plugin, *mark] for plugin, mark in marks.items()],
        )


async def prune_events(conn: AsyncConnection, before: datetime) -> int:
    """Delete events recorded before a moment; the lake keeps what they were about."""
    return (await conn.execute("delete from accounts.events where recorded_at < %s", [before])).rowcount


async def schedule_fetched_at(conn: AsyncConnection, market: str) -> datetime | None:
    """Return when the sessions of a market were last read, None if they never were."""
    row = await (
        await conn.execute("select max(fetched_at) from accounts.market_schedule where market = %s", [market])
    ).fetchone()
    return row[0] if row else None
