"""The command line: reads the configuration, starts what was asked, turns errors into one line and an exit code.

Exit codes: 0 fine, 1 a check said no, 2 wrong usage or configuration, 3 gave up at run time. Commands that
belong to a stage (backfill, verify, web, sim, ...) come from its plugin.
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
import anyio.to_thread
import click
import structlog

from coldharbour import __version__, kernel, loader, log, processes, schema, settings
from coldharbour.clock import SystemClock
from coldharbour.db import Database, masked, open_database, wait_for_database
from coldharbour.destinations import Destination
from coldharbour.errors import BadConfig, ColdHarbourError, GaveUp, Transient
from coldharbour.hookspecs import PROJECT
from coldharbour.loader import Assignment, Registry
from coldharbour.online import connection_problems
from coldharbour.settings import Configuration, suggestion
from coldharbour.supervise import decisive, describe
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
        async with kernel.database_conninfo(self.configuration.settings.database) as conninfo:
            with anyio.move_on_after(patience_s) as patience:
                await wait_for_database(conninfo)
            if patience.cancelled_caught:
                raise Transient(f"the database {masked(conninfo)} does not answer", hint="is the server up?")
            await kernel.prepare_database(conninfo, self.configuration, self.registry)
            async with open_database(conninfo, name=name, clock=SystemClock()) as database:
                yield database

    def market_database(self, database: Database) -> AbstractAsyncContextManager[Database]:
        """Return where the optional tables of bars and trades stand, unopened; `database` is the first server."""
        return kernel.market_database(self.configuration.settings.database, database, SystemClock())

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


class PluginGroup(click.Group):
    """The command group that asks the plugins for their commands once a name is not the kernel's own."""

    _asked = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all command names, the plugins' among them."""
        self._ask_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, the plugins' among them."""
        if cmd_name not in self.commands:
            self._ask_plugins()
        return super().get_command(ctx, cmd_name)

    def _ask_plugins(self) -> None:
        if self._asked:
            return
        self._asked = True
        file = _config_argument(sys.argv)
        pm, found, problems = loader.discover(settings.plugin_settings(file), file)
        for problem in problems + loader.add_commands(pm, found, self):
            click.echo(f"warning: {problem}", err=True)


