"""A lighthouse for every account: a worker, a panel, a command and an observer, as a third party would write them.

It is also the worst guest one can have: told to, its worker raises, hangs, blocks, leaks or exits.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import anyio
import click
from psycopg import AsyncConnection
from pydantic import BaseModel, Field

from coldharbour import commands
from coldharbour.accounts import AccountContext
from coldharbour.db import notify
from coldharbour.events import Event
from coldharbour.hookspecs import PanelSpec, WorkerSpec, hookimpl

from . import store

Mode = Literal["ok", "raise", "hang", "block", "leak", "exit"]
LEAK_BYTES = 200_000_000
EXIT_CODE = 7

seen: Counter[str] = Counter()
leaked: list[bytes] = []


class LighthouseSettings(BaseModel, frozen=True, extra="forbid"):
    """How the lighthouse shines."""

    interval_s: float = Field(0.5, gt=0, description="Seconds between beams.")
    mode: Mode = Field("ok", description="What every cycle does after its beam.")


async def shine(ctx: AccountContext, cfg: LighthouseSettings) -> None:
    """Count one beam, then do what the settings say, or once what the command said."""
    slug = ctx.destination.slug
    async with ctx.db.transaction() as conn:
        signal = await store.count_beam(conn, slug, seen[slug], os.getpid())
    await notify(ctx.db, f"lighthouse_{slug}", "{}")
    await behave(signal or cfg.mode)


async def behave(mode: str) -> None:
    """Do what a bad plugin might do."""
    if mode == "raise":
        raise RuntimeError("the lamp is broken")
    if mode == "hang":
        await anyio.sleep_forever()
    if mode == "block":
        time.sleep(3600)  # noqa: ASYNC251  to block the loop is the point
    if mode == "leak":
        leaked.append(b"\1" * LEAK_BYTES)
    if mode == "exit":
        os._exit(EXIT_CODE)


async def beams(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read what the panel shows."""
    return {"lamp": await store.lamp(conn, slug)}


@hookimpl
def register_workers() -> list[WorkerSpec]:
    return [
        WorkerSpec(kind="lighthouse", settings=LighthouseSettings, run=shine, every="interval_s", stall_s=3),
    ]


@hookimpl
def register_panels() -> list[PanelSpec]:
    return [
        PanelSpec(
            key="lighthouse", title="Lighthouse", package="coldharbour_lighthouse", template="lighthouse.html",
            topic="lighthouse", load=beams,
        )
    ]  # fmt: skip


@hookimpl
def register_migrations() -> list[Path]:
    return [Path(__file__).with_name("migrations")]


@hookimpl
def on_event(account: str, event: Event) -> None:
    seen[account] += 1


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command()
    @commands.config_option
    @click.option("--destination", required=True, help="The account (TOML key or slug).")
    @click.option("--signal", default="ok", help="What its next beam does, once.")
    def lighthouse(config: Path, destination: str, signal: str) -> None:
        """Show the lighthouse of an account, and tell it what to do next."""
        loaded = commands.load(config)
        slug = loaded.configuration.destination(destination).slug

        async def tell() -> int:
            async with loaded.database("lighthouse") as db, db.transaction() as conn:
                return await store.tell(conn, slug, signal)

        click.echo(f"{slug}: {loaded.run(tell)} beams")
