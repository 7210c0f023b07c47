"""The panels of plugins on one account's dashboard: loaded when their topic is noted, cell by cell in between.

Owns when a panel is loaded and what of it is told; whatever a third party's code raises shows in its panel alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio

from coldharbour.errors import Transient
from coldharbour.hookspecs import Cells, PanelSpec
from coldharbour.web.events import Change
from coldharbour.web.following import PAUSE_S, POLL_S, STATUS_CHANNEL, Follower
from coldharbour.web.pieces import Pieces, change, take_apart

if TYPE_CHECKING:
    from coldharbour.web.board import Board

LIMIT_S = 5.0
LIVE_POLL_S = 60.0  # a panel whose cells are told one by one is loaded whole this often, to be sure
BATCH_S = 0.05  # between two batches of cells; the first after a pause goes at once


class PanelReading:
    """One panel of one account. Its task reads, its notes are skimmed, its teller sends what they changed."""

    def __init__(self, board: Board, panel: PanelSpec, slug: str) -> None:
        self._board, self._panel, self._slug = board, panel, slug
        self._live = None if panel.live is None else panel.live(slug)
        self._part = f"panel-{panel.key}-{slug}"
        self._is_failing = self._is_deaf = False
        self._shown: Mapping[str, Any] | None = None  # what it was last rendered from
        self._pieces: Pieces | None = None  # what it was last rendered as
        self._told: set[str] = set()  # rows whose cells were told since then
        self._unread: list[str] | None = None  # notes heard while the panel is being loaded
        self._untold: dict[str, dict[str, Any]] = {}
        self._woken = anyio.Event()

    def follower(self) -> Follower:
        """Return what keeps it loaded."""
        topic = self._panel.topic
        channel = topic if topic == STATUS_CHANNEL else f"{topic}_{self._slug}"
        is_told = self._live is not None and not self._board.ctx.configuration.settings.web.disable_sse
        poll_s = LIVE_POLL_S if is_told else POLL_S  # cells reach streams alone
        return Follower(self._board.outage, self.read, (channel,), poll_s, self.skim)

    async def read(self) -> float:
        """Load, render and show the panel; return the seconds before which it is not loaded again.

        Raises Transient when the database does not answer: then the panel's last state stays.
        """
        fragments = self._board.fragments
        self._unread = []
        try:
            async with self._board.ctx.db.transaction(timeout_s=LIMIT_S) as conn:
                context = await self._panel.load(conn, self._slug)
            if context == self._shown:
                self._unread = None
                return PAUSE_S
            html = fragments.panel(self._panel, self._slug, context)
            changed = self._take_over(context, take_apart(html))
            self._shown, self._is_failing = context, False
        except Exception as error:  # a third party's panel may raise anything
            self._unread = self._shown = self._pieces = changed = None
            if isinstance(error, Transient):
                await self._ask_database()
            html = fragments.bare_panel(self._panel, self._slug, error=f"{type(error).__name__}: {error}")
            if not self._is_failing:
                self._board.ctx.log.exception("web.panel_failed", panel=self._panel.key, destination=self._slug)
            self._is_failing = True
        self._board.show(self._part, html, (self._slug,), changed)
        return PAUSE_S

    def skim(self, payload: str) -> bool:
        """Have a note change cells, and say whether that was all it changed."""
        if self._live is None:
            return False
        if self._unread is not None:
            self._unread.append(payload)
        try:
            cells = self._live.heard(payload)
        except Exception:  # a third party's too
            if not self._is_deaf:
                self._board.ctx.log.exception("web.note_not_understood", panel=self._panel.key, payload=payload)
            self._is_deaf, cells = True, None
        self._collect(cells or {})
        return cells is not None

    async def tell(self) -> None:
        """Send changed cells, for ever: the first at once, then once per batch."""
        while True:
            await self._woken.wait()
            cells, self._untold, self._woken = self._untold, {}, anyio.Event()
            self._board.streams.patch(self._slug, self._part, cells)
            await self._board.ctx.clock.sleep(BATCH_S)

    def _take_over(self, context: Mapping[str, Any], pieces: Pieces) -> Change | None:
        """Begin anew from what was loaded, and return what it changes; what was heard meanwhile may be newer."""
        unread, self._unread = self._unread or [], None
        before, self._pieces = self._pieces, pieces
        same = frozenset(self._live.loaded(context) or ()) if self._live else frozenset()
        changed = change(before, pieces, self._told, same) if before else None
        self._untold = {row: cells for row, cells in self._untold.items() if changed and row in same}
        self._told = set(self._untold)
        for payload in unread:
            self.skim(payload)
        return changed

    def _collect(self, cells: Cells) -> None:
        self._told.update(cells)
        for row, changed in cells.items():
            self._untold.setdefault(row, {}).update(changed)
        if cells:
            self._woken.set()

    async def _ask_database(self) -> None:
        async with self._board.ctx.db.transaction():
            pass
