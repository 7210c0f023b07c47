"""The simulated broker as a worker of the installation, and the command that runs it alone.

It speaks the broker's real protocols over real sockets; the product does not know it is talking to it.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.abc
import click
from anyio.abc import TaskStatus
from pydantic import BaseModel

from coldharbour import commands
from coldharbour.accounts import SystemContext
from coldharbour.clock import Clock, SystemClock
from coldharbour.errors import BadConfig
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.sections import SimulatorSettings
from coldharbour.settings import Configuration

from .pace import PacedClock


class SimulatorWorkerSettings(BaseModel, frozen=True, extra="forbid"):
    """The simulated broker's settings stand in [simulator]."""


async def run_simulator(ctx: SystemContext, _cfg: SimulatorWorkerSettings, *, task_status: TaskStatus[None]) -> None:
    """Serve the simulated broker to every destination with `simulated = true`."""
    await _simulate(ctx.configuration, _settings(ctx.configuration), ctx.clock, task_status)


def _settings(configuration: Configuration) -> SimulatorSettings:
    if configuration.settings.simulator is None:
        raise BadConfig(
            [f"{configuration.file}: simulator: no such table: add [simulator] to run the simulated broker"]
        )
    return configuration.settings.simulator


async def _simulate(
    configuration: Configuration, settings: SimulatorSettings, clock: Clock, task_status: TaskStatus[None]
) -> None:
    # Imported here: production loads this plugin's declarations, never its servers.
    from .broker import SimulatedBroker  # noqa: PLC0415
    from .server import serve_simulator  # noqa: PLC0415

    accounts = {d.slug: d.initial_deposit for d in configuration.destinations if d.simulated}
    broker = SimulatedBroker(
        seed=settings.seed,
        accounts=accounts,
        clock=clock if settings.speed == 1 else PacedClock(clock, settings.speed),
        history_days=settings.history_days,
        journal=settings.state_dir / "journal.jsonl",
    )
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_simulator, broker, settings)
            task_status.started()
    finally:
        broker.close()


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `simulator` worker."""
    return [
        WorkerSpec(
            kind="simulator", settings=SimulatorWorkerSettings, run=run_simulator, service="sim",
            needs="simulator", per_account=False, exclusive=False,
        )
    ]  # fmt: skip


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour sim`."""

    @cli.command()
    @commands.config_option
    def sim(config: Path) -> None:
        """Run the simulated broker alone, until Ctrl-C or SIGTERM."""
        loaded = commands.load(config)
        settings = _settings(loaded.configuration)
        loaded.run(lambda: _simulate(loaded.configuration, settings, SystemClock(), anyio.TASK_STATUS_IGNORED))
