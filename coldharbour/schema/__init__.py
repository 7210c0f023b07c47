"""The database's shape: numbered SQL migrations and the one way they are applied; no table is made elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import structlog
import yoyo
from psycopg.conninfo import conninfo_to_dict

from coldharbour.errors import Transient

MIGRATIONS = Path(__file__).with_name("migrations")
UPGRADE_LOCK = 0x_C01D_4A2B  # any constant will do: everyone who upgrades this database takes the same one
LOCK_TIMEOUT_S = 60.0

log = structlog.get_logger(__name__)


def upgrade(conninfo: str, folders: Iterable[Path] = (), slugs: Iterable[str] = ()) -> list[str]:
    """Apply what is missing, give each slug its partitions, and return the names of what was applied.

    folders: the plugins' own migrations, applied after ours. Safe to call from many processes at once: an
    advisory lock lets one work and the others find nothing left to do. Blocking; run it in a thread.
    Raises Transient if another process holds the lock for longer than a minute.
    """
    with psycopg.connect(conninfo, autocommit=True) as conn:
        _take_lock(conn)
        applied = _apply(conninfo, [MIGRATIONS, *folders])
        for slug in slugs:
            conn.execute("select accounts.ensure_partitions(%s)", [slug])
    for name in applied:
        log.info("schema.applied", migration=name)
    return applied


def pending(conninfo: str, folders: Iterable[Path] = ()) -> list[str]:
    """Return the names of the migrations that `upgrade` would apply, in order."""
    with _backend(conninfo) as backend:
        return [migration.id for migration in backend.to_apply(_read([MIGRATIONS, *folders]))]


def _take_lock(conn: psycopg.Connection) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while conn.execute("select pg_try_advisory_lock(%s)", [UPGRADE_LOCK]).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise Transient(
                "another process has been upgrading this database for a minute",
                hint="wait for it, or end it: select pid from pg_locks where locktype = 'advisory'",
            )
        time.sleep(0.1)


def _apply(conninfo: str, folders: Sequence[Path]) -> list[str]:
    with _backend(conninfo) as backend:
        backend.break_lock()  # the library's own lock row outlives a killed process; ours does not
        missing = backend.to_apply(_read(folders))
        if missing:
            backend.apply_migrations(missing)
        return [migration.id for migration in missing]


def _read(folders: Sequence[Path]) -> yoyo.migrations.MigrationList:
    return yoyo.read_migrations(*(str(folder) for folder in folders))


def _backend(conninfo: str) -> yoyo.backends.DatabaseBackend:
    arguments = urlencode({key: value for key, value in conninfo_to_dict(conninfo).items() if value is not None})
    return yoyo.get_backend(f"postgresql+psycopg:///?{arguments}")
