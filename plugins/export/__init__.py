"""The `export` command: trades, positions, equity, activities or audit of an account as CSV, JSON or Parquet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
import click

from coldharbour import commands
from coldharbour.destinations import Destination
from coldharbour.hookspecs import hookimpl
from coldharbour.web.listings import store
from coldharbour.web.listings.store import LISTINGS, Export, Listing, NoSuchTable, Rows

from .formats import parquet_library, write_csv, write_json, write_parquet

FORMATS = ("csv", "json", "parquet")


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `coldharbour export`."""

    @cli.command()
    @click.argument("what", type=click.Choice(list(LISTINGS)), metavar="WHAT")
    @commands.config_option
    @click.option("--destination", required=True, help="The account (TOML key or slug).")
    @click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
    @click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Standard output if left out.")
    def export(what: str, config: Path, destination: str, form: str, output: Path | None) -> None:
        """Write WHAT (trades, positions, equity, activities, audit) of an account as of this moment."""
        if form == "parquet":
            parquet_library()
            if output is None and sys.stdout.isatty():
                raise click.UsageError("Parquet is not for a terminal: name a file with --output")
        loaded = commands.load(config)
        chosen = loaded.configuration.destination(destination)
        try:
            loaded.run(lambda: _export(loaded, chosen, what, form, output))
        except NoSuchTable as error:
            raise click.UsageError(f"there is no {what} to export: this database has no table {error}") from error
        except BrokenPipeError:  # whoever read it has seen enough
            sys.stderr.close()


async def _export(loaded: commands.Loaded, destination: Destination, what: str, form: str, output: Path | None) -> None:
    async with loaded.database("export") as db:
        with commands.counting(f"{what} of {destination.name}") as reach, _sink(output) as sink:
            source = (db.conninfo, LISTINGS[what], destination.slug)
            await anyio.to_thread.run_sync(_write, source, form, sink, reach, abandon_on_cancel=True)


def _write(source: tuple[str, Listing, str], form: str, sink: BinaryIO, reach: Callable[[int], None]) -> None:
    conninfo, listing, slug = source
    with store.one_moment(conninfo) as conn:
        found = Export(conn, listing, slug)
        chunks = _counted(found.rows(), reach)
        if form == "csv":
            write_csv(found.columns, chunks, sink)
        elif form == "json":
            write_json(found.columns, chunks, sink)
        else:
            write_parquet(found.columns, chunks, sink, found.digits())
        sink.flush()


def _counted(chunks: Iterator[Rows], reach: Callable[[int], None]) -> Iterator[Rows]:
    for chunk in chunks:
        yield chunk
        reach(len(chunk))


@contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    """Lend what to write to; a file gets its name only once it is whole."""
    if output is None:
        yield sys.stdout.buffer
        return
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as sink:
            yield sink
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
