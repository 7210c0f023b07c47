"""A whole installation as an operator has it: a folder, a configuration, free ports, the real command in processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

T = TypeVar("T")
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")  # the rest of the environment may hold settings
PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Installation:
    """One configuration in a folder of its own, two simulated accounts, and what is started with it."""

    folder: Path
    database: str = "embedded"
    more: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    web_port: int = field(default_factory=free_port)
    broker_port: int = field(default_factory=free_port)
    price_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.config = self.folder / "harbour.toml"
        self.write(self.demo())

    def demo(self) -> str:
        """Return the demo's configuration, moved to this folder and its ports."""
        return f"""
            {self.more}
            [database]
            url = "{self.database}"
            data_dir = "{self.folder}/postgres"
            [web]
            port = {self.web_port}
            [feed]
            endpoint = "tcp://127.0.0.1:{self.price_port}"
            [simulator]
            port = {self.broker_port}
            price_endpoint = "tcp://127.0.0.1:{self.price_port}"
            state_dir = "{self.folder}/simulator"
            history_days = 3
            [destinations.paper]
            name = "Paper"
            simulated = true
            initial_deposit = 60000
            [destinations.swing]
            name = "Swing Short"
            simulated = true
            initial_deposit = 120000
        """

    def write(self, text: str) -> None:
        self.config.write_text(text, encoding="utf-8")

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return kept | {"COLDHARBOUR_CONFIG": str(self.config)} | self.environ | dict(more or {})

    def command(self, *arguments: str) -> list[str]:
        """Return a command line; `--config` goes to the end, where every command takes it."""
        return [sys.executable, "-m", "coldharbour", *arguments, "--config", str(self.config)]

    def call(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=60, check=False,
            cwd=self.folder, env=self.environment(environ),
        )  # fmt: skip

    @contextmanager
    def started(self, *arguments: str, **environ: str) -> Iterator[Running]:
        """Run a command during the block; whatever is left of the installation afterwards is killed."""
        log = self.folder / f"{'-'.join(arguments)}-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(*arguments), stdout=output, stderr=output, cwd=self.folder,
                env=self.environment(environ),
            )  # fmt: skip
        try:
            yield Running(process, log)
        finally:
            process.kill()
            process.wait()
            self.kill_rest()

    def processes(self) -> dict[int, str]:
        """Return the command lines of all processes that have to do with this folder, by pid."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                home = str((folder / "cwd").readlink())
            except OSError:  # it ended meanwhile
                continue
            if line and (str(self.folder) in line or home.startswith(str(self.folder))):
                found[int(folder.name)] = line.strip()
        return found

    def kill_rest(self) -> None:
        """Leave nothing behind, whatever a test found out."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(pid, signal.SIGKILL)

    def service(self, name: str) -> int:
        """Return the pid of the process that runs a service."""

        def look() -> int | None:
            ours = self.processes().items()
            return next((pid for pid, line in ours if f"--service {name} " in f"{line} "), None)

        return eventually(look, what=self.processes)

    def page(self, path: str = "/") -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.web_port}{path}", timeout=5)

    def trade(self, events: int, *, per_s: float = 500, account: str = "paper") -> None:
        """Have the simulated broker send so many order events of an account at a steady rate."""
        url = f"http://127.0.0.1:{self.broker_port}/sim/burst"
        httpx.post(url, json={"events": events, "rate": per_s, "account": account}, timeout=5).raise_for_status()

    def is_ready(self) -> bool:
        try:
            return self.page("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@dataclass
class Running:
    """A started command and what it wrote."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def eventually(look: Callable[[], T | None], within_s: float = PATIENCE_S, what: Callable[[], object] = str) -> T:
    """Return what a look at the outside world finds, as soon as it is neither None nor False."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {within_s:g} s: {what()}")
        time.sleep(0.05)
