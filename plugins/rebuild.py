"""The `rebuild` command: recomputes everything that is derived from the lake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click

from coldharbour import commands
from coldharbour.clock import Clock, SystemClock
from coldharbour.db import Database
from coldharbour.destinations import Destination
from coldharbour.hookspecs import hookimpl
from coldharbour.live.rebuild import Show, rebuild_live
from coldharbour.metrics.rebuild import rebuild_metrics

# In the order in which they build on each other; each is given the account and says how far it has come.
Step = Callable[[Database, Destination, Clock, Show], Awaitable[None]]
STEPS: tuple[tuple[str, Step], ...] = (
    ("open and closed trades", rebuild_live),
    ("cash, equity and key figures", rebuild_metrics),
)


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour rebuild`."""

    @cli.command()
    @commands.config_option
    @commands.destination_option
    def rebuild(config: Path, destinations: tuple[str, ...]) -> None:
        """Recompute what is derived from the lake; safe to stop, to repeat, and to run beside the workers."""
        loaded = commands.load(config)
        chosen = loaded.chosen_destinations(destinations)
        loaded.run(lambda: _rebuild(loaded, chosen))


async def _rebuild(loaded: commands.Loaded, chosen: Sequence[Destination]) -> None:
    async with loaded.database("rebuild") as db:
        for destination in chosen:
            for what, step in STEPS:
                with commands.progress(f"{destination.name}: {what}") as show:
                    await step(db, destination, SystemClock(), show)
