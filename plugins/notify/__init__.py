"""The `notifications` and `deadman` workers: chosen events told to people elsewhere, and a sign that all is well.

Both are off unless their tables switch them on. Their addresses are secrets: read from the environment, never logged.
"""

from __future__ import annotations

import os
from collections import deque
from datetime import timedelta

import anyio
import httpx
from anyio.abc import TaskStatus
from pydantic import BaseModel, Field, field_validator

from coldharbour import store
from coldharbour.accounts import SystemContext
from coldharbour.destinations import secret_text
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.events import Event
from coldharbour.hookspecs import WorkerSpec, hookimpl

from .health import ailing
from .messages import EVENTS, Outbox, message
from .sending import Address, addresses

URLS, PING_URL = "NOTIFY_URLS", "DEADMAN_URL"
LOOK_EVERY_S = 1.0

waiting: deque[tuple[str, Event]] = deque(maxlen=1_000)  # from on_event to the worker, in the process of both


class NotificationSettings(BaseModel, frozen=True, extra="forbid"):
    """What people are told of, and how often."""

    events: tuple[str, ...] = Field(
        ("PositionUnprotected", "StopExpiring", "LossLimitReached", "FlattenBegun", "FlattenBlocked", "FlattenEnded",
         "PositionDrift", "MovesDisarmed", "WorkerParked", "WorkerGaveUp"),
        description="Events that are sent, by their names.",
    )  # fmt: skip
    repeat_s: float = Field(3600, ge=0, description="Seconds in which the same matter is sent once.")
    per_hour: int = Field(
        30, gt=0, description="Most messages within an hour; the next one says how many were left out."
    )
    attempts: int = Field(3, gt=0, description="How often a message is tried at an address.")
    retry_s: float = Field(10, gt=0, description="Seconds between two attempts.")

    @field_validator("events")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in EVENTS]
        if unknown:
            raise ValueError(f"no such event: {', '.join(unknown)}; there are {', '.join(sorted(EVENTS))}")
        return names


class DeadmanSettings(BaseModel, frozen=True, extra="forbid"):
    """How often the sign of life is given, and what keeps it back."""

    interval_s: float = Field(60, gt=0, description="Seconds between two pings.")
    patience_s: float = Field(300, gt=0, description="Seconds that a worker may be unwell before there is no ping.")


async def deliver(ctx: SystemContext, cfg: NotificationSettings, *, task_status: TaskStatus[None]) -> None:
    """Send what the observer kept, each matter once in a while; a failure is logged once, and so is its end."""
    known = await addresses(secret_text(URLS, os.environ), URLS)
    outbox = Outbox(cfg.repeat_s, cfg.per_hour)
    task_status.started()
    while True:
        while waiting:
            account, event = waiting.popleft()
            if type(event).__name__ not in cfg.events:
                continue
            text = outbox.admit(message(account, event), ctx.clock.monotonic())
            if text is not None:
                async with anyio.create_task_group() as tasks:
                    for address in known:
                        tasks.start_soon(_send, ctx, cfg, address, text)
        await ctx.clock.sleep(LOOK_EVERY_S)


async def _send(ctx: SystemContext, cfg: NotificationSettings, address: Address, text: tuple[str, str]) -> None:
    for attempt in range(cfg.attempts):
        if attempt:
            await ctx.clock.sleep(cfg.retry_s)
        if await address.send(*text):
            if address.is_failing:
                ctx.log.info("notification.recovered", address=address.number)
            address.is_failing = False
            return
    if not address.is_failing:
        ctx.log.warning("notification.failed", address=address.number, kind=address.kind, attempts=cfg.attempts)
    address.is_failing = True


async def ping(ctx: SystemContext, cfg: DeadmanSettings) -> None:
    """Give one sign of life, unless some worker of the installation has been unwell for too long."""
    url = secret_text(PING_URL, os.environ)
    if not url:
        raise NeedsOperator(f"the dead-man ping has no address: set the environment variable {PING_URL}")
    async with ctx.db.transaction() as conn:
        rows = await store.worker_rows(conn)
    expected = {(work.slug, work.worker.spec.kind) for work in ctx.registry.assignments} - {("", "deadman")}
    why = ailing(rows, expected, ctx.clock.now(), timedelta(seconds=cfg.patience_s))
    if why:
        raise Transient(f"no dead-man ping: {why}")
    try:
        async with httpx.AsyncClient(timeout=10, follow_redirects=False) as http:
            answer = await http.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Transient(f"the address of {PING_URL} does not answer: {type(error).__name__}") from None
    if answer.is_error:
        raise Transient(f"the address of {PING_URL} answers with {answer.status_code}")


@hookimpl
def on_event(account: str, event: Event) -> None:
    """Keep an event until the worker has a look at it."""
    waiting.append((account, event))


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer both workers, one of each for the whole installation, in a process of their own."""
    return [
        WorkerSpec(
            kind="notifications", settings=NotificationSettings, run=deliver, per_account=False, opt_in=True,
            stall_s=60,
        ),
        WorkerSpec(
            kind="deadman", settings=DeadmanSettings, run=ping, every="interval_s", per_account=False, opt_in=True
        ),
    ]  # fmt: skip
