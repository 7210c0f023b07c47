"""Processes: `coldharbour run` without a service is the parent of one child per service; it runs no worker.

A child that ends is started again with backoff, so that a plugin that blocks or exits harms only its own
process. The simulated broker stops last, since the others still talk to it while they stop.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import anyio
import structlog
from anyio.abc import Process

from coldharbour.supervise import Backoff

STOP_WITHIN_S = 4.5
LAST_SERVICE = "sim"
HEALTHY_AFTER_S = 60.0
PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process when its parent (a pid) dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)


async def run_children(config: Path, services: Sequence[str], *, debug: bool) -> None:
    """Run one child per service until cancelled, then stop them all within five seconds."""
    running: dict[str, Process] = {}
    stopping = anyio.Event()
    try:
        async with anyio.create_task_group() as tasks:
            for service in services:
                command = [
                    sys.executable, "-m", "coldharbour", *(["--debug"] if debug else []), "run",
                    "--config", str(config), "--service", service, "--die-with-parent", str(os.getpid()),
                ]  # fmt: skip
                tasks.start_soon(_keep_running, service, command, running, stopping.is_set)
    finally:
        stopping.set()
        with anyio.CancelScope(shield=True):
            deadline = anyio.current_time() + STOP_WITHIN_S
            for is_last in (False, True):
                stage = [process for name, process in running.items() if (name == LAST_SERVICE) is is_last]
                await _stop(stage, max(deadline - anyio.current_time(), 0.5))


async def _keep_running(
    service: str, command: Sequence[str], running: dict[str, Process], is_stopping: Callable[[], bool]
) -> None:
    backoff = Backoff(Random())
    while True:
        # A session of its own keeps the terminal's Ctrl-C from the children: the parent stops them in order.
        process = await anyio.open_process(command, stdin=None, stdout=None, stderr=None, start_new_session=True)
        running[service] = process
        with anyio.move_on_after(HEALTHY_AFTER_S) as young:
            await process.wait()
        if young.cancelled_caught:
            backoff.reset()
            await process.wait()
        del running[service]
        if is_stopping():
            return
        delay_s = backoff.next_s()
        log.error("process.ended", service=service, exit_code=process.returncode, restart_in_s=round(delay_s, 1))
        await anyio.sleep(delay_s)


async def _stop(processes: Sequence[Process], within_s: float) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it was faster
            process.terminate()
    with anyio.move_on_after(within_s):
        for process in processes:
            await process.wait()
    for process in processes:
        if process.returncode is None:
            log.error("process.killed", pid=process.pid, after_s=within_s)
            process.kill()
            await process.wait()
