"""A lane: one worker of one account, run in its phases, under its lease, and restarted when it fails.

Owns the worker's rhythm and state; what many lanes share is the kernel's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import structlog
from anyio.abc import TaskStatus

from coldharbour.accounts import AccountContext, SystemContext
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.events import Event
from coldharbour.leases import HeldLease
from coldharbour.registry import Assignment
from coldharbour.requests.store import PauseRow
from coldharbour.store import WorkerRow
from coldharbour.supervise import Backoff, Exited, LeaseLost, Returned, Stalled, State, Status, Supervisor

if TYPE_CHECKING:
    from coldharbour.kernel import Kernel

PHASE_CHECK_S = 5.0
HEALTHY_AFTER_S = 60.0
CYCLE_WAITS_S = 10.0

log = structlog.get_logger(__name__)


class Busy(Transient):
    """The worker that was asked for one cycle is running in another process."""


class Paused(NeedsOperator):
    """The worker that was asked for one cycle is paused."""


@dataclass(eq=False, kw_only=True)
class Lane:
    """One worker of one account (or of the installation) and everything that keeps it running."""

    assignment: Assignment
    kernel: Kernel
    context: Callable[[Lane, HeldLease | None], AccountContext | SystemContext]
    standby: bool = False
    pause: PauseRow | None = None
    _turned: anyio.Event = field(default_factory=anyio.Event)  # set when `pause` comes or goes
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
    def kind(self) -> str:
        """The kind of its worker."""
        return self.assignment.worker.spec.kind

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
        newest = epochs.get((self.assignment.slug, self.kind))
        return not self.standby and self._epoch in (None, newest)

    def rouse(self) -> None:
        """Run the next cycle now; a worker that failed keeps its wait, since notes know nothing of that."""
        if self.status.state not in (State.RETRYING, State.PARKED):
            self.supervisor.wake()

    def hold(self, pause: PauseRow | None) -> None:
        """Pause the worker, or let it go on with None; a cycle that runs is finished first."""
        if (pause is None) is (self.pause is None):
            return
        self.pause = pause
        self._turned.set()
        self._turned = anyio.Event()
        if pause is not None:
            self.supervisor.wake()  # whatever it waits for, it shall wait as a paused one

    def why_no_cycle(self) -> str:
        """Return why no cycle can be run now; empty if one can."""
        spec = self.assignment.worker.spec
        if not spec.every:
            return "it runs until stopped and has no cycles"
        if self.pause is not None:
            return f"it is paused by {self.pause.paused_by}: resume it first"
        if not self._is_awake():
            return f"it sleeps: it runs in {', '.join(sorted(spec.phases))}"
        return ""

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
        self.standby = False
        await self._until_resumed()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_paused, tasks.cancel_scope)
            await self._until_awake()
            await self._take_turn()
            tasks.cancel_scope.cancel()

    async def _take_turn(self) -> None:
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
        """Run one cycle. Raises what the worker raises, Busy if the worker runs elsewhere, Paused if it may not."""
        spec = self.assignment.worker.spec
        if self.pause is not None:
            raise Paused(
                f"{spec.kind} of {self.assignment.slug} is paused by {self.pause.paused_by}",
                hint=f"coldharbour worker resume {spec.kind} lets it go on",
            )
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
            await (spec.cycle or spec.run)(self.context(self, lease), self.assignment.settings)
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
        if self.status.state in (State.SLEEPING, State.STARTING, State.PARKED, State.PAUSED):
            self.status.enter(State.STARTING)
        self.alive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_for_stall)
            tasks.start_soon(self._until_asleep, tasks.cancel_scope)
            if lease is not None:
                tasks.start_soon(self._until_lost, lease)
            context = self.context(self, lease)
            await (self._cycles(context) if self.assignment.worker.spec.every else self._forever(context))
            tasks.cancel_scope.cancel()

    async def _cycles(self, context: AccountContext | SystemContext) -> None:
        """Run cycles until paused."""
        spec, settings = self.assignment.worker.spec, self.assignment.settings
        while self.pause is None:
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

    async def _until_resumed(self) -> None:
        while self.pause is not None:
            self.status.enter(State.PAUSED, f"by {self.pause.paused_by}")
            await self._turned.wait()
            self.supervisor.woken = anyio.Event()  # whoever called meanwhile is answered by what comes now

    async def _until_paused(self, scope: anyio.CancelScope) -> None:
        while self.pause is None:
            await self._turned.wait()
        if not (self.assignment.worker.spec.every and self._busy):  # a cycle ends by itself
            scope.cancel()

    async def _until_lost(self, lease: HeldLease) -> None:
        await lease.lost.wait()
        raise LeaseLost("the session that held the lease is gone")
