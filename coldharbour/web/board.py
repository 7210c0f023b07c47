"""What the pages show now, part by part: the newest HTML of each, and who reads it again when.

Owns which part stands on which page and hands every change to the streams; tables decide, payloads only wake. A
database that is gone leaves the last reading standing and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

import anyio
from anyio.abc import TaskStatus
from markupsafe import Markup

from coldharbour import store as kernel_store
from coldharbour.accounts import SystemContext
from coldharbour.db import RESYNC, Note
from coldharbour.hookspecs import PanelSpec
from coldharbour.web import store
from coldharbour.web.contexts import Account, AccountView, WorkerView, health, worker_views
from coldharbour.web.events import Change, Streams, html_frame
from coldharbour.web.following import PAUSE_S, STATUS_CHANNEL, Follower, Outage
from coldharbour.web.fragments import Fragments
from coldharbour.web.panels import PanelReading
from coldharbour.web.readings import Operations, Tally, Worth
from coldharbour.web.standings import Standing, groups

OVERVIEW = ""  # the name of the page of all accounts; the others have their account's slug
NOTICE, INSTALLATION, TOTALS = "notice", "installation", "totals"


class Board:
    """Everything the pages show, by page and element id."""

    def __init__(self, ctx: SystemContext, fragments: Fragments, streams: Streams) -> None:
        self.ctx, self.fragments, self.streams = ctx, fragments, streams
        specs = [registered.spec for registered in ctx.registry.panels]
        self.panels: list[PanelSpec] = sorted(specs, key=lambda panel: panel.rank)
        self.accounts = {slug: Account.of(each) for each in ctx.configuration.destinations if (slug := each.slug)}
        self.pages = (OVERVIEW, *self.accounts)
        self.parts: defaultdict[str, dict[str, Markup]] = defaultdict(dict)
        self.views: dict[str, AccountView] = {}
        self.counts: dict[str, store.Counts] = {}
        self.standings: dict[str, Standing] = {}
        self.installation: tuple[WorkerView, ...] = ()
        self.resyncs = 0
        self.outage = Outage(ctx.clock, ctx.log, self._show_notice)
        self._first = [Follower(self.outage, self._read_installation, (STATUS_CHANNEL,))]
        self._later: list[Follower] = []
        self._panels: list[PanelReading] = []
        self._show_waiting()
        for account in self.accounts.values():
            self._follow(account)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep everything current, for ever; started when the accounts were read once, or could not be."""
        async with anyio.create_task_group() as tasks:
            for reading in self._first:
                await tasks.start(reading.run)
            for reading in self._later:
                tasks.start_soon(reading.run)
            for panel in self._panels:
                tasks.start_soon(panel.tell)
            tasks.start_soon(self._listen)
            task_status.started()

    def expected(self, slug: str) -> list[tuple[str, str]]:
        """Return (kind, service) of the workers that should run for an account, "" for the installation."""
        assignments = self.ctx.registry.assignments
        return [(a.worker.spec.kind, a.worker.service) for a in assignments if a.slug == slug]

    def show(self, part: str, html: Markup, pages: Iterable[str], change: Change | None = None) -> None:
        """Put new HTML into place on these pages, those that are open and those to come.

        change: what is enough for those that show what was put there last.
        """
        changed = [page for page in pages if self.parts[page].get(part) != html or (change and change.html)]
        if changed:
            for page in changed:
                self.parts[page][part] = html
            self.streams.publish(changed, part, html_frame(part, html), change)

    def show_standing(self, standing: Standing) -> None:
        """Show where an account stands: on its dashboard, on its card, in every page's tabs and in the totals."""
        slug = standing.account.slug
        self.standings[slug] = standing
        self.show(f"standing-{slug}", self.fragments.standing(standing), (OVERVIEW, slug))
        known = [self.standings[each] for each in self.accounts if each in self.standings]
        self.show(TOTALS, self.fragments.totals(groups(known)), (OVERVIEW,))
        self._show_tabs()

    def show_view(self, view: AccountView) -> None:
        """Show an account's workers, gaps and events on its dashboard, and how it does on its card."""
        slug = view.account.slug
        self.views[slug] = view
        for part, html in self.fragments.operations(view).items():
            self.show(part, html, (slug,))
        self.show(f"head-{slug}", self.fragments.head(view), (OVERVIEW, slug))
        self._show_tabs()

    def show_counts(self, slug: str, counts: store.Counts) -> None:
        """Show how many rows an account's lake has."""
        self.counts[slug] = counts
        self.show(f"counts-{slug}", self.fragments.counts(slug, counts), (slug,))

    def show_pulse(self, slug: str, as_of: datetime) -> None:
        """Tell the pages of an account that what they show of it was current at a moment."""
        self.show(f"pulse-{slug}", self.fragments.pulse(slug, as_of), (OVERVIEW, slug))

    def _follow(self, account: Account) -> None:
        operations, worth, tally = Operations(self, account), Worth(self, account), Tally(self, account.slug)
        self._first += [
            Follower(self.outage, operations.read, operations.channels),
            Follower(self.outage, worth.read, worth.channels),
        ]
        for panel in self.panels:
            reading = PanelReading(self, panel, account.slug)
            self._first.append(reading.follower())
            self._panels.append(reading)
        self._later.append(Follower(self.outage, tally.read, tally.channels))

    def _show_waiting(self) -> None:
        self._show_notice(None)
        self.show(INSTALLATION, self.fragments.installation((), health(())), self.pages)
        self.show(TOTALS, self.fragments.totals([]), (OVERVIEW,))
        self._show_tabs()
        for slug in self.accounts:
            for part, html in self.fragments.waiting(slug, self.panels).items():
                self.show(part, html, (slug,))
            for part in (f"standing-{slug}", f"head-{slug}", f"pulse-{slug}"):
                self.show(part, self.parts[slug][part], (OVERVIEW,))  # these stand on the card too

    def _show_notice(self, lost_since: datetime | None) -> None:
        self.show(NOTICE, self.fragments.notice(lost_since), self.pages)

    def _show_tabs(self) -> None:
        for slug in self.accounts:
            html = self.fragments.tabs(slug, self.accounts.values(), self.standings, self.views)
            self.show(f"tabs-{slug}", html, (slug,))

    async def _read_installation(self) -> float:
        async with self.ctx.db.transaction() as conn:
            rows = await kernel_store.worker_rows(conn)
        self.installation = worker_views(rows, self.expected(""), "", self.ctx.clock.now())
        html = self.fragments.installation(self.installation, health(self.installation))
        self.show(INSTALLATION, html, self.pages)
        return PAUSE_S

    async def _listen(self) -> None:
        followers = [*self._first, *self._later]
        channels = {channel for follower in followers for channel in follower.channels}
        async with self.ctx.db.listener() as listener, listener.subscribe(*sorted(channels)) as notes:
            async for note in notes:
                self._hear(note, followers)

    def _hear(self, note: Note, followers: Iterable[Follower]) -> None:
        if note is RESYNC:
            self.resyncs += 1
        for follower in followers:
            follower.note(note)
