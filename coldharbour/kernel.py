"""The kernel: runs the workers of one process, each supervised, until it is told to stop.

Owns their lifetimes, states, leases and phases; knows nothing of brokers, orders or pages.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskStatus

from coldharbour import schema, store
from coldharbour.accounts import AccountContext, SystemContext
from coldharbour.clock import Clock, SystemClock
from coldharbour.db import Database, normalize_url, notify
from coldharbour.embedded import embedded_server
from coldharbour.errors import Transient
from coldharbour.events import Event
from coldharbour.journal import EventDispatcher, EventJournal
from coldharbour.leases import HeldLease, LeaseKeeper
from coldharbour.loader import Assignment, Registry
from coldharbour.sessions import Phase, Schedule
from coldharbour.settings import Configuration, DatabaseSettings, Destination
from coldharbour.store import WorkerRow
from coldharbour.supervise import (
    Backoff,
    Exited,
    LeaseLost,
    Returned,
    Stalled,
    State,
    Status,
    Supervisor,
    decisive,
    describe,
)

STATUS_EVERY_S = 2.0
PHASE_CHECK_S = 5.0
SCHEDULE_EVERY_S = 60.0
HEALTHY_AFTER_S = 60.0
LAST_WORDS_S = 1.0
CYCLE_WAITS_S = 10.0

log = structlog.get_logger(__name__)


class Busy(Transient):
    """The worker that was asked for one cycle is running in another process."""


@asynccontextmanager
async def database_conninfo(settings: DatabaseSettings) -> AsyncIterator[str]:
    """Yield where the database is; the embedded server runs at least as long as the block."""
    if settings.url == "embedded":
        async with embedded_server(settings.data_dir) as conninfo:
            yield conninfo
    else:
        yield normalize_url(settings.url)


async def prepare_database(conninfo: str, configuration: Configuration, registry: Registry) -> None:
    """Apply the migrations and make the partitions of every destination."""
    slugs = [destination.slug for destination in configuration.destinations]
    await anyio.to_thread.run_sync(schema.upgrade, conninfo, registry.migrations, slugs)


@dataclass(eq=False, kw_only=True)
class Lane:
    """One worker of one account (or of the installation) and everything that keeps it running."""

    assignment: Assignment
    kernel: Kernel
    context: Callable[[Lane, HeldLease | None], AccountContext | SystemContext]
    standby: bool = False
    _epoch: int | None = None  # of the newest lease it held
    _sign_at: float = 0.0
    _busy: bool = False
    status: Status = field(init=False)
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        kernel, spec = self.kernel, self.assignment.worker.spec
        self.log = log.bind(worker=spec.kind, destination=self.assignment.slug)
        self.status = Status(kernel.clock.now, kernel.status_changed)
        self.supervisor = Supervisor(
            name=spec.kind, attempt=self._attempt, status=self.status, backoff=Backoff(kernel.random),
            clock=kernel.clock, log=self.log, emit=self.emit,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """What logs and the watchdog call this lane."""
        return f"{self.assignment.worker.spec.kind}@{self.assignment.slug or 'installation'}"

    def emit(self, event: Event) -> None:
        """Put an event of this lane's account into the journal."""
        self.kernel.journal.emit(self.assignment.slug, event)

    def alive(self) -> None:
        """Note a sign of life."""
        self._sign_at = self.kernel.clock.monotonic()

    def set_lag(self, lag_s: float) -> None:
        """Note how far the worker is behind."""
        self.status.lag_s = lag_s

    def speaks(self, epochs: Mapping[tuple[str, str], int]) -> bool:
        """Say whether its state is the worker's: it neither waits for the lease nor was replaced since it held it."""
        newest = epochs.get((self.assignment.slug, self.assignment.worker.spec.kind))
        return not self.standby and self._epoch in (None, newest)

    def row(self) -> WorkerRow:
        """Return the lane's row of `accounts.worker_status`."""
        status = self.status
        return WorkerRow(
            destination=self.assignment.slug, kind=self.assignment.worker.spec.kind,
            service=self.assignment.worker.service, state=status.state.value, detail=status.detail,
            since=status.since, last_success=status.last_success, last_error=status.last_error,
            restarts=status.restarts, lag_s=status.lag_s, host=socket.gethostname(), pid=os.getpid(),
            updated_at=self.kernel.clock.now(),
        )  # fmt: skip

    async def _attempt(self) -> None:
        await self._until_awake()
        spec = self.assignment.worker.spec
        if not spec.exclusive:
            await self._run(None)
            return
        if self.status.state is not State.RETRYING:
            self.status.enter(State.STARTING, "waiting for its lease")
        self.standby = True
        async with self.kernel.leases.hold(self.assignment.slug, spec.kind) as lease:
            self.standby = False
            self._epoch = lease.epoch
            await self._run(lease)

    async def run_once(self) -> None:
        """Run one cycle. Raises what the worker raises, Busy if the worker runs elsewhere."""
        spec = self.assignment.worker.spec
        async with AsyncExitStack() as stack:
            lease = None
            if spec.exclusive:
                try:
                    with anyio.fail_after(CYCLE_WAITS_S):
                        lease = await stack.enter_async_context(
                            self.kernel.leases.hold(self.assignment.slug, spec.kind)
                        )
                except TimeoutError:
                    raise Busy(f"{spec.kind} of {self.assignment.slug} is already running elsewhere") from None
            await spec.run(self.context(self, lease), self.assignment.settings)
        self.log.info("cycle.done")

    def _is_awake(self) -> bool:
        destination = self.assignment.destination
        if destination is None or destination.disable_session_sleep:
            return True
        return self.kernel.phase_of(destination) in self.assignment.worker.spec.phases

    async def _until_awake(self) -> None:
        while not self._is_awake():
            self.status.enter(State.SLEEPING, f"runs in {', '.join(sorted(self.assignment.worker.spec.phases))}")
            await self.kernel.clock.sleep(PHASE_CHECK_S)

    async def _run(self, lease: HeldLease | None) -> None:
        if self.status.state in (State.SLEEPING, State.STARTING, State.PARKED):
            self.status.enter(State.STARTING)
        self.alive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_for_stall)
            tasks.start_soon(self._until_asleep, tasks.cancel_scope)
            if lease is not None:
                tasks.start_soon(self._until_lost, lease)
            context = self.context(self, lease)
            await (self._cycles(context) if self.assignment.worker.spec.every else self._forever(context))

    async def _cycles(self, context: AccountContext | SystemContext) -> None:
        spec, settings = self.assignment.worker.spec, self.assignment.settings
        while True:
            self.alive()
            self._busy = True
            delay_s = await spec.run(context, settings)
            self._busy = False
            self._is_ready()
            self.supervisor.backoff.reset()
            await self.supervisor.wait(getattr(settings, spec.every) if delay_s is None else delay_s)

    async def _forever(self, context: AccountContext | SystemContext) -> None:
        spec, settings = self.assignment.worker.spec, self.assignment.settings

        async def body(*, task_status: TaskStatus[None]) -> None:
            try:
                await spec.run(context, settings, task_status=task_status)
            except SystemExit as error:  # leaving its task with it would end the whole process
                raise Exited(f"worker {spec.kind} called sys.exit({error.code})") from error
            raise Returned(f"worker {spec.kind} ended by itself")

        self._busy = True
        async with anyio.create_task_group() as tasks:
            await tasks.start(body, name=self.name)
            self._busy = False
            self._is_ready()
            await self.kernel.clock.sleep(HEALTHY_AFTER_S)
            self.supervisor.backoff.reset()

    def _is_ready(self) -> None:
        if self.status.state is State.RETRYING:
            self.log.info("worker.recovered")
        self.status.succeeded()
        self.status.enter(State.READY)

    async def _watch_for_stall(self) -> None:
        limit_s = self.assignment.worker.spec.stall_s
        while True:
            await self.kernel.clock.sleep(1)
            silent_s = self.kernel.clock.monotonic() - self._sign_at
            if self._busy and silent_s > limit_s:
                raise Stalled(f"no sign of life for {silent_s:.0f} s")

    async def _until_asleep(self, scope: anyio.CancelScope) -> None:
        while self._is_awake():
            await self.kernel.clock.sleep(PHASE_CHECK_S)
        scope.cancel()

    async def _until_lost(self, lease: HeldLease) -> None:
        await lease.lost.wait()
        raise LeaseLost("the session that held the lease is gone")


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
        self._observers = [
            observer
            for service in dict.fromkeys([*services, *(assignment.worker.service for assignment in assignments)])
            for observer in registry.observers_in(service)
        ]
        self._schedules: dict[str, Schedule] = {}
        self._changed = anyio.Event()
        self._outbox: list[str] = []
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
                    self._read_schedules,
                    self._report,
                    self._hear,
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

    async def _run_lanes(self) -> None:
        async with AsyncExitStack() as stack:
            await self._open_lanes(stack)
            async with anyio.create_task_group() as tasks:
                for lane in self.lanes:
                    tasks.start_soon(lane.supervisor.run, name=lane.name)
                if not self.lanes:  # a plugin that only observes
                    await anyio.sleep_forever()

    async def _account_context(
        self, stack: AsyncExitStack, destination: Destination
    ) -> Callable[[Lane, HeldLease | None], AccountContext]:
        opened = self.registry.pm.hook.open_broker(destination=destination, clock=self.clock, random=self.random)
        broker = await stack.enter_async_context(opened)

        def context(lane: Lane, lease: HeldLease | None) -> AccountContext:
            return AccountContext(
                **self._common(lane), destination=destination, broker=broker, lease=lease,
                phase=lambda: self.phase_of(destination),
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
        """Listen for the wake-ups that other processes send."""
        async with self.db.listener() as listener, listener.subscribe("status_channel") as notes:
            async for note in notes:
                self._hear_note(note.payload)

    def _hear_note(self, payload: str) -> None:
        for lane in self.lanes:
            slug, kind = lane.assignment.slug, lane.assignment.worker.spec.kind
            if payload == f'{{"op":"wake","destination":"{slug}","kind":"{kind}"}}':
                lane.supervisor.wake()

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