def _config_argument(argv: Sequence[str]) -> Path:
    """Return the value of --config: which plugins offer commands depends on it, before anything is parsed."""
    for index, argument in enumerate(argv):
        if argument == "--config" and index + 1 < len(argv):
            return Path(argv[index + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    return Path("-")


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


@click.group(cls=PluginGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROJECT)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Cold Harbour: an operations room for Alpaca brokerage accounts."""


@cli.command()
@config_option
@click.option("--service", "services", multiple=True, help="Only the workers of this process; repeatable.")
@destination_option
@click.option("--worker", "kinds", multiple=True, help="Only this kind of worker; repeatable.")
@click.option("--die-with-parent", "parent", type=int, hidden=True)
def run(
    config: Path,
    services: tuple[str, ...],
    destinations: tuple[str, ...],
    kinds: tuple[str, ...],
    parent: int | None,
) -> None:
    """Load, check, migrate and run the workers until Ctrl-C or SIGTERM.

    Without a filter everything runs, each service in a process of its own.
    """
    if parent is not None:
        processes.die_with_parent(parent)
    loaded = load(config)
    if not (services or destinations or kinds):
        children = loaded.registry.services()
        web = loaded.configuration.settings.web
        if "web" in children:
            click.echo(f"Cold Harbour starts: http://{web.host}:{web.port}/ (Ctrl-C stops it)")
        debug = bool(click.get_current_context().find_root().params["debug"])
        loaded.run(lambda: processes.run_children(config, children, debug=debug))
        return
    assignments = loaded.select(services, destinations, kinds)
    if not assignments and not any(map(loaded.registry.observers_in, services)):
        click.echo(f"{config}: nothing to run here: no worker passes these filters", err=True)
        return
    loaded.run_workers(assignments, name=",".join(services) or "run", services=services)


@cli.command()
@config_option
@click.option("--online", is_flag=True, help="Also try the database, the brokers and the price feed.")
def check(config: Path, online: bool) -> None:
    """Report every problem of the configuration at once, each with its file, key and remedy."""
    try:
        loaded = load(config)
    except BadConfig as error:
        for problem in error.problems:
            click.echo(problem)
        raise SystemExit(1) from None
    if online:
        problems = loaded.run(lambda: connection_problems(loaded.configuration, loaded.registry))
        for problem in problems:
            click.echo(problem)
        if problems:
            raise SystemExit(1)
    click.echo(f"{config}: fine: {len(loaded.configuration.destinations)} destinations, "
               f"{len(loaded.registry.workers)} kinds of worker")  # fmt: skip


@cli.command()
@click.argument("worker")
@config_option
@destination_option
def cycle(worker: str, config: Path, destinations: tuple[str, ...]) -> None:
    """Run one cycle of a periodic WORKER, then exit: for cron, Airflow or a CronJob."""
    loaded = load(config)
    assignments = loaded.select((), destinations, (worker,))
    spec = loaded.registry.workers[worker].spec
    if not (spec.every or spec.cycle):
        raise BadConfig([f"worker {worker!r} runs until stopped and has no cycles"], hint="start it with run --worker")
    loaded.run(lambda: _cycle(loaded, assignments))


@cli.command()
@config_option
def plugins(config: Path) -> None:
    """List the plugins, their workers and hooks, and where each came from."""
    registry = load(config).registry
    for plugin in registry.plugins:
        click.echo(f"{plugin.name}  ({plugin.origin})")
        hooks = [caller.name for caller in registry.pm.get_hookcallers(plugin.module) or ()]
        click.echo(f"    hooks: {', '.join(sorted(hooks)) or 'none'}")
        for worker in registry.workers.values():
            if worker.plugin is plugin:
                rhythm = f"every {worker.spec.every}" if worker.spec.every else "until stopped"
                click.echo(f"    worker: {worker.spec.kind}, {rhythm}, in process {worker.service}")


@cli.group()
def db() -> None:
    """The database: migrations, and where it is."""


@db.command("upgrade")
@config_option
def db_upgrade(config: Path) -> None:
    """Apply the missing migrations."""
    loaded = load(config)

    async def upgrade() -> list[str]:
        async with kernel.database_conninfo(loaded.configuration.settings.database) as conninfo:
            slugs = [destination.slug for destination in loaded.configuration.destinations]
            return await anyio.to_thread.run_sync(schema.upgrade, conninfo, loaded.registry.migrations, slugs)

    applied = loaded.run(upgrade)
    click.echo(f"applied {', '.join(applied)}" if applied else "nothing to apply")


@db.command("status")
@config_option
def db_status(config: Path) -> None:
    """Say which migrations are missing; exit 1 if any is."""
    loaded = load(config)

    async def pending() -> list[str]:
        async with kernel.database_conninfo(loaded.configuration.settings.database) as conninfo:
            return await anyio.to_thread.run_sync(schema.pending, conninfo, loaded.registry.migrations)

    missing = loaded.run(pending)
    click.echo(f"missing: {', '.join(missing)}" if missing else "up to date")
    raise SystemExit(1 if missing else 0)


@db.command("url")
@config_option
def db_url(config: Path) -> None:
    """Print where the database is, its password masked."""
    loaded = load(config)

    async def where() -> str:
        async with kernel.database_conninfo(loaded.configuration.settings.database) as conninfo:
            return masked(conninfo)

    click.echo(loaded.run(where))


async def _run_workers(loaded: Loaded, name: str, assignments: Sequence[Assignment], services: Sequence[str]) -> None:
    async with loaded.database(name, patience_s=math.inf) as database:
        running = kernel.Kernel(loaded.configuration, loaded.registry, assignments, db=database, services=services)
        with LoopWatchdog(asyncio.get_running_loop()).watching():
            gave_up = await running.run()
    if gave_up:
        raise GaveUp("a worker failed too often and was stopped", hint="its last error is above and on the page")


async def _cycle(loaded: Loaded, assignments: Sequence[Assignment]) -> None:
    async with loaded.database("cycle") as database:
        await kernel.Kernel(loaded.configuration, loaded.registry, assignments, db=database).run_one_cycle()


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


def main() -> None:
    """Run the command line; every error becomes one readable line, a hint and an exit code."""
    debug = "--debug" in sys.argv[1:2]
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ColdHarbourError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(2 if isinstance(error, BadConfig) else 3)
    except Exception as error:
        if debug:
            raise
        click.echo(f"error: {describe(error)}", err=True)
        click.echo("hint: nobody foresaw this one: coldharbour --debug ... shows where it happened", err=True)
        sys.exit(3)
