"""What the pages show now: read again when a notification wakes it, and every few seconds when none does.

Owns the newest reading of each account and hands its parts to the streams; tables decide, payloads only
wake. A database that is gone leaves the last reading standing and says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime

import anyio
from anyio.abc import TaskStatus
from markupsafe import Markup
from psycopg import AsyncConnection

from coldharbour import store as kernel_store
from coldharbour.accounts import SystemContext
from coldharbour.db import RESYNC
from coldharbour.errors import Transient
from coldharbour.hookspecs import PanelSpec
from coldharbour.sessions import Schedule
from coldharbour.web import store
from coldharbour.web.contexts import (
    Account,
    AccountView,
    Market,
    WorkerView,
    gap_view,
    health,
    journal_view,
    worker_views,
)
from coldharbour.web.events import Streams, html_frame, json_frame
from coldharbour.web.fragments import Fragments, part_id

POLL_S = 5.0  # how often everything is read when nothing says that it changed
PAUSE_S = 0.2  # between two readings of an account, however many notifications arrive
COUNTS_PAUSE_S = 2.0  # between two counts of its rows, and 50 times what the last count took
COUNTS_PAUSE_RATIO = 50
COUNTS_LIMIT_S = 30.0
PULSE_S = 1.0  # at most this often, the page is told that what it shows is current
SCHEDULE_S = 60.0
PANEL_LIMIT_S = 5.0
TAPE_ROWS = 30
GAP_ROWS = 6
JOURNAL_ROWS = 8
NOTICE = "notice"
INSTALLATION = "installation"
STATUS_CHANNEL = "status_channel"


class Board:
    """Everything the pages show, by element id."""

    def __init__(self, ctx: SystemContext, fragments: Fragments, streams: Streams) -> None:
        self.ctx, self.fragments, self.streams = ctx, fragments, streams
        self.panels = [registered.spec for registered in ctx.registry.panels]
        self.accounts = [Account.of(destination) for destination in ctx.configuration.destinations]
        self.parts: dict[str, Markup] = {}
        self.views: dict[str, AccountView] = {}
        self.counts: dict[str, store.Counts] = {}
        self.installation: tuple[WorkerView, ...] = ()
        self.resyncs = 0
        self.lost_since: datetime | None = None
        cards = [Card(self, account) for account in self.accounts]
        tallies = [Tally(self, account.slug) for account in self.accounts]
        self._readers = [Follower(self, self._read_installation, (STATUS_CHANNEL,))]
        self._readers += [Follower(self, card.read, card.channels()) for card in cards]
        self._counters = [Follower(self, tally.read, (f"raw_channel_{tally.slug}",)) for tally in tallies]
        self._show_waiting()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep everything current, for ever; started when everything was read once, or could not be."""
        async with anyio.create_task_group() as tasks:
            for reader in self._readers:
                await tasks.start(reader.run)
            for counter in self._counters:
                tasks.start_soon(counter.run)
            tasks.start_soon(self._listen)
            task_status.started()

    def expected(self, slug: str) -> list[tuple[str, str]]:
        """Return (kind, service) of the workers that should run for an account, "" for the installation."""
        assignments = self.ctx.registry.assignments
        return [(a.worker.spec.kind, a.worker.service) for a in assignments if a.slug == slug]

    def show(self, part: str, html: Markup) -> None:
        """Put new HTML into place, on every open page and on those to come."""
        if self.parts.get(part) != html:
            self.parts[part] = html
            self.streams.publish(part, html_frame(part, html))

    def lost(self, error: Transient) -> None:
        """Note that the database does not answer."""
        if self.lost_since is None:
            self.lost_since = self.ctx.clock.now()
            self.ctx.log.warning("web.database_lost", error=str(error))
            self.show(NOTICE, self.fragments.notice(self.lost_since))

    def found(self) -> None:
        """Note that the database answers."""
        if self.lost_since is not None:
            lost_s = (self.ctx.clock.now() - self.lost_since).total_seconds()
            self.ctx.log.info("web.database_found", lost_s=round(lost_s, 1))
            self.lost_since = None
            self.show(NOTICE, self.fragments.notice(None))

    def _show_waiting(self) -> None:
        self.show(NOTICE, self.fragments.notice(None))
        self.show(INSTALLATION, self.fragments.installation((), health(())))
        for account in self.accounts:
            for part, html in self.fragments.waiting(account.slug).items():
                self.show(part, html)
            for panel in self.panels:
                part = part_id(f"panel-{panel.key}", account.slug)
                self.show(part, self.fragments.bare_panel(panel, account.slug))

    async def _read_installation(self, _noted: Set[str]) -> float:
        async with self.ctx.db.transaction() as conn:
            rows = await kernel_store.worker_rows(conn)
        self.installation = worker_views(rows, self.expected(""), "", self.ctx.clock.now())
        self.show(INSTALLATION, self.fragments.installation(self.installation, health(self.installation)))
        return PAUSE_S

    async def _listen(self) -> None:
        followers = [*self._readers, *self._counters]
        channels = {channel for follower in followers for channel in follower.channels}
        async with self.ctx.db.listener() as listener, listener.subscribe(*sorted(channels)) as notes:
            async for note in notes:
                if note is RESYNC:
                    self.resyncs += 1
                for follower in followers:
                    follower.note(follower.channels if note is RESYNC else [note.channel])


