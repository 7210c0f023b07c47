"""Keeps one embedded PostgreSQL server running while anyone uses it; never decides where its files lie.

Runs as a program of its own, `python -I -S keeper.py PLAN` (the plan as JSON), and imports nothing but the
standard library: it starts in a blink, and may leave root's rights behind once its imports are done.

Facts that the kernel keeps, and therefore true after kill -9, a reboot, or in another container, are trusted;
numbers in files are not:

- users.lock: every user of the server holds it shared. The keeper that can take it alone has no users left.
- keeper.lock: held by the one keeper of this home.
- server/server.lock: inherited by every process of the server. Free means that nobody touches the data.
- PR_SET_PDEATHSIG: the server shuts down when its keeper dies.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SUPERUSER = "postgres"
ROLE = "coldharbour"  # the role the application connects as, and the name of its database
PORT = 5432  # names the socket; nothing listens on the network

SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "wal_compression": "on",
    "client_connection_check_interval": "5s",  # a vanished client ends its query
    "authentication_timeout": "10s",
    "log_line_prefix": "%m [%p] %a ",
    "log_startup_progress_interval": "5s",  # what a user who waits for crash recovery is shown
}
CLUSTER_OPTIONS = (
    "--encoding=UTF8",
    "--locale-provider=builtin",  # sorts alike on every system, whatever its own locales
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--data-checksums",
    "--auth=peer",
    "--no-instructions",
)
LOG_LIMIT_BYTES = 10_000_000
POLL_S = 0.2  # the longest a server outlives its last user before it is told to stop
STEADY_S = 10.0  # a server that ran this long is restarted at once when it dies
MAX_RESTART_DELAY_S = 5.0
LEFTOVER_GRACE_S = 2.0
STOP_STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 5.0))  # signal, patience in s
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


class Plan(NamedTuple):
    """Everything a keeper must know; `place.prepare` makes it."""

    home: str  # our folder; belongs to the user who runs Cold Harbour
    install: str  # bin, lib and share of PostgreSQL
    socket_base: str  # where the server's user may make the socket's folder; short
    uid: int  # the server's user: our own, or for root an unprivileged one
    gid: int
    settings: Mapping[str, str]  # over SETTINGS

    @property
    def users_lock(self) -> Path:
        return Path(self.home, "users.lock")

    @property
    def keeper_lock(self) -> Path:
        return Path(self.home, "keeper.lock")

    @property
    def keeper_log(self) -> Path:
        return Path(self.home, "keeper.log")

    @property
    def server(self) -> Path:
        """The only folder that the server's user may write."""
        return Path(self.home, "server")

    @property
    def data(self) -> Path:
        return self.server / "data"

    @property
    def log(self) -> Path:
        return self.server / "postgres.log"

    @property
    def socket_link(self) -> Path:
        """Points at the socket's folder: a socket's own path may not exceed 107 bytes, a home's may."""
        return self.server / "socket"

    def program(self, name: str) -> str:
        return str(Path(self.install, "bin", name))


class CannotServeError(Exception):
    """No restart will help: the cluster cannot be made."""


def open_lock(path: Path) -> int:
    """Return a descriptor for flock; the file is made if missing, and a symlink is refused."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def try_lock(descriptor: int, how: int) -> bool:
    """Take a flock without waiting (`how`: fcntl.LOCK_EX or LOCK_SH); False if someone is in the way."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def say(message: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} keeper: {message}\n")
    sys.stderr.flush()


def keep(plan: Plan) -> None:
    """Serve until no user is left or a signal says stop. Raises CannotServeError."""
    users, mine = open_lock(plan.users_lock), open_lock(plan.keeper_lock)
    if not _take_within(mine, patience_s=1):
        return  # another keeper is at work
    owner = pwd.getpwuid(os.getuid()).pw_name
    _become(plan.uid, plan.gid)
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
    make_cluster(plan, owner)
    server = Server(plan)
    try:
        while not try_lock(users, fcntl.LOCK_EX):  # once taken it is kept: newcomers wait until we are gone
            running = server.tend()
            heard = signal.sigtimedwait((*STOP_SIGNALS, signal.SIGCHLD), POLL_S if running else POLL_S / 4)
            if heard and heard.si_signo in STOP_SIGNALS:
                say(f"stopping on signal {heard.si_signo}")
                return
    finally:
        server.stop()


def _take_within(descriptor: int, patience_s: float) -> bool:
    """Take the lock alone, with patience for a user who is only looking whether it is held."""
    deadline = time.monotonic() + patience_s
    while not try_lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _become(uid: int, gid: int) -> None:
    """Give up root's rights for good: the server's files and processes are handled as the server's user."""
    if os.getuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def make_cluster(plan: Plan, owner: str) -> None:
    """Make the cluster, its role and its database unless they exist: complete, or not there at all.

    owner: name of the operating system user who may connect. Raises CannotServeError.
    """
    if (plan.data / "PG_VERSION").exists():
        return
    fresh = plan.server / "data.new"
    if fresh.exists():
        shutil.rmtree(fresh)  # an earlier attempt that was killed
    say(f"making the database in {plan.data}")
    _run([plan.program("initdb"), "--pgdata", str(fresh), "--username", SUPERUSER, *CLUSTER_OPTIONS])
    fresh.joinpath("pg_hba.conf").write_text("local all all peer map=embedded\n")
    fresh.joinpath("pg_ident.conf").write_text("".join(f'embedded "{owner}" {role}\n' for role in (SUPERUSER, ROLE)))
    _run(
        [plan.program("postgres"), "--single", "-D", str(fresh), "-c", "exit_on_error=true", SUPERUSER],
        stdin=f"create role {ROLE} login;\ncreate database {ROLE} owner {ROLE};\n",
    )
    fresh.rename(plan.data)


