"""Lends this process an embedded PostgreSQL server that it shares with others; never owns the server itself.

A keeper (`keeper.py`, a process of its own) owns the server. Whoever uses it holds a shared lock on
`<home>/users.lock`, which the kernel drops even after kill -9; the keeper stops the server when the last user
is gone. The process that finds no keeper starts one, at first and whenever it died.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from coldharbour.errors import BadConfig, Transient

from . import keeper
from .keeper import PORT, ROLE, Plan, open_lock, recorded_socket_folder, try_lock
from .place import home_of, prepare

__all__ = ["embedded_server", "home_of"]

CHECK_S = 0.5  # how often a user looks whether the keeper lives
PROGRESS_S = 5.0  # how often a long start says what it waits for
LEAVE_S = 5.0  # how long the last user waits for the server to be gone
KEEPER_LOG_LIMIT_BYTES = 1_000_000
KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")  # and no more: the rest may hold secrets

log = structlog.get_logger(__name__)


@asynccontextmanager
async def embedded_server(
    data_dir: Path, *, start_timeout_s: float = 120, settings: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Keep a server for data_dir running inside the block; yields a conninfo for the application's database.

    The first user starts it (crash recovery may take most of start_timeout_s), the last one leaves nothing
    behind. settings: PostgreSQL settings over ours; they count if no server runs yet. Raises BadConfig if the
    server cannot live there (see `place.prepare`), Transient if it does not answer in time.
    """
    plan = await anyio.to_thread.run_sync(prepare, data_dir, settings)
    place_of_user = open_lock(plan.users_lock)
    watch = _KeeperWatch(plan)
    try:
        await _enter(place_of_user, start_timeout_s)
        watch.start()
        yield await _answering(plan, watch, start_timeout_s)
    finally:
        watch.stop()
        os.close(place_of_user)
        with anyio.CancelScope(shield=True):
            await _leave(plan)
        watch.reap()


async def _enter(place_of_user: int, patience_s: float) -> None:
    """Become a user; a keeper that is just closing down is let go first. Raises Transient."""
    deadline = time.monotonic() + patience_s
    while not try_lock(place_of_user, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            raise Transient(f"the embedded PostgreSQL has been stopping for {patience_s:.0f} s")
        await anyio.sleep(0.05)


class _KeeperWatch:
    """Starts a keeper whenever there is none; in a thread, so that a busy event loop cannot delay it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._pid: int | None = None  # of the keeper that we started, until it is reaped
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-keeper-watch", daemon=True)
        self.refused = False  # the keeper said that no restart will help

    def start(self) -> None:
        self.look()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(CHECK_S):
            try:
                self.look()
            except OSError as error:  # no memory, no more processes: the next look may have more luck
                log.warning("embedded.keeper_not_started", reason=str(error))

    def look(self) -> None:
        """Start a keeper if none is at work."""
        self.reap()
        if self._pid is None and not _held(self._plan.keeper_lock):
            self._pid = _spawn(self._plan)

    def reap(self) -> None:
        """Take note of the end of the keeper that we started."""
        if self._pid is None:
            return
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # someone in this process reaps all children
            self._pid = None
            return
        if pid:
            self._pid = None
            self.refused = os.waitstatus_to_exitcode(status) == os.EX_CONFIG


def _held(path: Path) -> bool:
    """Return whether someone holds this lock alone."""
    descriptor = open_lock(path)
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _spawn(plan: Plan) -> int:
    """Start a keeper in a session of its own, where a Ctrl-C meant for us does not reach it."""
    if plan.keeper_log.exists() and plan.keeper_log.stat().st_size > KEEPER_LOG_LIMIT_BYTES:
        plan.keeper_log.unlink()
    log.info("embedded.keeper_started", home=plan.home)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", str(keeper.__file__), json.dumps(plan._asdict())],
        {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ} | {"LC_ALL": "C.UTF-8"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(plan.keeper_log), append, 0o600),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    )


async def _answering(plan: Plan, watch: _KeeperWatch, timeout_s: float) -> str:
    """Return the conninfo once the server accepts connections; log every few seconds what it waits for."""
    started = told = time.monotonic()
    reason = "it is not started yet"
    while time.monotonic() - started < timeout_s:
        if watch.refused:
            problem = _last_line(plan.keeper_log).partition("keeper: ")[2]
            raise BadConfig([problem], hint=f"its log is {plan.keeper_log}")
        folder = recorded_socket_folder(plan)
        if folder:
            conninfo = make_conninfo(host=str(folder), port=PORT, user=ROLE, dbname=ROLE)
            try:
                await (await psycopg.AsyncConnection.connect(conninfo, connect_timeout=5)).close()
            except psycopg.OperationalError as error:
                reason = _last_line(plan.log) or str(error)
            else:
                return conninfo
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            log.info("embedded.starting", waited_s=round(told - started), reason=reason)
        await anyio.sleep(0.05)
    raise Transient(
        f"the embedded PostgreSQL did not answer within {timeout_s:.0f} s: {reason}",
        hint=f"its log is {plan.log}",
    )


def _last_line(path: Path) -> str:
    """Return the last line of a log, "" if there is none yet."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1].strip() if lines else ""


async def _leave(plan: Plan) -> None:
    """If we were the last user, wait until keeper and server are gone, but not for ever."""
    deadline = time.monotonic() + LEAVE_S
    users = open_lock(plan.users_lock)
    try:
        while _held(plan.keeper_lock):
            if not try_lock(users, fcntl.LOCK_EX) and try_lock(users, fcntl.LOCK_SH):
                return  # someone else still uses it
            fcntl.flock(users, fcntl.LOCK_UN)
            if time.monotonic() > deadline:
                log.warning("embedded.still_stopping", home=plan.home)
                return
            await anyio.sleep(0.05)
    finally:
        os.close(users)
