"""The pages as a worker of the installation, and the command that serves them alone."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import BaseModel

from coldharbour import cli as commands
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.web.app import serve_web


class DashboardSettings(BaseModel, frozen=True, extra="forbid"):
    """The pages' own settings stand in [web]."""


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `web` worker; many may run, since pages only read."""
    return [
        WorkerSpec(
            kind="web",
            settings=DashboardSettings,
            run=serve_web,
            service="web",
            per_account=False,
            exclusive=False,
        )
    ]


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour web`."""

    @cli.command()
    @commands.config_option
    def web(config: Path) -> None:
        """Serve the pages alone, until Ctrl-C or SIGTERM."""
        loaded = commands.load(config)
        loaded.run_workers(loaded.select(services=["web"]), name="web")
