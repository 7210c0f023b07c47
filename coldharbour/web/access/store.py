"""The table of logins; the caller owns the transaction."""

from __future__ import annotations

from datetime import datetime

from psycopg import AsyncConnection


async def begin_session(conn: AsyncConnection, id_hash: bytes, account: str, now: datetime) -> None:
    """Insert a login."""
    await conn.execute(
        "insert into accounts.web_sessions (id_hash, account, begun_at, used_at) values (%s, %s, %s, %s)",
        [id_hash, account, now, now],
    )


async def use_session(
    conn: AsyncConnection, id_hash: bytes, *, now: datetime, begun_after: datetime, used_after: datetime
) -> tuple[str, datetime] | None:
    """Note that a login is used, and return its (account, begun_at); None if there is none or it has ended."""
    result = await conn.execute(
        """
        update accounts.web_sessions set used_at = greatest(used_at, %(now)s)
        where id_hash = %(id_hash)s and begun_at > %(begun_after)s and used_at > %(used_after)s
        returning account, begun_at
        """,
        {"id_hash": id_hash, "now": now, "begun_after": begun_after, "used_after": used_after},
    )
    row = await result.fetchone()
    return (str(row[0]), row[1]) if row else None


async def end_session(conn: AsyncConnection, id_hash: bytes) -> None:
    """Delete a login."""
    await conn.execute("delete from accounts.web_sessions where id_hash = %s", [id_hash])


async def prune_sessions(conn: AsyncConnection, *, begun_before: datetime, used_before: datetime) -> None:
    """Delete the logins that have ended by themselves."""
    await conn.execute(
        "delete from accounts.web_sessions where begun_at <= %s or used_at <= %s", [begun_before, used_before]
    )
