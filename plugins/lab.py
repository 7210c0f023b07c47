"""The command `coldharbour lab`: what closed trades would have brought under other rules."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import click

from coldharbour import commands
from coldharbour.destinations import Destination
from coldharbour.hookspecs import hookimpl
from coldharbour.risk.lab.experiment import Experiment, Findings
from coldharbour.risk.lab.replay import Row

HEADINGS: Final = ("trigger_r", "trades", "armed", "stopped", "saved", "scratched", "pnl_cash", "pnl_r")
CENT: Final = Decimal("0.01")


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour lab`."""
    cli.add_command(lab)


@click.group()
def lab() -> None:
    """Closed trades replayed under other rules."""


@lab.command()
@commands.config_option
@click.option("--destination", required=True, help="The account (TOML key or slug).")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only trades closed since this day (UTC).")
@click.option("--format", "form", type=click.Choice(["table", "csv"]), default="table", show_default=True)
def breakeven(config: Path, destination: str, since: datetime | None, form: str) -> None:
    """Replay closed trades with break-even at 1 to 3 R and without: what it saves and what it costs."""
    loaded = commands.load(config)
    chosen = loaded.configuration.destination(destination)
    begin = since.replace(tzinfo=UTC) if since else None
    findings = loaded.run(lambda: _replay(loaded, chosen, begin))
    lines = [_cells(row) for row in findings.rows()]
    if form == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([HEADINGS, *lines])
    else:
        _print_table(lines)
    _print_left_out(findings)


async def _replay(loaded: commands.Loaded, destination: Destination, since: datetime | None) -> Findings:
    async with (
        loaded.database("lab") as db,
        loaded.market_database(db) as market_db,
        loaded.broker(destination) as broker,
    ):
        with commands.progress(f"replaying {destination.name}") as show:
            return await Experiment(db, market_db, broker, destination.slug).run(since, show)


def _cells(row: Row) -> list[str]:
    trigger = "none" if row.trigger_r is None else str(row.trigger_r)
    counts = (row.trades, row.armed, row.stopped, row.saved, row.scratched)
    return [trigger, *map(str, counts), *(str(sum_.quantize(CENT)) for sum_ in (row.pnl_cash, row.pnl_r))]


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(HEADINGS, *lines, strict=True)]
    for line in (HEADINGS, *lines):
        click.echo("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _print_left_out(findings: Findings) -> None:
    """Name what the rows leave out, beside them: they stay a table for whoever reads it."""
    if findings.moved:
        click.echo(f"{findings.moved} trades ended at a stop that had been moved, and do so in every row", err=True)
    for reason, trades in findings.left_out.items():
        if trades:
            click.echo(f"left out, {reason}: {len(trades)}", err=True)
        for trade in trades:
            click.echo(f"  {trade.symbol} lot {trade.entry_lot_id}, exit {trade.exit_order_id}", err=True)
