"""Carries out what operators ask of this process's workers: pause, resume, a cycle now; asks nothing itself.

A pause stands in the database, so it outlives restarts and holds in every process that could run the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
import structlog
from psycopg import AsyncConnection

from coldharbour import requests
from coldharbour.clock import Clock
from coldharbour.db import Database
from coldharbour.errors import Transient
from coldharbour.requests import Action, Outcome, store
from coldharbour.requests.store import PauseRow, RequestRow
from coldharbour.supervise import State

if TYPE_CHECKING:
    from coldharbour.lanes import Lane

ACTIONS = (Action.PAUSE, Action.RESUME, Action.CYCLE)
POLL_S = 2.0

log = structlog.get_logger(__name__)


class Control:
    """Takes the requests for the lanes of one process, and holds those that are paused."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._woken = anyio.Event()
        self.lanes: Sequence[Lane] = ()

    def wake(self) -> None:
        """Look for requests now."""
        self._woken.set()

    async def run(self) -> None:
        """Look for requests when woken and every POLL_S seconds, for ever."""
        while True:
            with anyio.move_on_after(POLL_S):
                await self._woken.wait()
            self._woken = anyio.Event()
            try:
                await self.attend()
            except Transient as error:
                log.debug("control.waiting", error=str(error))

    async def read_pauses(self) -> None:
        """Learn which workers are paused, before any of them begins."""
        async with self._db.transaction() as conn:
            self._hold(await store.pauses(conn))

    async def attend(self) -> None:
        """Carry out what was asked, settle it, and hold what is paused now."""
        now = self._clock.now()
        called: list[Lane] = []
        async with self._db.transaction() as conn:
            answered = await requests.expire(conn, sorted({lane.assignment.slug for lane in self.lanes}), now)
            for lane in await self._asked(conn):
                for request in await requests.take(conn, lane.assignment.slug, lane.kind, ACTIONS, now):
                    outcome, detail = await _carry_out(conn, lane, request, now)
                    await requests.settle(conn, request, outcome, detail, now=now)
                    answered.append(request)
                    if (request.action, outcome) == (Action.CYCLE, Outcome.DONE):
                        called.append(lane)
            paused = await store.pauses(conn)
        self._hold(paused)
        for lane in called:
            lane.supervisor.wake()
        for request in answered:
            log.info("operator.answered", worker=request.worker, destination=request.destination,
                     action=request.action, asked_by=request.asked_by)  # fmt: skip
        for slug in {request.destination for request in answered}:
            await requests.announce(self._db, slug)

    async def _asked(self, conn: AsyncConnection) -> list[Lane]:
        """Return the lanes that something is asked of; one that waits for its lease leaves it to the holder."""
        waiting = await store.waiting_requests(conn, ACTIONS)
        return [lane for lane in self.lanes if not lane.standby and (lane.assignment.slug, lane.kind) in waiting]

    def _hold(self, paused: Sequence[PauseRow]) -> None:
        by_worker = {(pause.destination, pause.kind): pause for pause in paused}
        for lane in self.lanes:
            lane.hold(by_worker.get((lane.assignment.slug, lane.kind)))


async def _carry_out(conn: AsyncConnection, lane: Lane, request: RequestRow, now: datetime) -> tuple[Outcome, str]:
    slug, kind = request.destination, request.worker
    if lane.status.state is State.GAVE_UP:
        return Outcome.REFUSED, "it gave up: restart its process"
    if request.action == Action.PAUSE:
        is_new = await store.save_pause(conn, PauseRow(slug, kind, request.asked_by, now))
        return Outcome.DONE, "paused until resumed" if is_new else "it was paused already"
    if request.action == Action.RESUME:
        was_paused = await store.delete_pause(conn, slug, kind)
        return Outcome.DONE, "resumed" if was_paused else "it was not paused"
    refusal = lane.why_no_cycle()
    return (Outcome.REFUSED, refusal) if refusal else (Outcome.DONE, "its next cycle begins at once")
