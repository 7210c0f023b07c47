"""What a worker may touch: one context per account, one for the workers of the whole installation.

Owns no connection itself: the kernel opens them and closes them around the contexts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol

from psycopg import AsyncConnection
from structlog.typing import FilteringBoundLogger

from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.destinations import Destination
from coldharbour.events import Event
from coldharbour.sessions import Phase
from coldharbour.settings import Configuration

if TYPE_CHECKING:
    from coldharbour.broker import Broker
    from coldharbour.feed.prices import Prices
    from coldharbour.registry import Registry


class Lease(Protocol):  # the kernel's leases satisfy it; workers see no more of them
    """The right to be the only worker of a kind for a destination, across all processes and hosts."""

    epoch: int

    async def check(self, conn: AsyncConnection) -> None:
        """Raise LeaseLost unless this lease is the newest; call it inside the transaction it protects."""


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What every worker has. `alive()` says that long work is moving; silence for too long is a failure.

    `emit(event)` records a domain event and hands it to the observers; it returns at once.
    """

    db: Database
    clock: Clock
    random: Random
    log: FilteringBoundLogger
    emit: Callable[[Event], None]
    alive: Callable[[], None]
    wake: Callable[[str], None]
    lag: Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class AccountContext(WorkerContext):
    """The context of one worker of one account.

    `wake(kind)` runs the account's periodic worker of that kind now, whatever process it lives in.
    `lag(seconds)` reports how far the worker is behind the broker. `phase()` is the market's phase.
    `market_db` is where the optional tables of bars and trades stand: the second server, or `db` without one.
    `prices` are for a worker that declares `uses_prices`; for any other they raise when touched.
    """

    destination: Destination
    broker: Broker
    prices: Prices
    market_db: Database
    lease: Lease | None
    phase: Callable[[], Phase]


@dataclass(frozen=True, kw_only=True)
class SystemContext(WorkerContext):
    """The context of a worker that serves the whole installation (the pages, the simulated broker)."""

    configuration: Configuration
    registry: Registry
