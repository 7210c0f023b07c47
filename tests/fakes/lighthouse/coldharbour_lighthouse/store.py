"""The lighthouse's own table: all of its SQL."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Lamp:
    """The lighthouse of one account."""

    beams: int
    seen: int
    pid: int


async def count_beam(conn: AsyncConnection, slug: str, seen: int, pid: int) -> str | None:
    """Count one beam and return the signal that waited for it, which is thereby used up."""
    cursor = await conn.execute("select signal from accounts.lighthouse where destination = %s", [slug])
    waiting = await cursor.fetchone()
    await conn.execute(
        """
        insert into accounts.lighthouse as lamp (destination, beams, seen, pid) values (%s, 1, %s, %s)
        on conflict (destination) do update set
            beams = lamp.beams + 1, seen = excluded.seen, pid = excluded.pid, signal = null
        """,
        [slug, seen, pid],
    )
    return waiting[0] if waiting else None


async def tell(conn: AsyncConnection, slug: str, signal: str) -> int:
    """Leave a signal for the next beam; return the beams so far."""
    cursor = await conn.execute(
        "update accounts.lighthouse set signal = %s where destination = %s returning beams", [signal, slug]
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


async def lamp(conn: AsyncConnection, slug: str) -> Lamp | None:
    """Return an account's lighthouse, None before its first beam."""
    async with conn.cursor(row_factory=class_row(Lamp)) as cur:
        await cur.execute("select beams, seen, pid from accounts.lighthouse where destination = %s", [slug])
        return await cur.fetchone()
