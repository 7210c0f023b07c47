"""What is read for one account: its operations, its standing, and the rows of its lake.

Each reading is one short transaction and tells the board what to show; none knows when it is called.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from psycopg import AsyncConnection

from coldharbour import store as kernel_store
from coldharbour.metrics.documents import LATEST
from coldharbour.metrics.store import document
from coldharbour.risk.open_risk import open_risk
from coldharbour.sessions import Schedule
from coldharbour.web import store
from coldharbour.web.contexts import Account, AccountView, Market, gap_view, health, journal_view, worker_views
from coldharbour.web.following import PAUSE_S, STATUS_CHANNEL
from coldharbour.web.standings import standing

if TYPE_CHECKING:
    from coldharbour.web.board import Board

STANDING_PAUSE_S = 1.0
COUNTS_PAUSE_S = 2.0  # between two counts of its rows, and 50 times what the last count took
COUNTS_PAUSE_RATIO = 50
COUNTS_LIMIT_S = 30.0
PULSE_S = 1.0  # at most this often, the page is told that what it shows is current
SCHEDULE_S = 60.0
TAPE_ROWS = 40
GAP_ROWS = 6
JOURNAL_ROWS = 12
SPARK_SESSIONS = 90


class Operations:
    """How one account's recording does: its workers, gaps, events and market hours."""

    def __init__(self, board: Board, account: Account) -> None:
        self._board, self._ctx, self._account = board, board.ctx, account
        self._schedule = Schedule()
        self._due: dict[str, float] = {}
        slug = account.slug
        self.channels = (STATUS_CHANNEL, f"raw_channel_{slug}", f"event_channel_{slug}")

    async def read(self) -> float:
        """Read and show; return the seconds before which it is not read again."""
        async with self._ctx.db.transaction() as conn:
            view = await self._view(conn)
        self._board.show_view(view)
        if self._is_due("pulse"):
            self._due["pulse"] = self._ctx.clock.monotonic() + PULSE_S
            self._board.show_pulse(self._account.slug, view.as_of)
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

    def _is_due(self, what: str) -> bool:
        return self._ctx.clock.monotonic() >= self._due.get(what, 0.0)


class Worth:
    """Where one account stands: its key figures, the line of its returns, and what its stops leave at risk."""

    def __init__(self, board: Board, account: Account) -> None:
        self._board, self._account = board, account
        self.channels = tuple(f"{topic}_{account.slug}" for topic in ("metrics_channel", "pos_channel"))

    async def read(self) -> float:
        """Read and show; return the seconds before which it is not read again."""
        slug = self._account.slug
        async with self._board.ctx.db.transaction() as conn:
            figures = await document(conn, slug, LATEST)
            returns = await store.session_returns(conn, slug, SPARK_SESSIONS)
            risk = open_risk(await store.risked_lots(conn, slug))
            unprotected = await store.unprotected(conn, slug)
        bare = max(risk.without_stop, unprotected)  # a lot at once, what the broker holds beyond our lots when proved
        self._board.show_standing(standing(self._account, figures, returns, risk, bare))
        return STANDING_PAUSE_S


class Tally:
    """The rows of one account's lake, counted apart from the rest, since a large table takes its time."""

    def __init__(self, board: Board, slug: str) -> None:
        self._board, self._clock, self._slug = board, board.ctx.clock, slug
        self.channels = (f"raw_channel_{slug}",)

    async def read(self) -> float:
        """Count and show the rows; return the seconds before which they are not counted again."""
        started = self._clock.monotonic()
        async with self._board.ctx.db.transaction(timeout_s=COUNTS_LIMIT_S) as conn:
            counts = await store.counts(conn, self._slug)
        self._board.show_counts(self._slug, counts)
        return max(COUNTS_PAUSE_S, COUNTS_PAUSE_RATIO * (self._clock.monotonic() - started))
