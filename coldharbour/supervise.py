"""Supervision: one worker kept running, whatever it throws; decides, waits and reports, opens nothing.

The exception's class decides: `Transient` is retried with backoff, `NeedsOperator` and `BadConfig` park the
worker, anything else is a bug that is logged with its traceback and restarted, until it happens too often.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from random import Random

import anyio
from structlog.typing import FilteringBoundLogger

from coldharbour.clock import Clock
from coldharbour.errors import BadConfig, NeedsOperator, Transient
from coldharbour.events import Event, WorkerFailed, WorkerGaveUp, WorkerParked

LEASE_PAUSE_S = 0.2


class State(StrEnum):
    """What a worker is doing, as people see it."""

    STARTING = "starting"
    READY = "ready"
    SLEEPING = "sleeping"
    RETRYING = "retrying"
    PARKED = "parked"
    PAUSED = "paused"
    GAVE_UP = "gave_up"
    STOPPED = "stopped"


class Stalled(Exception):
    """A worker showed no sign of life for too long."""


class Returned(Exception):
    """A worker that should run until cancelled came back."""


class Exited(Exception):
    """A worker tried to end the process."""


class LeaseLost(Transient):
    """Another holder runs this worker now, or the session that held the lock is gone."""


@dataclass(slots=True)
class Status:
    """The state of one worker, and the call that tells it changed."""

    now: Callable[[], datetime]
    changed: Callable[[], None]
    state: State = State.STARTING
    detail: str = ""
    since: datetime = field(init=False)
    last_success: datetime | None = None
    last_error: str | None = None
    restarts: int = 0
    lag_s: float | None = None

    def __post_init__(self) -> None:
        self.since = self.now()

    def enter(self, state: State, detail: str = "") -> None:
        """Move to a state; staying in one keeps its `since`."""
        if state is not self.state:
            self.since = self.now()
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self.changed()

    def succeeded(self) -> None:
        """Note a completed cycle, or that the worker became ready."""
        self.last_success = self.now()


class Backoff:
    """Growing, jittered waits: 1 s doubling to 30 s, each drawn from the upper half of its span."""

    def __init__(self, random: Random, first_s: float = 1.0, longest_s: float = 30.0) -> None:
        self._random, self._first_s, self._longest_s = random, first_s, longest_s
        self._failures = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """Return the seconds to wait after one more failure, at least what the other side asked for."""
        span_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return max(span_s * self._random.uniform(0.5, 1.0), retry_after_s or 0.0)

    def reset(self) -> None:
        """Forget the failures: it worked."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How many bugs within how many seconds are too many."""

    limit: int = 6
    window_s: float = 300.0


@dataclass(kw_only=True)
class Supervisor:
    """Keeps one worker running. `attempt` runs it until it fails; returning means it should be run again."""

    name: str
    attempt: Callable[[], Awaitable[None]]
    status: Status
    backoff: Backoff
    clock: Clock
    log: FilteringBoundLogger
    emit: Callable[[Event], None]
    policy: RestartPolicy = RestartPolicy()
    woken: anyio.Event = field(default_factory=anyio.Event)
    _bugs: deque[float] = field(default_factory=deque)

    async def run(self) -> None:
        """Run for ever; returns only after giving up."""
        while self.status.state is not State.GAVE_UP:
            try:
                await self.attempt()
            except (Exception, SystemExit, BaseExceptionGroup) as error:
                cause = decisive(error)
                if not isinstance(cause, Exception | SystemExit):
                    raise
                await self._after(cause, error)
            else:
                self.backoff.reset()

    def wake(self) -> None:
        """End the wait now; a wake while the worker is busy ends its next one: it may have looked too early."""
        self.woken.set()

    async def wait(self, delay_s: float) -> None:
        """Sleep, unless woken first or since the last wait."""
        async with anyio.create_task_group() as waiting:

            async def until_woken() -> None:
                await self.woken.wait()
                waiting.cancel_scope.cancel()

            waiting.start_soon(until_woken)
            await self.clock.sleep(delay_s)
            waiting.cancel_scope.cancel()
        self.woken = anyio.Event()

    async def _after(self, cause: BaseException, error: BaseException) -> None:
        self.status.last_error = describe(cause)
        self.woken = anyio.Event()  # whoever called before the failure did not mean the wait that follows it
        if isinstance(cause, LeaseLost):
            await self._retry(LEASE_PAUSE_S)  # taking the lease again waits for as long as it must
        elif isinstance(cause, Transient):
            await self._retry(self.backoff.next_s(cause.retry_after_s))
        elif isinstance(cause, NeedsOperator | BadConfig):
            await self._park(cause)
        else:
            await self._restart(cause, error)

    async def _retry(self, delay_s: float) -> None:
        log = self.log.debug if self.status.state is State.RETRYING else self.log.warning  # one line on loss
        log("worker.retrying", error=self.status.last_error, delay_s=round(delay_s, 1))
        self.status.enter(State.RETRYING, self.status.last_error or "")
        await self.wait(delay_s)

    async def _park(self, cause: BaseException) -> None:
        text = describe(cause)
        self.log.error("worker.parked", error=text, hint=getattr(cause, "hint", ""))
        self.emit(WorkerParked(at=self.clock.now(), worker=self.name, error=text))
        self.status.enter(State.PARKED, text)
        await self.woken.wait()
        self.backoff.reset()

    async def _restart(self, cause: BaseException, error: BaseException) -> None:
        text = describe(cause)
        now_s = self.clock.monotonic()
        self._bugs.append(now_s)
        while self._bugs[0] < now_s - self.policy.window_s:
            self._bugs.popleft()
        self.status.restarts += 1
        if len(self._bugs) >= self.policy.limit:
            self.log.critical("worker.gave_up", error=text, failures=len(self._bugs), exc_info=error)
            self.emit(WorkerGaveUp(at=self.clock.now(), worker=self.name, error=text))
            self.status.enter(State.GAVE_UP, text)
            return
        delay_s = self.backoff.next_s()
        self.log.error("worker.failed", error=text, delay_s=round(delay_s, 1), exc_info=error)
        self.emit(WorkerFailed(at=self.clock.now(), worker=self.name, error=text))
        self.status.enter(State.RETRYING, text)
        await self.wait(delay_s)


def decisive(error: BaseException) -> BaseException:
    """Return the one failure that decides among all that a task group gathered: the gravest.

    A bug outweighs what a person must mend, which outweighs what time mends.
    """
    return min(_leaves(error), key=_patience)


def _patience(error: BaseException) -> int:
    return 2 if isinstance(error, Transient) else 1 if isinstance(error, NeedsOperator | BadConfig) else 0


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def describe(error: BaseException) -> str:
    """Return one line about a failure: our errors speak for themselves, others need their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, Transient | NeedsOperator | BadConfig) else f"{type(error).__name__}: {text}"
