"""The examples of docs/plugins.md work as printed: they load through the public door and do what the text says."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import click
import pytest
import structlog.testing
from documents import Document
from fakes.ingest import configuration_of, simulated

from coldharbour import loader, settings
from coldharbour.cli import PluginGroup
from coldharbour.databases import bring_up_to_date
from coldharbour.db import open_database
from coldharbour.events import WorkerFailed, WorkerParked
from coldharbour.kernel import Kernel
from coldharbour.registry import Registry
from coldharbour.sections import PluginSettings
from coldharbour.web.assets import Assets
from coldharbour.web.fragments import Fragments

pytestmark = pytest.mark.anyio
EXAMPLES = Document("docs/plugins.md")
NOW = datetime(2024, 5, 6, 14, 30, tzinfo=UTC)


def write(folder: Path, *names: str) -> None:
    """Write examples into a folder under the names that the document gives them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(EXAMPLES.blocks[name].text, encoding="utf-8")


class Webhook:
    """Takes messages over a real socket, after refusing the first few."""

    def __init__(self, refuse: int) -> None:
        self.bodies: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal refuse
                body = self.rfile.read(int(self.headers["content-length"]))
                refuse -= 1
                if refuse < 0:
                    outer.bodies.append(body.decode())
                self.send_response(200 if refuse < 0 else 503)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it is called by
                """Keep quiet."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret-path"

    def __enter__(self) -> Webhook:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class TestTheDropInFile:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Iterator[Path]:
        write(tmp_path, "bell.py", "bell.toml")
        yield tmp_path
        sys.modules.pop("coldharbour_dropin_bell")

    def load(self, folder: Path, environ: Mapping[str, str]) -> Registry:
        file = folder / "harbour.toml"
        tables = (folder / "bell.toml").read_text().replace('"plugins.d"', f'"{folder}"')
        file.write_text(f"{tables}\n[simulator]\n[destinations.paper]\nsimulated = true\n")
        return loader.load_plugins(settings.load(file, environ))

    async def test_it_delivers_what_a_person_must_know_even_if_the_webhook_was_away(
        self, folder: Path, database_url: str
    ) -> None:
        with Webhook(refuse=1) as webhook:
            registry = self.load(folder, {"COLDHARBOUR_WORKERS__BELL__URL": webhook.url})
            [work] = [a for a in registry.assignments if a.worker.spec.kind == "bell"]
            [(_, on_event)] = registry.observers_in("bell")
            configuration = settings.load(folder / "harbour.toml", {"COLDHARBOUR_WORKERS__BELL__URL": webhook.url})
            on_event("paper", WorkerParked(at=NOW, worker="stream", error="keys refused"))
            on_event("paper", WorkerFailed(at=NOW, worker="healing", error="a bug"))

            await bring_up_to_date(database_url, configuration, registry)
            async with open_database(database_url, name="test") as db:
                with pytest.raises(Exception, match="does not take messages: HTTPStatusError") as refused:
                    await Kernel(configuration, registry, [work], db=db).run_one_cycle()
                await Kernel(configuration, registry, [work], db=db).run_one_cycle()

            assert "secret-path" not in str(refused.value)
            assert webhook.bodies == ['{"text":"paper: stream: keys refused"}']


class TestThePackage:
    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """Install the example as pip would, in a folder of its own."""
        names = [name for name in EXAMPLES.blocks if name.startswith("headroom/")]
        write(tmp_path, *names)
        project = tomllib.loads(EXAMPLES.blocks["pyproject.toml"].text)["project"]
        entries = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["coldharbour"].items())
        info = tmp_path / "coldharbour_headroom-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
        (info / "entry_points.txt").write_text(f"[coldharbour]\n{entries}")
        monkeypatch.syspath_prepend(str(tmp_path))
        yield tmp_path
        sys.modules.pop("headroom", None)

    def test_it_is_found_by_its_entry_point(self, installed: Path) -> None:
        assert "headroom" in importlib.metadata.entry_points(group="coldharbour").names

    async def test_its_worker_fills_its_table_and_its_panel_shows_it(self, installed: Path, database_url: str) -> None:
        async with simulated("paper") as (_, address):
            floor = "[workers.headroom]\nfloor = 1_000_000_000\n"
            configuration = configuration_of(installed, {"paper": address.port}, floor)
            registry = loader.load_plugins(configuration)
            work = [a for a in registry.assignments if a.worker.spec.kind == "headroom"]
            [panel] = [p.spec for p in registry.panels if p.plugin.name == "headroom"]
            await bring_up_to_date(database_url, configuration, registry)
            async with open_database(database_url, name="test") as db:
                async with db.transaction() as conn:
                    before = Fragments(Assets({})).panel(panel, "paper", await panel.load(conn, "paper"))
                with structlog.testing.capture_logs() as logs:
                    await Kernel(configuration, registry, work, db=db).run_one_cycle()
                async with db.transaction() as conn:
                    after = Fragments(Assets({})).panel(panel, "paper", await panel.load(conn, "paper"))

        assert "not looked yet" in before
        assert "UTC" in after
        assert "headroom.short" in [log["event"] for log in logs]


def test_the_command_is_added_to_the_command_line(tmp_path: Path) -> None:
    [source] = [block.text for block in EXAMPLES.section("`register_commands`").blocks]
    (tmp_path / "purse.py").write_text(source)
    pm, plugins, problems = loader.discover(PluginSettings(directory=str(tmp_path)), tmp_path)
    group = PluginGroup()

    problems += loader.add_commands(pm, plugins, group)

    sys.modules.pop("coldharbour_dropin_purse")
    assert problems == []
    assert isinstance(group.commands["buying-power"], click.Command)
