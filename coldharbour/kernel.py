"""The kernel: runs the workers of one process, each in its lane, until it is told to stop.

Owns what the lanes share (the database, leases, schedules, journal, states); knows nothing of brokers or orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import anyio
import anyio.to_thread
import structlog

from coldharbour import store
from coldharbour.accounts import AccountContext, SystemContext
from coldharbour.clock import Clock, SystemClock
from coldharbour.control import Control
from coldharbour.databases import market_database
from coldharbour.db import RESYNC, Database, Note, notify
from coldharbour.destinations import Destination
from coldharbour.errors import Transient
from coldharbour.journal import EventDispatcher, EventJournal
from coldharbour.lanes import Lane
from coldharbour.leases import HeldLease, LeaseKeeper
from coldharbour.registry import Assignment, Registry
from coldharbour.requests import request_channel
from coldharbour.sessions import Phase, Schedule
from coldharbour.settings import Configuration
from coldharbour.supervise import (
    State,
    decisive,
    describe,
)

STATUS_EVERY_S = 2.0
SCHEDULE_EVERY_S = 60.0
LAST_WORDS_S = 1.0
ROUSE_EVERY_S = 0.2  # a busy channel wakes its followers no more often

log = structlog.get_logger(__name__)


class Undeclared:
    """Stands where the prices would, for a worker that did not say that it uses them."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"ctx.prices.{name}: a worker has prices if its WorkerSpec says uses_prices=True")


