"""The `verify` command: proves that the lake holds everything the broker has, or names what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import click

from coldharbour import commands
from coldharbour.clock import SystemClock
from coldharbour.destinations import Destination
from coldharbour.hookspecs import hookimpl
from coldharbour.lake.verify import Comparison, Proof, prove


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour verify`."""

    @cli.command()
    @commands.config_option
    @commands.destination_option
    @click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Only this day, New York.")
    def verify(config: Path, destinations: tuple[str, ...], day: datetime | None) -> None:
        """Compare the lake with the broker: orders, fills, cash; print the exact missing ids. Exit 0 or 1."""
        loaded = commands.load(config)
        chosen = loaded.chosen_destinations(destinations)
        proofs = loaded.run(lambda: _prove_all(loaded, chosen, day.date() if day else None))
        if not all(proof.holds for proof in proofs):
            raise SystemExit(1)


async def _prove_all(loaded: commands.Loaded, chosen: Sequence[Destination], day: date | None) -> list[Proof]:
    proofs = []
    async with loaded.database("verify") as db:
        for destination in chosen:
            async with loaded.broker(destination) as broker:
                with commands.counting(f"reading {destination.name}") as reach:
                    proof = await prove(db, broker, destination.slug, day=day, reach=reach, clock=SystemClock())
            _print(destination, proof)
            proofs.append(proof)
    return proofs


def _print(destination: Destination, proof: Proof) -> None:
    click.echo(f"{destination.name}: {'complete' if proof.holds else 'NOT COMPLETE'}")
    for comparison in proof.comparisons:
        click.echo(f"  {comparison.what}: {comparison.at_broker} at the broker, {comparison.in_lake} in the lake")
        _print_ids(comparison)
    if proof.cash_delta is not None:
        click.echo(f"  cash: the broker has {proof.cash_delta:+} more than the lake's activities add up to")


def _print_ids(comparison: Comparison) -> None:
    for what, ids in (
        ("missing in the lake", comparison.missing),
        ("unknown to the broker", comparison.unexpected),
        ("different", comparison.different),
    ):
        for row_id in ids:
            click.echo(f"    {what}: {row_id}")
