"""What operators get wrong: each mistake ends in one clear line with its place and remedy, and the right exit code."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psycopg
import pytest
from fakes.installation import Installation, eventually, free_port

REFUSED_BY_CHECK, REFUSED = 1, 2
TIDE = """
from coldharbour.hookspecs import WorkerSpec, hookimpl
from pydantic import BaseModel

class TideSettings(BaseModel, frozen=True, extra="forbid"):
    interval_s: float = 60

async def look(ctx, cfg):
    return None

@hookimpl
def register_workers():
    return [WorkerSpec(kind="tide", settings=TideSettings, run=look, every="interval_s")]
"""

BOOM = """
import click
from coldharbour.hookspecs import hookimpl

@hookimpl
def register_commands(cli):
    @cli.command()
    @click.option("--config")
    def boom(config):
        1 / 0
"""


@pytest.fixture
def demo(open_folder: Path) -> Installation:
    return Installation(open_folder)


def plugin(demo: Installation, source: str, name: str = "tide") -> None:
    folder = demo.folder / "plugins"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    demo.more = f"[plugins]\ndirectory = '{folder}'"
    demo.write(demo.demo())


def refused(demo: Installation, problem: str, **environ: str) -> None:
    """Assert that both `check` and `run` end with this one line, and no traceback."""
    line = problem.format(file=demo.config, folder=demo.folder)

    checked = demo.call("check", **environ)
    assert (checked.returncode, checked.stdout.splitlines(), checked.stderr) == (REFUSED_BY_CHECK, [line], "")

    ran = demo.call("run", **environ)
    assert (ran.returncode, ran.stdout) == (REFUSED, "")
    assert ran.stderr.splitlines()[0] == f"error: {line}"
    assert all(more.startswith("hint: ") for more in ran.stderr.splitlines()[1:])


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[web]\nprot = 5000", "{file}: web.prot: unknown key: did you mean 'port'?"),
            ("[destinations.twin]\nname = 'PAPER'\nsimulated = true",
             "{file}: destinations.twin.name: slug 'paper' is already used by 'paper': give it another name"),
            ("[destinations.other]\nname = 'Healthz'\nsimulated = true",
             "{file}: destinations.other.name: slug 'healthz' is a route of the web pages: give it another name"),
            ("[workers.haeling]", "{file}: workers.haeling: unknown worker: did you mean 'healing'?"),
            ("[workers.healing]\ninterval_s = 'often'",
             "{file}: workers.healing.interval_s: input should be a valid number, unable to parse string as a number, "
             "got 'often'"),
            ("[destinations.main]\ninitial_deposit = -1",
             "{file}: destinations.main.initial_deposit: input should be greater than or equal to 0, got -1"),
            ("[web", "{file}: not valid TOML: Expected ']' at the end of a table declaration (at end of document)"),
        ],
        ids=["wrong key", "same slug", "reserved slug", "unknown worker", "wrong setting", "wrong value", "no TOML"],
    )  # fmt: skip
    def test_a_mistake_in_the_file(self, demo: Installation, text: str, problem: str) -> None:
        demo.write("[simulator]\n[destinations.paper]\nsimulated = true\n" + text if text != "[web" else text)

        refused(demo, problem)

    def test_missing_secrets(self, demo: Installation) -> None:
        demo.write("[destinations.main]")

        refused(
            demo,
            "{file}: destinations.main: missing secret: set the environment variable ALPACA_SECRET_KEY_MAIN, "
            "or put it in a file of that name in the folder COLDHARBOUR_SECRETS_DIR",
            ALPACA_API_KEY_MAIN="PK-canary",
        )

    def test_a_database_url_that_is_none_never_shows_its_password(self, demo: Installation) -> None:
        ran = demo.call("run", "--service", "ingest", COLDHARBOUR_DATABASE__URL="postgresql://ops:canary/pass@db/x")

        assert ran.returncode == REFUSED
        assert "canary" not in ran.stderr + ran.stdout
        assert ran.stderr.splitlines()[0].startswith("error: the database URL cannot be read")
        assert "Traceback" not in ran.stderr

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--service", "ingets"], "no service 'ingets': did you mean 'ingest'?"),
            (["--worker", "steam"], "no worker 'steam': did you mean 'stream'?"),
            (["--destination", "papper"], "no destination 'papper'"),
        ],
    )
    def test_a_filter_that_nobody_passes(self, demo: Installation, arguments: list[str], problem: str) -> None:
        ran = demo.call("run", *arguments)

        assert ran.returncode == REFUSED
        assert ran.stderr.splitlines()[0] == f"error: {demo.config}: {problem}"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["cycle", "stream"], "runs until stopped and has no cycles"),
            (["chek"], "No such command 'chek'"),
            (["backfill", "--destination", "nobody"], "no destination 'nobody'"),
        ],
    )
    def test_a_command_used_wrongly(self, demo: Installation, arguments: list[str], words: str) -> None:
        ran = demo.call(*arguments)

        assert ran.returncode == REFUSED
        assert words in ran.stderr
        assert "Traceback" not in ran.stderr

    def test_what_nobody_foresaw_is_one_line_as_well_and_a_traceback_only_when_asked_for(
        self, demo: Installation
    ) -> None:
        plugin(demo, BOOM)

        ran = demo.call("boom")
        assert (ran.returncode, ran.stdout) == (3, "")
        assert ran.stderr.splitlines() == [
            "error: ZeroDivisionError: division by zero",
            "hint: nobody foresaw this one: coldharbour --debug ... shows where it happened",
        ]

        assert "Traceback" in demo.call("--debug", "boom").stderr

    def test_a_configuration_without_mistakes_is_fine(self, demo: Installation) -> None:
        checked = demo.call("check")

        assert (checked.returncode, checked.stderr) == (0, "")
        assert checked.stdout.startswith(f"{demo.config}: fine: 2 destinations")


class TestPlugins:
    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            (TIDE.replace("def register_workers", "def register_worker"),
             "plugin tide ({folder}/plugins/tide.py): unknown hook 'register_worker': "
             "did you mean 'register_workers'?"),
            ("import tide_tables",
             "plugin tide ({folder}/plugins/tide.py): cannot be loaded: "
             "ModuleNotFoundError: No module named 'tide_tables'"),
            ("raise SystemExit(0)", "plugin tide ({folder}/plugins/tide.py): cannot be loaded: SystemExit: 0"),
        ],
        ids=["misspelled hook", "fails at import", "exits at import"],
    )  # fmt: skip
    def test_a_plugin_that_cannot_be_used(self, demo: Installation, source: str, problem: str) -> None:
        plugin(demo, source)

        refused(demo, problem)

    def test_a_kind_that_is_offered_twice(self, demo: Installation) -> None:
        plugin(demo, TIDE.replace('kind="tide"', 'kind="healing"'))

        checked = demo.call("check")

        assert checked.returncode == REFUSED_BY_CHECK
        [line] = checked.stdout.splitlines()
        assert line.startswith(f"plugin tide ({demo.folder}/plugins/tide.py): worker 'healing' is already offered by")

    def test_a_broken_plugin_can_be_left_out(self, demo: Installation) -> None:
        plugin(demo, "1 / 0")
        demo.more += "\ndisabled = ['tide']"
        demo.write(demo.demo())

        assert demo.call("check").returncode == 0

    def test_without_any_plugin_for_the_broker_nothing_starts(self, demo: Installation) -> None:
        refused(
            demo,
            "{file}: plugins.disabled: no plugin connects to a broker: leave 'alpaca' in",
            COLDHARBOUR_PLUGINS__DISABLED='["alpaca"]',
        )


class TestTheWorldOutside:
    def test_a_database_that_is_away_is_waited_for_and_said_once(self, demo: Installation) -> None:
        demo.database = f"postgresql://ops:canary-password@127.0.0.1:{free_port()}/lake"
        demo.write(demo.demo())

        with demo.started("run", "--service", "ingest") as running:
            eventually(lambda: "db.waiting" in running.said())
            with pytest.raises(AssertionError):
                eventually(lambda: running.process.poll() is not None or running.said().count("\n") > 1, within_s=4)

            [line] = map(json.loads, running.said().splitlines())
            assert line["level"] == "warning"
            assert "Connection refused" in line["reason"]
            assert "canary" not in running.said()

            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(5) == 0

    def test_the_online_check_names_everything_that_is_away(self, demo: Installation) -> None:
        demo.database = f"postgresql://ops:canary-password@127.0.0.1:{free_port()}/lake"
        demo.write(demo.demo())

        checked = demo.call("check", "--online")

        assert checked.returncode == REFUSED_BY_CHECK
        database, paper, swing, feed = checked.stdout.splitlines()
        assert database.startswith(f"{demo.config}: database.url: ")
        assert database.endswith(" does not answer: is the server up?")
        assert paper.startswith(f"{demo.config}: destinations.paper.base_url: ")
        assert swing.startswith(f"{demo.config}: destinations.swing.base_url: ")
        assert feed.startswith(f"{demo.config}: feed.endpoint: tcp://127.0.0.1:{demo.price_port}: ")
        assert "canary" not in checked.stdout + checked.stderr
        assert "Traceback" not in checked.stderr

    def test_wrong_keys_park_the_workers_of_that_account_and_no_other(
        self, demo: Installation, database_url: str
    ) -> None:
        demo.database = database_url
        demo.write(
            f"{demo.demo()}\n[destinations.stranger]\nallow_custom_broker = true\n"
            f"base_url = 'http://127.0.0.1:{demo.broker_port}'\ndata_url = 'http://127.0.0.1:{demo.broker_port}'"
        )
        keys = {"ALPACA_API_KEY_STRANGER": "PK-unknown", "ALPACA_SECRET_KEY_STRANGER": "canary-secret"}

        with demo.started("run", **keys) as running:

            def states() -> dict[tuple[str, str], str]:
                with psycopg.connect(database_url) as conn:
                    rows = conn.execute("select destination, kind, state from accounts.worker_status").fetchall()
                return {(destination, kind): state for destination, kind, state in rows}

            def settled() -> bool:
                now = states()
                kinds = ("stream", "backfill", "healing")
                return all(now.get(("stranger", kind)) == "parked" for kind in kinds) and all(
                    now.get((slug, kind)) == "ready" for slug in ("paper", "swing_short") for kind in kinds
                )

            eventually(settled, what=states)
            assert "canary" not in running.said()
            unready = demo.page("/readyz")
            assert unready.status_code == 503
            assert {problem["destination"] for problem in unready.json()["problems"]} == {"stranger"}
