"""The online check: can the database, every broker and the price feed be reached; changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from urllib.parse import urlsplit

import anyio

from coldharbour.clock import SystemClock
from coldharbour.databases import conninfo_of
from coldharbour.db import masked, wait_for_database
from coldharbour.destinations import Destination
from coldharbour.errors import ColdHarbourError
from coldharbour.registry import Registry
from coldharbour.settings import Configuration

PATIENCE_S = 10.0


async def connection_problems(configuration: Configuration, registry: Registry) -> list[str]:
    """Try every connection and return what failed, one line each with its key."""
    found = [problem async for problem in _database_problems(configuration)]
    for destination in configuration.destinations:
        found += [problem async for problem in _broker_problems(configuration, registry, destination)]
    return found + [problem async for problem in _feed_problems(configuration)]


async def _database_problems(configuration: Configuration) -> AsyncIterator[str]:
    try:
        async with conninfo_of(configuration.settings.database) as conninfo:
            with anyio.move_on_after(PATIENCE_S) as patience:
                await wait_for_database(conninfo)
            if patience.cancelled_caught:
                yield f"{configuration.file}: database.url: {masked(conninfo)} does not answer: is the server up?"
    except ColdHarbourError as error:
        yield f"{configuration.file}: database.url: {error}"


async def _broker_problems(
    configuration: Configuration, registry: Registry, destination: Destination
) -> AsyncIterator[str]:
    where = f"{configuration.file}: destinations.{destination.key}"
    try:
        opened = registry.pm.hook.open_broker(destination=destination, clock=SystemClock(), random=Random())
        async with opened as broker:
            account = await broker.account()
    except ColdHarbourError as error:
        yield f"{where}.base_url: {error}"
    else:
        if account.status != "ACTIVE":
            yield f"{where}: the account is {account.status}, not ACTIVE: ask the broker"


async def _feed_problems(configuration: Configuration) -> AsyncIterator[str]:
    endpoint = urlsplit(configuration.settings.feed.endpoint)
    if endpoint.scheme != "tcp" or endpoint.hostname is None or endpoint.port is None:
        return
    try:
        with anyio.fail_after(PATIENCE_S):
            stream = await anyio.connect_tcp(endpoint.hostname, endpoint.port)
            await stream.aclose()
    except (OSError, TimeoutError) as error:
        where = f"{configuration.file}: feed.endpoint: {configuration.settings.feed.endpoint}"
        yield f"{where}: {error or 'no answer'}: is the publisher up?"
