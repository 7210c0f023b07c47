"""The databases of an installation: where they are, and that the first one has all tables; runs no query of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread

from coldharbour import schema
from coldharbour.clock import Clock
from coldharbour.db import Database, normalize_url, open_database
from coldharbour.embedded import embedded_server
from coldharbour.registry import Registry
from coldharbour.sections import DatabaseSettings
from coldharbour.settings import Configuration


@asynccontextmanager
async def conninfo_of(settings: DatabaseSettings) -> AsyncIterator[str]:
    """Yield where the database is; the embedded server runs at least as long as the block."""
    if settings.url == "embedded":
        async with embedded_server(settings.data_dir) as conninfo:
            yield conninfo
    else:
        yield normalize_url(settings.url)


@asynccontextmanager
async def market_database(settings: DatabaseSettings, first: Database, clock: Clock) -> AsyncIterator[Database]:
    """Yield the second server, which connects when it is first asked, or the `first` where there is none."""
    if not settings.timescale_url:
        yield first
        return
    url = normalize_url(settings.timescale_url)
    async with open_database(url, name="market", min_size=0, max_size=2, clock=clock) as market:
        yield market


async def bring_up_to_date(conninfo: str, configuration: Configuration, registry: Registry) -> list[str]:
    """Apply the migrations and make the partitions of every destination; return the migrations that were missing."""
    slugs = [destination.slug for destination in configuration.destinations]
    return await anyio.to_thread.run_sync(schema.upgrade, conninfo, registry.migrations, slugs)
