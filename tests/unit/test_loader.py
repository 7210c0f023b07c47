"""Plugins: found and checked before anything runs; what is wrong with one is a line that names it and the remedy."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from coldharbour import loader, settings
from coldharbour.errors import BadConfig
from coldharbour.loader import BUILT_IN_PACKAGE
from coldharbour.registry import Assignment, Registry
from coldharbour.sections import PluginSettings

DESTINATIONS = """
[simulator]

[destinations.paper]
simulated = true

[destinations.swing]
simulated = true
"""
TIDE = '''
    """A tide table."""

    from __future__ import annotations

    from dataclasses import dataclass

    from pydantic import BaseModel, Field

    from coldharbour.hookspecs import WorkerSpec, hookimpl

    @dataclass
    class Tide:
        height_m: float

    class TideSettings(BaseModel, frozen=True, extra="forbid"):
        interval_s: float = Field(60, gt=0, description="Seconds between looks.")
        harbour: str = Field("Cuxhaven", description="Where to look.")

    async def look(ctx, cfg):
        return None

    @hookimpl
    def register_workers():
        return [WorkerSpec(kind="tide", settings=TideSettings, run=look, every="interval_s"{arguments})]
'''


@dataclass
class Harbour:
    """A folder with a configuration and drop-in plugins."""

    folder: Path

    def plugin(self, name: str, source: str) -> Path:
        path = self.folder / "plugins" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    def tide(self, arguments: str = "", name: str = "tide") -> Path:
        return self.plugin(name, TIDE.replace("{arguments}", arguments))

    def load(
        self, text: str = "", environ: dict[str, str] | None = None, *, disabled: list[str] | None = None
    ) -> Registry:
        file = self.folder / "harbour.toml"
        (self.folder / "plugins").mkdir(exist_ok=True)
        table = f"[plugins]\ndirectory = '{self.folder / 'plugins'}'\ndisabled = {disabled or []}\n"
        file.write_text(f"{table}{DESTINATIONS}{text}")
        return loader.load_plugins(settings.load(file, environ or {}))

    def problems(
        self, text: str = "", environ: dict[str, str] | None = None, *, disabled: list[str] | None = None
    ) -> list[str]:
        """Return what is wrong, the folder left out."""
        with pytest.raises(BadConfig) as caught:
            self.load(text, environ, disabled=disabled)
        return [problem.replace(f"{self.folder}/", "") for problem in caught.value.problems]


@pytest.fixture
def harbour(tmp_path: Path) -> Harbour:
    return Harbour(tmp_path)


def of_kind(registry: Registry, kind: str) -> list[Assignment]:
    return [assignment for assignment in registry.assignments if assignment.worker.spec.kind == kind]


class TestFinding:
    def test_the_built_in_plugins_come_through_the_public_door(self, harbour: Harbour) -> None:
        registry = harbour.load()

        built_in = {plugin.name for plugin in registry.plugins if plugin.built_in}
        assert {"alpaca", "stream", "backfill", "healing", "dashboard", "simulator"} <= built_in
        for plugin in registry.plugins:
            if plugin.built_in:
                assert plugin.module.__name__.startswith(BUILT_IN_PACKAGE)
                assert BUILT_IN_PACKAGE in plugin.origin

    def test_a_file_in_the_folder_is_a_plugin_with_a_process_of_its_own(self, harbour: Harbour) -> None:
        path = harbour.tide()

        registry = harbour.load()

        [plugin] = [plugin for plugin in registry.plugins if not plugin.built_in]
        assert (plugin.name, plugin.origin, plugin.service) == ("tide", str(path), "tide")
        assert registry.workers["tide"].service == "tide"
        assert "tide" in registry.services()

    def test_a_file_that_begins_with_an_underscore_is_none(self, harbour: Harbour) -> None:
        harbour.plugin("_shared", "raise RuntimeError('never imported')")

        assert harbour.load()

    def test_a_disabled_plugin_is_not_even_imported(self, harbour: Harbour) -> None:
        harbour.plugin("broken", "raise RuntimeError('never imported')")

        registry = harbour.load(disabled=["broken", "healing"])

        assert "healing" not in registry.workers
        assert "broken" not in [plugin.name for plugin in registry.plugins]

    def test_a_name_to_disable_that_nobody_has_is_refused(self, harbour: Harbour) -> None:
        assert harbour.problems(disabled=["haeling"]) == [
            "harbour.toml: plugins.disabled: no plugin 'haeling': did you mean 'healing'?"
        ]

    def test_a_folder_that_is_not_there_is_refused(self, harbour: Harbour) -> None:
        environ = {"COLDHARBOUR_PLUGINS__DIRECTORY": f"{harbour.folder}/nowhere"}

        assert harbour.problems(environ=environ) == [
            "harbour.toml: plugins.directory: nowhere: no such folder: create it or remove the key"
        ]


class TestBrokenPlugins:
    @pytest.mark.parametrize(
        ("source", "why"),
        [
            ("raise RuntimeError('no tide today')", "RuntimeError: no tide today"),
            ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
            ("import tide_tables", "ModuleNotFoundError: No module named 'tide_tables'"),
            ("def tide(:", "SyntaxError: invalid syntax (tide.py, line 1)"),
            ("raise SystemExit(0)", "SystemExit: 0"),
        ],
    )
    def test_one_that_cannot_be_imported_says_why_in_one_line(self, harbour: Harbour, source: str, why: str) -> None:
        harbour.plugin("tide", source)

        assert harbour.problems() == [f"plugin tide (plugins/tide.py): cannot be loaded: {why}"]

    def test_it_can_be_left_out(self, harbour: Harbour) -> None:
        harbour.plugin("tide", "1 / 0")

        with pytest.raises(BadConfig) as caught:
            harbour.load()
        assert caught.value.hint == "[plugins] disabled = [...] leaves a plugin out"

    def test_a_misspelled_hook_is_never_ignored_in_silence(self, harbour: Harbour) -> None:
        path = harbour.tide()
        path.write_text(path.read_text().replace("def register_workers", "def register_worker"))

        assert harbour.problems() == [
            "plugin tide (plugins/tide.py): unknown hook 'register_worker': did you mean 'register_workers'?"
        ]

    def test_a_hook_with_a_wrong_argument_is_refused_in_one_line(self, harbour: Harbour) -> None:
        path = harbour.tide()
        path.write_text(path.read_text().replace("register_workers()", "register_workers(config)"))

        [problem] = harbour.problems()
        assert problem.startswith("plugin tide (plugins/tide.py): cannot be loaded: PluginValidationError: ")
        assert "config" in problem
        assert "\n" not in problem

    def test_a_hook_that_is_async_is_refused(self, harbour: Harbour) -> None:
        path = harbour.tide()
        path.write_text(path.read_text().replace("def register_workers", "async def register_workers"))

        assert harbour.problems() == [
            "plugin tide (plugins/tide.py): register_workers must be a plain function, not async"
        ]

    def test_an_observer_that_is_async_is_refused_and_never_called(self, harbour: Harbour) -> None:
        harbour.plugin(
            "ear",
            """
            from coldharbour.hookspecs import hookimpl
            @hookimpl
            async def on_event(account, event):
                pass
            """,
        )

        assert harbour.problems() == ["plugin ear (plugins/ear.py): on_event must be a plain function, not async"]

    @pytest.mark.parametrize("failure", ["1 / 0", "raise SystemExit(1)"])
    def test_a_hook_that_fails_says_why(self, harbour: Harbour, failure: str) -> None:
        path = harbour.tide()
        path.write_text(path.read_text().replace("return [WorkerSpec", f"{failure}; return [WorkerSpec"))

        [problem] = harbour.problems()
        assert problem.startswith("plugin tide (plugins/tide.py): register_workers failed: ")

    @pytest.mark.parametrize("hook", ["register_workers", "register_panels", "register_migrations"])
    def test_a_hook_that_returns_something_else_is_refused(self, harbour: Harbour, hook: str) -> None:
        harbour.plugin("tide", f"from coldharbour.hookspecs import hookimpl\n@hookimpl\ndef {hook}(): return ['tide']")

        [problem] = harbour.problems()
        assert problem.startswith(f"plugin tide (plugins/tide.py): {hook} must return a list of ")
        assert problem.endswith(", got 'tide'")

    def test_two_that_offer_the_same_kind_are_named_both(self, harbour: Harbour) -> None:
        harbour.tide()
        harbour.tide(name="ebb")

        assert harbour.problems() == [
            "plugin tide (plugins/tide.py): worker 'tide' is already offered by plugin ebb (plugins/ebb.py)"
        ]

    def test_one_that_takes_a_built_in_kind_is_the_one_to_blame(self, harbour: Harbour) -> None:
        path = harbour.tide()
        path.write_text(path.read_text().replace('kind="tide"', 'kind="healing"'))

        [problem] = harbour.problems()
        assert problem.startswith(
            "plugin tide (plugins/tide.py): worker 'healing' is already offered by plugin healing"
        )

    def test_one_that_takes_a_built_in_name_is_refused(self, harbour: Harbour) -> None:
        harbour.tide(name="stream")

        [problem] = harbour.problems()
        assert problem.startswith("plugin stream (plugins/stream.py): cannot be loaded: ValueError: ")

    def test_a_rhythm_without_its_setting_is_refused(self, harbour: Harbour) -> None:
        path = harbour.tide()
        path.write_text(path.read_text().replace('every="interval_s"', 'every="interval"'))

        assert harbour.problems() == [
            "plugin tide (plugins/tide.py): worker 'tide': its settings have no field 'interval'"
        ]

    def test_a_need_that_no_section_meets_is_refused(self, harbour: Harbour) -> None:
        harbour.tide(arguments=", needs='tides'")

        assert harbour.problems() == [
            "plugin tide (plugins/tide.py): worker 'tide' needs 'tides', which is no section of the configuration"
        ]


class TestAssignments:
    def test_every_account_gets_one_of_every_kind(self, harbour: Harbour) -> None:
        harbour.tide()

        assigned = of_kind(harbour.load(), "tide")

        assert [assignment.slug for assignment in assigned] == ["paper", "swing"]

    def test_a_worker_of_the_installation_is_assigned_once_to_no_account(self, harbour: Harbour) -> None:
        harbour.tide(arguments=", per_account=False")

        [assignment] = of_kind(harbour.load(), "tide")

        assert (assignment.destination, assignment.slug) == (None, "")

    def test_a_worker_without_the_section_it_needs_is_not_assigned(self, harbour: Harbour, tmp_path: Path) -> None:
        file = tmp_path / "real.toml"
        file.write_text("[destinations.main]")
        keys = {"ALPACA_API_KEY_MAIN": "PK-key", "ALPACA_SECRET_KEY_MAIN": "secret"}

        registry = loader.load_plugins(settings.load(file, keys))

        assert "simulator" in registry.workers
        assert of_kind(registry, "simulator") == []
        assert "sim" not in registry.services()

    def test_settings_come_from_the_default_table_and_then_from_the_accounts_own(self, harbour: Harbour) -> None:
        harbour.tide()
        text = """
            [workers.tide]
            interval_s = 5
            [destinations.swing.workers.tide]
            harbour = "Dover"
        """

        paper, swing = (assignment.settings.model_dump() for assignment in of_kind(harbour.load(text), "tide"))

        assert paper == {"interval_s": 5, "harbour": "Cuxhaven"}
        assert swing == {"interval_s": 5, "harbour": "Dover"}

    @pytest.mark.parametrize("off", ["false", "'no'", "'OFF'", "0"])
    def test_a_worker_can_be_switched_off_for_one_account(self, harbour: Harbour, off: str) -> None:
        harbour.tide()

        assigned = of_kind(harbour.load(f"[destinations.paper.workers.tide]\nenabled = {off}"), "tide")

        assert [assignment.slug for assignment in assigned] == ["swing"]

    def test_a_worker_can_be_switched_off_for_all_but_one(self, harbour: Harbour) -> None:
        harbour.tide()
        environ = {"COLDHARBOUR_WORKERS__TIDE__ENABLED": "false"}

        assigned = of_kind(harbour.load("[destinations.swing.workers.tide]\nenabled = true", environ), "tide")

        assert [assignment.slug for assignment in assigned] == ["swing"]

    def test_every_mistake_in_every_table_is_reported_at_once(self, harbour: Harbour) -> None:
        harbour.tide()
        text = """
            [workers.tyde]
            [workers.tide]
            interval_s = 0
            [destinations.paper.workers.heeling]
            [destinations.swing.workers.tide]
            harbor = "Dover"
        """

        assert harbour.problems(text) == [
            "harbour.toml: workers.tyde: unknown worker: did you mean 'tide'?",
            "harbour.toml: destinations.paper.workers.heeling: unknown worker: did you mean 'healing'?",
            "harbour.toml: workers.tide.interval_s: input should be greater than 0, got 0",
            "harbour.toml: destinations.swing.workers.tide.harbor: unknown key: did you mean 'harbour'?",
        ]


class TestObservers:
    SOURCE = """
        from coldharbour.hookspecs import hookimpl
        seen = []
        @hookimpl
        def on_event(account, event):
            seen.append((account, event))
    """

    def test_one_without_workers_gets_the_plugins_own_process(self, harbour: Harbour) -> None:
        harbour.plugin("gulls", self.SOURCE)

        registry = harbour.load()

        assert "gulls" in registry.services()
        assert [plugin.name for plugin, _ in registry.observers_in("gulls")] == ["gulls"]
        assert registry.observers_in("ingest") == []

    def test_one_with_workers_is_called_in_their_process_and_in_no_other(self, harbour: Harbour) -> None:
        path = harbour.tide(arguments=", service='manage'")
        path.write_text(path.read_text() + textwrap.dedent(self.SOURCE))

        registry = harbour.load()

        assert [plugin.name for plugin, _ in registry.observers_in("manage")] == ["tide"]
        assert registry.observers_in("tide") == []
        assert "tide" not in registry.services()
        assert "tide" not in registry.all_services()


class TestCommands:
    SOURCE = """
        from coldharbour.hookspecs import hookimpl
        @hookimpl
        def register_commands(cli):
            @cli.command()
            def {name}():
                pass
    """

    def commands(self, harbour: Harbour) -> tuple[click.Group, list[str]]:
        group = click.Group(commands={"check": click.Command("check")})
        plugin_settings = PluginSettings(directory=str(harbour.folder / "plugins"))
        pm, plugins, problems = loader.discover(plugin_settings, Path("harbour.toml"))
        problems += loader.add_commands(pm, plugins, group)
        return group, [problem.replace(f"{harbour.folder}/", "") for problem in problems]

    def test_a_plugin_adds_its_own(self, harbour: Harbour) -> None:
        harbour.plugin("tide", self.SOURCE.replace("{name}", "tide"))

        group, problems = self.commands(harbour)

        assert {"check", "tide"} <= set(group.commands)
        assert problems == []

    def test_a_name_that_exists_stays_with_its_owner(self, harbour: Harbour) -> None:
        harbour.plugin("tide", self.SOURCE.replace("{name}", "check"))

        group, problems = self.commands(harbour)

        assert group.commands["check"].callback is None
        assert problems == ["plugin tide (plugins/tide.py): command 'check' exists already"]

    def test_a_built_in_command_cannot_be_replaced(self, harbour: Harbour) -> None:
        harbour.plugin("tide", self.SOURCE.replace("{name}", "backfill"))

        group, problems = self.commands(harbour)

        assert group.commands["backfill"].params
        assert problems == ["plugin tide (plugins/tide.py): command 'backfill' exists already"]

    def test_a_hook_that_fails_is_reported_and_harms_no_other(self, harbour: Harbour) -> None:
        harbour.plugin("tide", self.SOURCE.replace("@cli.command()", "raise SystemExit(1)").replace("{name}", "tide"))

        group, problems = self.commands(harbour)

        assert "backfill" in group.commands
        assert problems == ["plugin tide (plugins/tide.py): register_commands failed: SystemExit: 1"]
