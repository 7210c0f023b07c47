"""The command line: the kernel's own commands, and how any command's errors become one line and an exit code.

Exit codes: 0 fine, 1 a check said no, 2 wrong usage or configuration, 3 gave up at run time. Commands that
belong to a stage (backfill, verify, web, sim, ...) come from its plugin.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
import click

from coldharbour import __version__, databases, loader, processes, schema, settings
from coldharbour.commands import Loaded, config_option, destination_option, load
from coldharbour.db import masked
from coldharbour.errors import BadConfig, ColdHarbourError
from coldharbour.hookspecs import PROJECT
from coldharbour.kernel import Kernel
from coldharbour.online import connection_problems
from coldharbour.registry import Assignment
from coldharbour.supervise import describe


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
        async with databases.conninfo_of(loaded.configuration.settings.database) as conninfo:
            return await databases.bring_up_to_date(conninfo, loaded.configuration, loaded.registry)

    applied = loaded.run(upgrade)
    click.echo(f"applied {', '.join(applied)}" if applied else "nothing to apply")


@db.command("status")
@config_option
def db_status(config: Path) -> None:
    """Say which migrations are missing; exit 1 if any is."""
    loaded = load(config)

    async def pending() -> list[str]:
        async with databases.conninfo_of(loaded.configuration.settings.database) as conninfo:
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
        async with databases.conninfo_of(loaded.configuration.settings.database) as conninfo:
            return masked(conninfo)

    click.echo(loaded.run(where))


async def _cycle(loaded: Loaded, assignments: Sequence[Assignment]) -> None:
    async with loaded.database("cycle") as database:
        await Kernel(loaded.configuration, loaded.registry, assignments, db=database).run_one_cycle()


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
