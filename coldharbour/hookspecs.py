"""The hooks: everything a plugin can add to Cold Harbour, readable in two minutes.

Hooks are synchronous declarations. They do no I/O, keep no state and return frozen values; the kernel runs
what they declare. Built-in features come through the same hooks and the same entry-point group.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol

import click
import pluggy
from psycopg import AsyncConnection
from pydantic import BaseModel

from coldharbour.clock import Clock
from coldharbour.destinations import Destination
from coldharbour.events import Event
from coldharbour.sections import FeedSettings
from coldharbour.sessions import ALWAYS, Phase

if TYPE_CHECKING:
    from coldharbour.broker import Broker
    from coldharbour.feed.prices import Prices

PROJECT = "coldharbour"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """One kind of worker.

    kind: its name in the configuration ([workers.<kind>]) and on the page; unique.
    settings: the model its TOML table is checked against.
    run: one async function of (context, settings). A periodic worker's function is one cycle, and may return
        the seconds to the next one; any other runs until cancelled and accepts `task_status`, on which it
        calls `started()` when it is ready.
    every: the settings field that holds the seconds between cycles; "" for a worker that is not periodic.
    cycle: what `coldharbour cycle` runs of a worker that is not periodic: one async function of (context, settings)
        that does its work once; None if it cannot.
    wake_on: notification channels, without the slug, whose notes run a periodic worker's next cycle at once.
    service: the process it runs in: "ingest", "manage", "risk", "web"; "" means the plugin's own process.
    phases: the market phases in which it runs.
    per_account: False for one worker for the whole installation.
    needs: a section of the configuration without which it is not assigned, such as "simulator".
    exclusive: one at a time per destination across all processes and hosts.
    stall_s: seconds without a sign of life, in a cycle or before it is ready, after which it is cancelled.
    uses_prices: it reads `ctx.prices`; a process subscribes to the price stream, once, if any of its workers does.
    opt_in: it runs only where its table says `enabled = true`.
    """

    kind: str
    settings: type[BaseModel]
    run: Callable[..., Awaitable[float | None]]
    every: str = ""
    cycle: Callable[..., Awaitable[float | None]] | None = None
    wake_on: tuple[str, ...] = ()
    service: str = ""
    phases: frozenset[Phase] = ALWAYS
    needs: str = ""
    per_account: bool = True
    exclusive: bool = True
    stall_s: float = 25
    uses_prices: bool = False
    opt_in: bool = False


Cell = Sequence[str]  # the text, its tone ("gain", "loss", ...), and the x and width of its bar if it has one
Cells = Mapping[str, Mapping[str, Cell]]  # by element id of the row and by column


class LiveCells(Protocol):
    """The cells of a panel that notes change by themselves; one for each account, called by one task."""

    def loaded(self, context: Mapping[str, Any]) -> Collection[str] | None:
        """Take over what the panel was just loaded with; name the rows that need not be sent again.

        Those are the element ids of rows that stand on the page as loaded already, all their cells having been told.
        """

    def heard(self, payload: str) -> Cells | None:
        """Return the cells that a note changes; None if the panel must be loaded again."""


@dataclass(frozen=True, kw_only=True)
class PanelSpec:
    """One panel of an account's dashboard.

    key: unique name, the panel's element id. title: its heading.
    package, template: the import package that holds a folder `templates`, and the Jinja template in it.
    topic: the NOTIFY channel prefix that refreshes it ("raw_channel", "pos_channel", ...).
    load: reads the template's context for a destination's slug; a failure shows in the panel alone.
    place: its width: the whole row ("wide"), two thirds of it ("main") or the third beside them ("side").
    rank: its turn, from top to bottom; the built-in ones leave room between theirs.
    live: makes, for a slug, what turns notes of the topic into new cells, so that the panel is not loaded again.
    browse: reads one of the pages of everything the panel has, from 1, or of one New York day; they stand at
        /<slug>/panels/<key>?page=<n>&day=<YYYY-MM-DD>.
    """

    key: str
    title: str
    package: str
    template: str
    topic: str
    load: Callable[[AsyncConnection, str], Awaitable[Mapping[str, Any]]]
    place: Literal["wide", "main", "side"] = "main"
    rank: int = 50
    live: Callable[[str], LiveCells] | None = None
    browse: Callable[[AsyncConnection, str, int, date | None], Awaitable[Mapping[str, Any]]] | None = None


@hookspec
def register_workers() -> Sequence[WorkerSpec]:  # type: ignore[empty-body]
    """Declare the kinds of worker this plugin offers; return [] for none.

    Called once, before any connection opens. Each account's table [workers.<kind>] is checked against
    WorkerSpec.settings; a kind offered twice stops the start.
    """


@hookspec
def register_panels() -> Sequence[PanelSpec]:  # type: ignore[empty-body]
    """Declare the panels this plugin adds to the pages; return [] for none."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to `coldharbour`; a name that exists already stays with its owner, and a warning says so."""


@hookspec
def register_migrations() -> Sequence[Path]:  # type: ignore[empty-body]
    """Name the folders of numbered SQL migrations that the plugin's own tables need."""


@hookspec(firstresult=True)
def open_broker(destination: Destination, clock: Clock, random: Random) -> AbstractAsyncContextManager[Broker] | None:
    """Return the connection to this account's broker, unopened; None leaves it to the next plugin."""


@hookspec(firstresult=True)
def open_prices(settings: FeedSettings, clock: Clock) -> AbstractAsyncContextManager[Prices] | None:
    """Return the price stream of this process, unopened; None leaves it to the next plugin.

    Called once in a process with a worker that uses prices. The publisher need not be up when it is entered.
    """


@hookspec
def on_event(account: str, event: Event) -> None:
    """Observe a domain event of the account (its slug). Called in the plugin's own process, one at a time.

    At most once: a process that dies right after what happened was committed tells of it no more; the tables do.
    Return quickly; what takes long belongs in a worker. An exception is counted and logged, and five within
    a minute switch the observer off.
    """
