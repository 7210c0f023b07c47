"""The pages as a worker of the installation, and the commands that serve them alone and hash a password for them."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import BaseModel

from coldharbour import commands
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.web.access.passwords import SHORTEST, hash_password
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
    """Add `coldharbour web` and `coldharbour password`."""

    @cli.command()
    @commands.config_option
    def web(config: Path) -> None:
        """Serve the pages alone, until Ctrl-C or SIGTERM."""
        loaded = commands.load(config)
        loaded.run_workers(loaded.select(services=["web"]), name="web")

    @cli.command()
    @click.option("--user", default="operator", show_default=True, help="Who will log in with it.")
    def password(user: str) -> None:
        """Ask for a password and print its hash as the variable that [web.auth] reads; nothing is stored."""
        wanted = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        if len(wanted) < SHORTEST:
            raise click.UsageError(f"a password has at least {SHORTEST} characters")
        click.echo(f"WEB_PASSWORD_HASH_{user.upper()}='{hash_password(wanted)}'")
