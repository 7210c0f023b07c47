"""The table of findings; functions take a connection, the caller owns the transaction and logs what is new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from psycopg import AsyncConnection


class Settled(NamedTuple):
    """What a look at an area changed: the findings that are new, and how many are resolved."""

    new: list[str]
    resolved: int


async def settle(conn: AsyncConnection, slug: str, area: str, findings: Mapping[str, str], now: datetime) -> Settled:
    """Record all there is to say of an area, and resolve the rest."""
    found = await note(conn, slug, area, findings, now)
    resolved = await conn.execute(
        """
        update accounts.findings set resolved_at = %s
        where destination = %s and area = %s and resolved_at is null and key <> all(%s)
        """,
        [now, slug, area, [*findings]],
    )
    return Settled(found, resolved.rowcount)


async def note(conn: AsyncConnection, slug: str, area: str, findings: Mapping[str, str], now: datetime) -> list[str]:
    """Record findings; return those that are new."""
    cursor = await conn.execute(
        """
        insert into accounts.findings as known (destination, area, key, finding, found_at)
        select %s, %s, key, finding, %s from unnest(%s::text[], %s::text[]) as found(key, finding)
        on conflict (destination, area, key) do update
            set finding = excluded.finding, found_at = excluded.found_at, resolved_at = null
        where known.finding <> excluded.finding or known.resolved_at is not null
        returning finding
        """,
        [slug, area, now, [*findings], [*findings.values()]],
    )
    return [row[0] for row in await cursor.fetchall()]


async def resolve(conn: AsyncConnection, slug: str, area: str, keys: Iterable[str], now: datetime) -> None:
    """Resolve the findings of these keys, if there are any."""
    await conn.execute(
        """
        update accounts.findings set resolved_at = %s
        where destination = %s and area = %s and resolved_at is null and key = any(%s)
        """,
        [now, slug, area, [*keys]],
    )
