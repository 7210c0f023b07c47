"""What every test may ask for: the event loop, and a PostgreSQL database of its own."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from psycopg import sql
from psycopg.conninfo import make_conninfo

from coldharbour.embedded import embedded_server
from coldharbour.schema import upgrade

pytest_plugins = ["fakes.chromium"]

APPLICATION_ROLE = "coldharbour"


LONGEST = (
    "test_session.py", "test_any_order.py", "test_processes.py", "test_nothing_lost.py", "test_running_product.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left with it when the others are done."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A new, short folder that an embedded server's user can reach (tmp_path is closed to other users)."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """One server for the whole run, without fsync; yields its superuser's conninfo."""
    with _open_folder() as folder, start_blocking_portal() as portal:
        server = embedded_server(folder / "postgres", settings={"fsync": "off"})
        with portal.wrap_async_context_manager(server) as conninfo:
            yield make_conninfo(conninfo, user="postgres", dbname="postgres")


@pytest.fixture(scope="session")
def template_database(postgres: str) -> str:
    """The name of an empty database with the current schema, from which every test's own is copied."""
    name = "coldharbour_template"
    _create_database(postgres, name, template="template1")
    upgrade(make_conninfo(postgres, user=APPLICATION_ROLE, dbname=name))
    return name


@pytest.fixture
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    """The conninfo of a database that this test alone uses, as the application's role."""
    with _own_database(postgres, template_database) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database_url(postgres: str, template_database: str) -> Iterator[str]:
    """The same for the tests of one module together."""
    with _own_database(postgres, template_database) as url:
        yield url


@contextmanager
def _own_database(postgres: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    _create_database(postgres, name, template=template)
    yield make_conninfo(postgres, user=APPLICATION_ROLE, dbname=name)
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _create_database(postgres: str, name: str, template: str) -> None:
    # Copying the files takes a sixth of the time that writing all of it through the log does.
    statement = sql.SQL("create database {} template {} owner {} strategy file_copy")
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(statement.format(*map(sql.Identifier, (name, template, APPLICATION_ROLE))))


@contextmanager
def _open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="coldharbour-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