@dataclass(eq=False)
class Follower:
    """Calls `read` when one of its channels was noted, and every POLL_S when none is.

    `read` is given the noted channels, and returns the seconds before which it is not called again.
    """

    board: Board
    read: Callable[[Set[str]], Awaitable[float]]
    channels: tuple[str, ...]
    _noted: set[str] = field(default_factory=set)
    _woken: anyio.Event = field(default_factory=anyio.Event)

    def note(self, channels: Iterable[str]) -> None:
        """Remember that something changed."""
        noted = set(channels) & set(self.channels)
        if noted:
            self._noted |= noted
            self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read for ever; started after the first attempt."""
        pause_s = await self._read()
        task_status.started()
        while True:
            await self.board.ctx.clock.sleep(pause_s)
            with anyio.move_on_after(POLL_S):
                await self._woken.wait()
            pause_s = await self._read()

    async def _read(self) -> float:
        noted, self._noted, self._woken = self._noted, set(), anyio.Event()
        try:
            pause_s = await self.read(noted)
        except Transient as error:
            self.board.lost(error)
            self.note(noted)
            return PAUSE_S
        self.board.found()
        return pause_s


class Tally:
    """Counts the rows of one account's lake: apart from its card, since a large table takes its time."""

    def __init__(self, board: Board, slug: str) -> None:
        self._board, self._clock, self.slug = board, board.ctx.clock, slug

    async def read(self, _noted: Set[str]) -> float:
        """Count and show the rows; return the seconds before which they are not counted again."""
        started = self._clock.monotonic()
        async with self._board.ctx.db.transaction(timeout_s=COUNTS_LIMIT_S) as conn:
            counts = await store.counts(conn, self.slug)
        self._board.counts[self.slug] = counts
        self._board.show(part_id("counts", self.slug), self._board.fragments.counts(self.slug, counts))
        return max(COUNTS_PAUSE_S, COUNTS_PAUSE_RATIO * (self._clock.monotonic() - started))


class Card:
    """One account's card: reads its tables, and shows what changed."""

    def __init__(self, board: Board, account: Account) -> None:
        self._board, self._ctx, self._account = board, board.ctx, account
        self._schedule = Schedule()
        self._due: dict[str, float] = {}
        self._failing: set[str] = set()

    def channels(self) -> tuple[str, ...]:
        """Return the channels that say that something on the card changed."""
        slug = self._account.slug
        own = {STATUS_CHANNEL, f"raw_channel_{slug}", f"event_channel_{slug}"}
        return tuple(sorted(own | {self._channel(panel) for panel in self._board.panels}))

    async def read(self, noted: Set[str]) -> float:
        """Read the account and show what changed; return the seconds before which it is not read again.

        Raises Transient when the database does not answer.
        """
        async with self._ctx.db.transaction() as conn:
            view = await self._view(conn)
        slug = self._account.slug
        self._board.views[slug] = view
        for part, html in self._board.fragments.account(view).items():
            self._board.show(part, html)
        for panel in self._board.panels:
            if self._channel(panel) in noted or self._is_due(f"panel {panel.key}"):
                await self._show_panel(panel)
        self._pulse(view.as_of)
        return PAUSE_S

    async def _view(self, conn: AsyncConnection) -> AccountView:
        slug, now = self._account.slug, self._ctx.clock.now()
        workers = worker_views(await kernel_store.worker_rows(conn), self._board.expected(slug), slug, now)
        return AccountView(
            account=self._account,
            as_of=now,
            market=await self._market(conn, now),
            workers=workers,
            health=health(workers),
            gap_totals=await store.gap_totals(conn, slug),
            gaps=tuple(map(gap_view, await store.newest_gaps(conn, slug, GAP_ROWS))),
            tape=tuple(await store.tape(conn, slug, TAPE_ROWS)),
            journal=tuple(map(journal_view, await store.journal(conn, slug, JOURNAL_ROWS))),
            history=await store.history(conn, slug),
            cursors=tuple(await store.cursors(conn, slug)),
        )

    async def _market(self, conn: AsyncConnection, now: datetime) -> Market:
        if self._is_due("schedule"):
            self._schedule = Schedule(await kernel_store.sessions_of(conn, self._account.market))
            if not self._schedule:  # nobody has written it yet: look again at the next reading
                return Market(None, None)
            self._due["schedule"] = self._ctx.clock.monotonic() + SCHEDULE_S
        return Market(self._schedule.phase_at(now), self._schedule.next_change(now))

    async def _show_panel(self, panel: PanelSpec) -> None:
        slug = self._account.slug
        self._due[f"panel {panel.key}"] = self._ctx.clock.monotonic() + POLL_S
        try:
            async with self._ctx.db.transaction(timeout_s=PANEL_LIMIT_S) as conn:
                context = await panel.load(conn, slug)
            html = self._board.fragments.panel(panel, slug, context)
        except Exception as error:  # a third party's panel may raise anything
            html = self._board.fragments.bare_panel(panel, slug, error=f"{type(error).__name__}: {error}")
            if panel.key not in self._failing:
                self._ctx.log.exception("web.panel_failed", panel=panel.key, destination=slug)
                self._failing.add(panel.key)
        else:
            self._failing.discard(panel.key)
        self._board.show(part_id(f"panel-{panel.key}", slug), html)

    def _pulse(self, as_of: datetime) -> None:
        if self._is_due("pulse"):
            slug = self._account.slug
            self._due["pulse"] = self._ctx.clock.monotonic() + PULSE_S
            self._board.streams.publish(f"pulse-{slug}", json_frame("pulse", {"slug": slug, "at": as_of}))

    def _is_due(self, what: str) -> bool:
        return self._ctx.clock.monotonic() >= self._due.get(what, 0.0)

    def _channel(self, panel: PanelSpec) -> str:
        return panel.topic if panel.topic == STATUS_CHANNEL else f"{panel.topic}_{self._account.slug}"
