"""Owns what a database connection is: its conninfo, its signs of life, its end; never a pool, never a query.

A database that stops answering is noticed by our own clock: TCP may take hours, and a frozen server process
never says a word. What takes too long is ended by cutting its socket. That is immediate, where a cancelled
psycopg call would first ask the frozen server to cancel.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from coldharbour.clock import Clock, SystemClock
from coldharbour.errors import BadConfig

MIN_BACKOFF_S, MAX_BACKOFF_S = 0.1, 5.0
LIVENESS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,  # ms
}
SESSION = {
    "timezone": "UTC",
    "statement_timeout": "7s",
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",  # our statements are short: compiling one takes longer than running it
}
DIALECT = re.compile(r"(postgres(?:ql)?)\+\w+(?=://)", re.ASCII)

log = structlog.get_logger(__name__)


def normalize_url(url: str) -> str:
    """Return a libpq conninfo for any of the usual ways to name a PostgreSQL database.

    Accepts postgresql:// and postgres:// URLs, SQLAlchemy's (postgresql+psycopg2://) and libpq's own
    "host=... dbname=...". Raises BadConfig, which never quotes the input: it may hold a password.
    """
    text = DIALECT.sub(r"\1", url.strip())
    try:
        parts = conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        parts = {}
    if not parts or not _plausible(parts):
        raise BadConfig(
            ["the database URL cannot be read"],
            hint="write postgresql://user:password@host:5432/name, with special characters of the password "
            "percent-encoded (@ as %40, / as %2F)",
        )
    return make_conninfo("", **parts)


def _plausible(parts: Mapping[str, object]) -> bool:
    """Return whether libpq read what was meant: a raw / or @ in a password moves a part of it elsewhere."""
    elsewhere = f"{parts.get('host', '')}{parts.get('dbname', '')}"
    return "@" not in elsewhere and re.fullmatch(r"[\d,]*", str(parts.get("port", ""))) is not None


def masked(url: str) -> str:
    """Return the conninfo of a URL fit for logs and pages: whatever is secret is replaced by ***."""
    try:
        parts = conninfo_to_dict(normalize_url(url))
    except BadConfig:
        return "(unreadable database URL)"
    secret = {name: "***" for name in parts if "password" in name or "secret" in name}
    return make_conninfo("", **(parts | secret))


def session_conninfo(conninfo: str, name: str) -> str:
    """Return the conninfo of one of our own sessions, which the server shows as coldharbour/<name>.

    What the operator wrote into the conninfo wins over our keepalives and timeouts.
    """
    given = conninfo_to_dict(conninfo)
    options = " ".join(f"-c {key}={value}" for key, value in SESSION.items())
    ours = LIVENESS | {"application_name": f"coldharbour/{name}"}
    return make_conninfo("", **(ours | given | {"options": f"{options} {given.get('options', '')}".strip()}))


async def wait_for_database(conninfo: str, *, clock: Clock | None = None) -> None:
    """Return when the database answers; the caller's cancel scope decides how long that may take."""
    clock = clock or SystemClock()
    started = clock.monotonic()
    delays = backoff()
    while True:
        try:
            conn = await AsyncConnection.connect(session_conninfo(conninfo, "start"))
        except psycopg.OperationalError as error:
            delay_s = next(delays)
            if delay_s == MIN_BACKOFF_S:
                log.warning("db.waiting", database=masked(conninfo), reason=one_line(error))
            await clock.sleep(delay_s)
        else:
            await conn.close()
            break
    if clock.monotonic() - started > 1:
        log.info("db.recovered", waited_s=round(clock.monotonic() - started, 1))


def backoff() -> Iterator[float]:
    """Yield the seconds to wait before the next attempts: doubling, up to MAX_BACKOFF_S."""
    delay_s = MIN_BACKOFF_S
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, MAX_BACKOFF_S)


def one_line(error: Exception) -> str:
    """Return an error as one line."""
    return " ".join(str(error).split())


class Limit:
    """Whether a connection was cut because its time was up."""

    def __init__(self) -> None:
        self.expired = False


@contextmanager
def cut_after(conn: AsyncConnection, seconds: float) -> Iterator[Limit]:
    """Cut the connection's socket if the block takes longer: a call that waits for it then fails at once.

    The server finds out by itself. Do not use the connection afterwards: it is closed as soon as it notices.
    """
    limit = Limit()

    def expire() -> None:
        limit.expired = True
        cut(conn)

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield limit
    finally:
        timer.cancel()


def cut(conn: AsyncConnection) -> None:
    """Make every call that waits for this connection fail now."""
    if conn.closed:
        return
    with socket.socket(fileno=os.dup(conn.fileno())) as ours:
        try:
            ours.shutdown(socket.SHUT_RDWR)
        except OSError as error:  # the other side was faster
            log.debug("db.already_cut", reason=str(error))