def _run(command: list[str], stdin: str = "") -> None:
    done = subprocess.run(  # noqa: S603 - our own binaries, no shell
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_watched_child(os.getpid(), signal.SIGKILL),
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise CannotServeError(f"{Path(command[0]).name} failed: {reason}")


def _watched_child(parent: int, death_signal: int) -> Callable[[], None]:
    """Return what a child does between fork and exec: die with its parent, and hear signals again."""

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before it could be watched
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    return prepare


class Server:
    """The postmaster as our child: started when it is missing, stopped with all its processes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._not_before = time.monotonic()
        self._restart_delay_s = 0.0
        self._leftovers_since: float | None = None

    def tend(self) -> bool:
        """Notice a death, start again when it is time; return whether the server runs."""
        if self._process and self._process.poll() is not None:
            self._note_death(self._process.returncode)
        if not self._process and time.monotonic() >= self._not_before:
            self._start()
        _limit(self._plan.log)
        return self._process is not None

    def _note_death(self, status: int) -> None:
        now = time.monotonic()
        if now - self._started_at >= STEADY_S:
            self._restart_delay_s = 0
        else:
            self._restart_delay_s = min(max(0.1, 2 * self._restart_delay_s), MAX_RESTART_DELAY_S)
        self._not_before = now + self._restart_delay_s
        self._process = None
        say(f"the server ended with status {status}; starting it again in {self._restart_delay_s:.1f} s")

    def _start(self) -> None:
        lock = open_lock(self._plan.server / "server.lock")
        try:
            if try_lock(lock, fcntl.LOCK_EX):
                self._leftovers_since = None
                self._launch(lock)
            else:
                self._clear_leftovers()
        finally:
            os.close(lock)  # from here on only the server's own processes hold it

    def _launch(self, lock: int) -> None:
        self._plan.data.joinpath("postmaster.pid").unlink(missing_ok=True)  # stale: we hold server.lock
        socket_folder = make_socket_folder(self._plan)
        settings = {
            **SETTINGS,
            **self._plan.settings,
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{socket_folder}"',
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._plan.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binaries, no shell
                [self._plan.program("postgres"), "-D", str(self._plan.data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                preexec_fn=_watched_child(os.getpid(), signal.SIGQUIT),  # noqa: PLW1509 - no threads here
            )
        self._started_at = time.monotonic()

    def _clear_leftovers(self) -> None:
        """Ask processes of a dead postmaster to quit, then kill them: a frozen one would hold us up for ever.

        Safe for the data: what was committed is in the log, and no new server starts before they are gone.
        """
        now = time.monotonic()
        if self._leftovers_since is None:
            self._leftovers_since = now
            say("waiting for processes of an earlier server to end")
        final = now - self._leftovers_since > LEFTOVER_GRACE_S
        for pid in leftovers(self._plan.data):
            _signal(pid, signal.SIGKILL if final else signal.SIGQUIT)

    def stop(self) -> None:
        """Stop the server, with less and less courtesy, and whatever is left of an earlier one."""
        if self._process:
            _stop(self._process)
        for pid in leftovers(self._plan.data):
            _signal(pid, signal.SIGKILL)
        remove_socket_folder(self._plan)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for how, patience_s in STOP_STEPS:
        process.send_signal(how)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            say(f"the server did not stop within {patience_s:.0f} s of {how.name}")
        else:
            return


def leftovers(data: Path) -> Iterator[int]:
    """Yield the processes that are PostgreSQL and work in our data folder.

    By executable and working directory, which cannot go stale; a zombie has neither and holds nothing.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            executable = Path(str((process / "exe").readlink()).removesuffix(" (deleted)"))
            folder = (process / "cwd").readlink()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # gone meanwhile, or another user's and therefore not our server's
        if executable.name == "postgres" and folder == data:
            yield int(process.name)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself


def make_socket_folder(plan: Plan) -> Path:
    """Return a private folder for the socket: the recorded one if it is ours (again), else a new one."""
    recorded = recorded_socket_folder(plan)
    if recorded and _own_private_folder(recorded):
        _clear_socket(recorded)
        return recorded
    fresh = Path(plan.socket_base, f"coldharbour-{os.urandom(6).hex()}")
    fresh.mkdir(0o700)
    pending = plan.server / "socket.new"
    pending.unlink(missing_ok=True)
    pending.symlink_to(fresh)
    pending.replace(plan.socket_link)
    return fresh


def recorded_socket_folder(plan: Plan) -> Path | None:
    """Return the folder that the server's socket is in, None before the first start."""
    try:
        return plan.socket_link.readlink()
    except FileNotFoundError:
        return None


def _own_private_folder(folder: Path) -> bool:
    """Make the folder if it is missing; return whether it is ours alone and no symlink."""
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        found = folder.lstat()
        return found.st_uid == os.getuid() and found.st_mode == stat.S_IFDIR | 0o700
    except OSError as error:
        say(f"cannot make {folder} again: {error}")
        return False
    return True


def _clear_socket(folder: Path) -> None:
    """Remove what a killed server left: the socket's lock file names a process that may be anyone by now."""
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (folder / name).unlink(missing_ok=True)


def remove_socket_folder(plan: Plan) -> None:
    folder = recorded_socket_folder(plan)
    if folder and folder.is_dir():
        _clear_socket(folder)
        folder.rmdir()


def _limit(log: Path) -> None:
    """Start the server's log over when it is long, keeping one older piece; writers append, so they go on."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def main() -> None:
    os.closerange(3, 1024)  # whatever a user's libraries left open must not live as long as we do
    os.umask(0o077)
    os.chdir("/")
    try:
        keep(Plan(**json.loads(sys.argv[1])))
    except CannotServeError as error:
        say(str(error))
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
