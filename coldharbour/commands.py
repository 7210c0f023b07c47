"""What every command works with: its usual options, the loaded configuration, and how it shows progress.

The kernel's commands stand in `cli.py`, those of a stage in its plugin.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click
import structlog

from coldharbour import databases, loader, log, settings
from coldharbour.clock import SystemClock
from coldharbour.db import Database, masked, open_database, wait_for_database
from coldharbour.destinations import Destination
from coldharbour.errors import BadConfig, GaveUp, Transient
from coldharbour.kernel import Kernel
from coldharbour.registry import Assignment, Registry
from coldharbour.settings import Configuration, suggestion
from coldharbour.supervise import decisive
from coldharbour.watchdog import LoopWatchdog

if TYPE_CHECKING:
    from coldharbour.broker import Broker

T = TypeVar("T")

config_option = click.option(
    "--config", required=True, type=click.Path(path_type=Path), help="The TOML configuration file."
)
destination_option = click.option(
    "--destination", "destinations", multiple=True, help="Only this account (TOML key or slug); repeatable."
)


class Loaded:
    """A configuration with its plugins, and the ways a command may use them."""

    def __init__(self, configuration: Configuration, registry: Registry) -> None:
        self.configuration, self.registry = configuration, registry

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run an async function on a fast loop and return its result.

        SIGINT and SIGTERM cancel it; then the command ends here, with 0 for what runs until stopped.
        """
        try:
            return anyio.run(_until_signal, main, backend_options={"use_uvloop": True})
        except BaseExceptionGroup as group:  # task groups wrap even a single error
            raise decisive(group) from group

    def select(
        self, services: Sequence[str] = (), destinations: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> list[Assignment]:
        """Return the assigned workers that pass every filter. Raises BadConfig for a name nobody has."""
        slugs = {self.configuration.destination(name).slug for name in destinations}
        self._known("service", services, self.registry.all_services())
        self._known("worker", kinds, self.registry.workers)
        return [
            assignment
            for assignment in self.registry.assignments
            if (not services or assignment.worker.service in services)
            and (not slugs or assignment.slug in slugs)
            and (not kinds or assignment.worker.spec.kind in kinds)
        ]

    def chosen_destinations(self, names: Sequence[str]) -> list[Destination]:
        """Return the named destinations, or all. Raises BadConfig for a name that none has."""
        if not names:
            return list(self.configuration.destinations)
        return [self.configuration.destination(name) for name in names]

    @asynccontextmanager
    async def database(self, name: str, *, patience_s: float = 10) -> AsyncIterator[Database]:
        """Yield the configured database, migrated; `name` is what its sessions are called.

        Raises Transient if it does not answer within `patience_s` seconds.
        """
        async with databases.conninfo_of(self.configuration.settings.database) as conninfo:
            with anyio.move_on_after(patience_s) as patience:
                await wait_for_database(conninfo)
            if patience.cancelled_caught:
                raise Transient(f"the database {masked(conninfo)} does not answer", hint="is the server up?")
            await databases.bring_up_to_date(conninfo, self.configuration, self.registry)
            async with open_database(conninfo, name=name, clock=SystemClock()) as database:
                yield database

    def market_database(self, database: Database) -> AbstractAsyncContextManager[Database]:
        """Return where the optional tables of bars and trades stand, unopened; `database` is the first server."""
        return databases.market_database(self.configuration.settings.database, database, SystemClock())

    def broker(self, destination: Destination) -> AbstractAsyncContextManager[Broker]:
        """Return the connection to an account's broker, unopened."""
        opened: AbstractAsyncContextManager[Broker] = self.registry.pm.hook.open_broker(
            destination=destination, clock=SystemClock(), random=Random()
        )
        return opened

    def run_workers(self, assignments: Sequence[Assignment], *, name: str, services: Sequence[str] = ()) -> None:
        """Run workers, and the observers of services, in this process until SIGINT or SIGTERM.

        Raises GaveUp if a worker failed too often.
        """
        self.run(lambda: _run_workers(self, name, assignments, services))

    def _known(self, what: str, names: Sequence[str], known: Any) -> None:
        for name in names:
            if name not in known:
                raise BadConfig([f"{self.configuration.file}: no {what} {name!r}{suggestion(name, known)}"])


def load(config: Path) -> Loaded:
    """Load the configuration and the plugins, and set up the logs."""
    configuration = settings.load(config)
    secrets = [
        value.get_secret_value()
        for d in configuration.destinations
        for value in (d.key_id, d.secret)
        if not d.simulated
    ]
    secrets += [value.get_secret_value() for value in configuration.password_hashes.values()]
    log.configure(configuration.settings.log, secrets)
    return Loaded(configuration, loader.load_plugins(configuration))


async def _run_workers(loaded: Loaded, name: str, assignments: Sequence[Assignment], services: Sequence[str]) -> None:
    async with loaded.database(name, patience_s=math.inf) as database:
        running = Kernel(loaded.configuration, loaded.registry, assignments, db=database, services=services)
        with LoopWatchdog(asyncio.get_running_loop()).watching():
            gave_up = await running.run()
    if gave_up:
        raise GaveUp("a worker failed too often and was stopped", hint="its last error is above and on the page")


async def _until_signal(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main`; the first SIGINT or SIGTERM cancels it, a second one ends the process at once."""
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for signal_number in signals:
                    if tasks.cancel_scope.cancel_called:
                        os._exit(128 + signal_number)
                    structlog.get_logger(__name__).info("stopping", signal=signal_number.name)
                    tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        result = await main()
        tasks.cancel_scope.cancel()
        return result
    raise SystemExit(0)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """Show how many rows a long reading has brought: a moving line on a terminal, a plain one elsewhere."""
    total = 0

    def reach(rows: int) -> None:
        nonlocal total
        total += rows
        if sys.stderr.isatty():
            click.echo(f"\r{what}: {total} rows", nl=False, err=True)

    yield reach
    click.echo(f"{chr(13) if sys.stderr.isatty() else ''}{what}: {total} rows", err=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float, str], None]]:
    """Show how far long work has come, as (share from 0 to 1, detail): a bar, or plain lines without a terminal."""
    if sys.stderr.isatty():
        with click.progressbar(length=1000, label=what, file=sys.stderr, item_show_func=lambda text: text) as bar:
            yield lambda share, detail: bar.update(max(int(1000 * share) - bar.pos, 0), detail)
        return
    said = -1

    def say(share: float, detail: str) -> None:
        nonlocal said
        if int(10 * share) > said:
            said = int(10 * share)
            click.echo(f"{what}: {share:.0%}, {detail}", err=True)

    yield say