class Kernel:
    """The workers of one process, and the observers of the services that it runs."""

    def __init__(
        self,
        configuration: Configuration,
        registry: Registry,
        assignments: Sequence[Assignment],
        *,
        db: Database,
        services: Iterable[str] = (),
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.configuration, self.registry = configuration, registry
        self.clock = clock or SystemClock()
        self.random = random or Random()
        self.db = db
        self.leases = LeaseKeeper(db)
        self.journal = EventJournal(db)
        self.control = Control(db, self.clock)
        self._observers = [
            observer
            for service in dict.fromkeys([*services, *(assignment.worker.service for assignment in assignments)])
            for observer in registry.observers_in(service)
        ]
        self._prices: Any = Undeclared()
        self._market_db = db
        self._schedules: dict[str, Schedule] = {}
        self._changed = anyio.Event()
        self._outbox: list[str] = []
        self._roused: set[Lane] = set()
        self._news = anyio.Event()
        self._assignments = assignments
        self.lanes: list[Lane] = []

    def phase_of(self, destination: Destination) -> Phase:
        """Return the market's phase for a destination; CLOSED while its calendar is unknown."""
        return self._schedules.get(destination.market, Schedule()).phase_at(self.clock.now())

    def status_changed(self) -> None:
        """Have the states written soon."""
        self._changed.set()

    def wake(self, slug: str, kind: str) -> None:
        """Run a periodic worker's next cycle now, here or in whatever process it lives."""
        local = [
            lane
            for lane in self.lanes
            if (lane.assignment.slug, lane.assignment.worker.spec.kind) == (slug, kind) and not lane.standby
        ]
        for lane in local:
            lane.supervisor.wake()
        if not local:
            self._outbox.append(f'{{"op":"wake","destination":"{slug}","kind":"{kind}"}}')
            self._changed.set()

    async def run(self) -> bool:
        """Run until cancelled, or until every worker has given up; return whether any did."""
        await self._begin()
        try:
            async with anyio.create_task_group() as tasks:
                for service in (
                    self.leases.run,
                    self.journal.run,
                    self.control.run,
                    self._read_schedules,
                    self._report,
                    self._hear,
                    self._rouse,
                ):
                    tasks.start_soon(service)
                tasks.start_soon(EventDispatcher(self.db, self.clock, self._observers).run)
                await self._run_lanes()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._last_words()
        return self.gave_up()

    def gave_up(self) -> bool:
        """Say whether any worker failed too often."""
        return any(lane.status.state is State.GAVE_UP for lane in self.lanes)

    async def run_one_cycle(self) -> None:
        """Run each assigned periodic worker once, one after the other, although some fail.

        Raises the gravest of what they raised, Busy for one that runs elsewhere.
        """
        await self._begin()
        failures = []
        try:
            async with AsyncExitStack() as stack:
                await self._open_lanes(stack)
                for lane in self.lanes:
                    try:
                        await lane.run_once()
                    except Exception as error:  # noqa: BLE001  whatever it is, the next account has its turn
                        lane.log.warning("cycle.failed", error=describe(error))
                        failures.append(error)
            await self.journal.flush()
        finally:
            await self.leases.close()
        if failures:
            raise decisive(ExceptionGroup("cycles failed", failures))

    async def _begin(self) -> None:
        async with self.db.transaction() as conn:
            await store.register_destinations(conn, [(d.slug, d.name) for d in self.configuration.destinations])
        await self._read_schedules_once()

    async def _open_lanes(self, stack: AsyncExitStack) -> None:
        self._prices = await self._open_prices(stack)
        market = market_database(self.configuration.settings.database, self.db, self.clock)
        self._market_db = await stack.enter_async_context(market)
        contexts = {
            destination.slug: await self._account_context(stack, destination)
            for destination in self.configuration.destinations
            if any(assignment.slug == destination.slug for assignment in self._assignments)
        }
        self.lanes = [
            Lane(
                assignment=assignment,
                kernel=self,
                context=contexts.get(assignment.slug, self._system_context),
            )
            for assignment in self._assignments
        ]
        self.control.lanes = self.lanes
        await self.control.read_pauses()

    async def _run_lanes(self) -> None:
        async with AsyncExitStack() as stack:
            await self._open_lanes(stack)
            async with anyio.create_task_group() as tasks:
                for lane in self.lanes:
                    tasks.start_soon(lane.supervisor.run, name=lane.name)
                if not self.lanes:  # a plugin that only observes
                    await anyio.sleep_forever()

    async def _open_prices(self, stack: AsyncExitStack) -> Any:
        """Open the price stream, once for all accounts, if a worker uses it."""
        if not any(assignment.worker.spec.uses_prices for assignment in self._assignments):
            return Undeclared()
        feed = self.configuration.settings.feed
        opened = self.registry.pm.hook.open_prices(settings=feed, clock=self.clock)
        return await stack.enter_async_context(opened)

    async def _account_context(
        self, stack: AsyncExitStack, destination: Destination
    ) -> Callable[[Lane, HeldLease | None], AccountContext]:
        opened = self.registry.pm.hook.open_broker(destination=destination, clock=self.clock, random=self.random)
        broker = await stack.enter_async_context(opened)

        def context(lane: Lane, lease: HeldLease | None) -> AccountContext:
            prices: Any = self._prices if lane.assignment.worker.spec.uses_prices else Undeclared()
            return AccountContext(
                **self._common(lane), destination=destination, broker=broker, lease=lease,
                prices=prices, market_db=self._market_db, phase=lambda: self.phase_of(destination),
            )  # fmt: skip

        return context

    def _system_context(self, lane: Lane, _lease: HeldLease | None) -> SystemContext:
        return SystemContext(**self._common(lane), configuration=self.configuration, registry=self.registry)

    def _common(self, lane: Lane) -> dict[str, Any]:
        return {
            "db": self.db, "clock": self.clock, "random": self.random, "log": lane.log, "emit": lane.emit,
            "alive": lane.alive, "lag": lane.set_lag,
            "wake": lambda kind: self.wake(lane.assignment.slug, kind),
        }  # fmt: skip

    async def _read_schedules(self) -> None:
        while True:
            await self.clock.sleep(SCHEDULE_EVERY_S if all(map(len, self._schedules.values())) else 1.0)
            await self._read_schedules_once()

    async def _read_schedules_once(self) -> None:
        try:
            async with self.db.transaction() as conn:
                for market in {destination.market for destination in self.configuration.destinations}:
                    self._schedules[market] = Schedule(await store.sessions_of(conn, market))
        except Transient as error:
            log.debug("schedule.waiting", error=str(error))

    async def _report(self) -> None:
        lost = False
        while True:
            with anyio.move_on_after(STATUS_EVERY_S):
                await self._changed.wait()
            self._changed = anyio.Event()
            try:
                await self._save_status()
            except Transient as error:
                if not lost:
                    log.warning("status.unsaved", error=str(error))
                lost = True
                await anyio.sleep(0.5)
            else:
                lost = False

    async def _save_status(self) -> None:
        async with self.db.transaction() as conn:
            epochs = await store.newest_epochs(conn)
            await store.save_status(conn, [lane.row() for lane in self.lanes if lane.speaks(epochs)])
        while self._outbox:
            await notify(self.db, "status_channel", self._outbox.pop(0))
        await notify(self.db, "status_channel", "{}")

    async def _hear(self) -> None:
        """Listen for the wake-ups that other processes send, and to the channels that workers follow."""
        followed = {channel for assignment in self._assignments for channel in assignment.channels}
        followed |= {request_channel(assignment.slug) for assignment in self._assignments if assignment.slug}
        async with self.db.listener() as listener, listener.subscribe("status_channel", *followed) as notes:
            async for note in notes:
                self._hear_note(note)

    def _hear_note(self, note: Note) -> None:
        if note is RESYNC or note.channel.startswith(request_channel("")):
            self.control.wake()
        for lane in self.lanes:
            slug, kind = lane.assignment.slug, lane.assignment.worker.spec.kind
            if note.payload == f'{{"op":"wake","destination":"{slug}","kind":"{kind}"}}':
                lane.supervisor.wake()
            elif note.channel in lane.assignment.channels or (note is RESYNC and lane.assignment.channels):
                self._roused.add(lane)
                self._news.set()

    async def _rouse(self) -> None:
        """Wake who follows a channel: at once after a pause, and together while it is busy."""
        while True:
            await self._news.wait()
            self._news, roused, self._roused = anyio.Event(), self._roused, set()
            for lane in roused:
                lane.rouse()
            await self.clock.sleep(ROUSE_EVERY_S)

    async def _last_words(self) -> None:
        for lane in self.lanes:
            if lane.status.state is not State.GAVE_UP:
                lane.status.enter(State.STOPPED)
        with anyio.move_on_after(LAST_WORDS_S):
            try:
                await self._save_status()
                await self.journal.flush()
            except Transient as error:
                log.warning("status.unsaved", error=str(error))
        await self.leases.close()
