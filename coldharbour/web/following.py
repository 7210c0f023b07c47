"""When the pages read: at once when a notification says that something changed, and now and then when none does.

Owns the rhythm of one reading; never knows what is read. A database that does not answer is asked again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

import anyio
import structlog
from anyio.abc import TaskStatus

from coldharbour.clock import Clock
from coldharbour.db import RESYNC, Note
from coldharbour.errors import Transient

POLL_S = 5.0  # how often a part is read when nothing says that it changed
PAUSE_S = 0.2  # between two readings of the same, however many notifications arrive
STATUS_CHANNEL = "status_channel"


@dataclass(eq=False)
class Outage:
    """Whether the database answers; `show` is told when it was lost, and None when it was found again."""

    clock: Clock
    log: structlog.typing.FilteringBoundLogger
    show: Callable[[datetime | None], None]
    lost_since: datetime | None = None

    def lost(self, error: Transient) -> None:
        """Note that the database does not answer."""
        if self.lost_since is None:
            self.lost_since = self.clock.now()
            self.log.warning("web.database_lost", error=str(error))
            self.show(self.lost_since)

    def found(self) -> None:
        """Note that the database answers."""
        if self.lost_since is not None:
            lost_s = (self.clock.now() - self.lost_since).total_seconds()
            self.log.info("web.database_found", lost_s=round(lost_s, 1))
            self.lost_since = None
            self.show(None)


@dataclass(eq=False)
class Follower:
    """Calls `read` when one of its channels was noted, and every `poll_s` when none is.

    `read` returns the seconds before which it is not called again. `skim` says whether a note's payload was dealt
    with, so that nothing need be read for it.
    """

    outage: Outage
    read: Callable[[], Awaitable[float]]
    channels: tuple[str, ...]
    poll_s: float = POLL_S
    skim: Callable[[str], bool] = lambda _payload: False
    _woken: anyio.Event = field(default_factory=anyio.Event)

    def note(self, note: Note) -> None:
        """Remember that something changed."""
        if note is RESYNC or (note.channel in self.channels and not self.skim(note.payload)):
            self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read for ever; started after the first attempt."""
        pause_s = await self._read()
        task_status.started()
        while True:
            await self.outage.clock.sleep(pause_s)
            with anyio.move_on_after(self.poll_s):
                await self._woken.wait()
            pause_s = await self._read()

    async def _read(self) -> float:
        woken, self._woken = self._woken, anyio.Event()
        try:
            pause_s = await self.read()
        except Transient as error:
            self.outage.lost(error)
            if woken.is_set():
                self._woken.set()
            return PAUSE_S
        self.outage.found()
        return pause_s
