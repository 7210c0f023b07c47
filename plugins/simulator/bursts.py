"""Bursts: owns the jobs that make many true events in a short time; decides nothing about the events."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import anyio
import anyio.abc
from pydantic import BaseModel, ConfigDict, Field

from .broker import SimulatedBroker
from .refusals import not_found

PACE_S = 0.005
STRIDE_EVENTS = 200  # between two breaths of the event loop
JOBS_KEPT = 20


class BurstOrder(BaseModel):
    """A request for many true events in a short time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account: str = Field(description="Slug of the account.")
    events: int = Field(gt=0, le=1_000_000, description="Events to produce.")
    rate: float | None = Field(None, gt=0, description="Events a second; null = as fast as it goes.")


@dataclass
class Burst:
    """One burst and how far it is. state: running or done."""

    id: int
    account: str
    events: int
    rate: float | None
    sent: int = 0
    elapsed_s: float = 0.0
    state: str = "running"


class Bursts:
    """The bursts under way and the newest ones done."""

    def __init__(self, broker: SimulatedBroker, tasks: anyio.abc.TaskGroup) -> None:
        self._broker = broker
        self._tasks = tasks
        self._ids = count(1)
        self.jobs: list[Burst] = []

    def start(self, order: BurstOrder) -> Burst:
        """Begin a burst in the background. Raises Refused (404) for an unknown account."""
        if order.account not in self._broker.accounts:
            raise not_found(f"no account {order.account}; there are {', '.join(self._broker.accounts)}")
        job = Burst(next(self._ids), order.account, order.events, order.rate)
        self.jobs = [*self.jobs[-JOBS_KEPT:], job]
        self._tasks.start_soon(self._run, job)
        return job

    async def _run(self, job: Burst) -> None:
        account, began = self._broker.accounts[job.account], anyio.current_time()
        while job.sent < job.events:
            job.elapsed_s = anyio.current_time() - began
            due = job.events if job.rate is None else min(job.events, int(job.elapsed_s * job.rate) + 1)
            if due > job.sent:
                job.sent += account.burst(min(due - job.sent, STRIDE_EVENTS))
            await anyio.sleep(0 if job.rate is None else PACE_S)
        job.elapsed_s = anyio.current_time() - began
        job.state = "done"
