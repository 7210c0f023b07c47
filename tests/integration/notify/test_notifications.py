"""Notifications on their whole way, from the journal to a server: once a matter, no flood, no address in any log."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import structlog
from fakes.bell import Bell, hanging_bell
from fakes.harbour import PATIENCE_S, Harbour, open_harbour

from coldharbour.clock import SystemClock
from coldharbour.events import Event, PositionUnprotected, WorkerFailed
from coldharbour.kernel import Kernel

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 10, 8, 16, tzinfo=UTC)
SECRET = "s3cretpath"
ON = "[workers.notifications]\nenabled = true\nretry_s = 0.01\nper_hour = 4\n"


class EagerClock(SystemClock):
    """A clock whose sleepers come back soon."""

    async def sleep(self, delay_s: float) -> None:
        await super().sleep(min(delay_s, 0.02))


def bare(lot: str, qty: int = 10) -> PositionUnprotected:
    return PositionUnprotected(
        at=NOON, symbol="KO", parent_id=lot, side="Long", qty=Decimal(qty), reason="no_stop", exposed_s=6.0
    )


@asynccontextmanager
async def telling(url: str, folder: Path, bell: Bell, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kernel]:
    """Run the process that tells, from when its observer and its worker are at work."""
    monkeypatch.setenv("NOTIFY_URLS", f"json://127.0.0.1:{bell.port}/{SECRET}")
    async with open_harbour(url, folder, ON) as harbour:
        work = [each for each in harbour.registry.assignments if each.worker.spec.kind == "notifications"]
        async with harbour.running(work, services=["notify"], clock=EagerClock()) as kernel:
            await until_state(harbour, "ready")
            yield kernel


async def until_state(harbour: Harbour, state: str) -> str:
    with anyio.fail_after(PATIENCE_S):
        while True:
            row = await harbour.row("notifications", "")
            if row is not None and row.state == state:
                return row.detail
            await anyio.sleep(0.05)


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while True:
            if holds():
                return
            await anyio.sleep(0.02)


async def tell(kernel: Kernel, *events: Event) -> None:
    for event in events:
        kernel.journal.emit("paper", event)
    await anyio.lowlevel.checkpoint()  # the kernel writes them


def titles(bell: Bell) -> list[str]:
    return [json.loads(body)["title"] for _, body in bell.rung]


async def begin(kernel: Kernel, bell: Bell) -> None:
    """Have a first message arrive: the observer follows the journal from its end, wherever that is."""
    with anyio.fail_after(PATIENCE_S):
        while not bell.rung:
            await tell(kernel, bare("first"))
            await anyio.sleep(0.1)


async def test_a_matter_is_sent_once_and_a_flood_is_cut_off(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hanging_bell() as bell:
        async with telling(database_url, tmp_path, bell, monkeypatch) as kernel:
            await begin(kernel, bell)

            await tell(kernel, WorkerFailed(at=NOON, worker="probe", error="not chosen"), bare("a"), bare("a", 20))
            await tell(kernel, *(bare(f"more {number}") for number in range(5)))
            await until(lambda: len(bell.rung) == 4)

            told = [json.loads(body)["message"] for _, body in bell.rung]

    assert titles(bell) == ["paper: position unprotected"] * 4
    assert "parent id first" in told[0]
    assert "parent id a, side Long, qty 10, reason no_stop, exposed s 6.0" in told[1]
    assert ["more 0" in told[2], "more 1" in told[3]] == [True, True]


async def test_a_failure_is_logged_once_and_no_log_names_the_address(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with hanging_bell() as bell, structlog.testing.capture_logs() as lines:
        async with telling(database_url, tmp_path, bell, monkeypatch) as kernel:
            await begin(kernel, bell)

            bell.answers = 500
            await tell(kernel, bare("a"), bare("b"))
            await until(lambda: len(bell.rung) == 1 + 2 * 3)
            bell.answers = 200
            await tell(kernel, bare("c"))
            await until(lambda: any(line["event"] == "notification.recovered" for line in lines))

    events = [line["event"] for line in lines if line["event"].startswith("notification.")]
    assert events == ["notification.failed", "notification.recovered"]
    assert {path for path, _ in bell.rung} == {f"/{SECRET}"}
    assert SECRET not in str(lines) + caplog.text


@pytest.mark.parametrize(
    ("urls", "why"), [("", "set the environment variable NOTIFY_URLS"), (f"nonsense://{SECRET}", "address 1 is none")]
)
async def test_without_a_usable_address_it_waits_for_a_person(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, urls: str, why: str
) -> None:
    monkeypatch.setenv("NOTIFY_URLS", urls)
    async with open_harbour(database_url, tmp_path, ON) as harbour:
        work = [each for each in harbour.registry.assignments if each.worker.spec.kind == "notifications"]

        async with harbour.running(work):
            detail = await until_state(harbour, "parked")

    assert why in detail
    assert SECRET not in detail


async def test_it_is_off_unless_it_is_switched_on(database_url: str, tmp_path: Path) -> None:
    async with open_harbour(database_url, tmp_path) as harbour:
        assert "notify" in harbour.registry.all_services()
        assert "notify" not in harbour.registry.services()
        assert harbour.registry.observers_in("notify") == []
