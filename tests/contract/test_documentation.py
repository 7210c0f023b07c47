"""The documents say what the code does: hooks, specs, contexts, events, settings with their defaults, commands."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from coldharbour import hookspecs, loader, settings
from coldharbour.accounts import AccountContext, SystemContext, WorkerContext
from coldharbour.cli import cli
from coldharbour.events import AnyEvent, Event
from coldharbour.hookspecs import PanelSpec, WorkerSpec
from coldharbour.loader import Registry
from coldharbour.settings import (
    KNOWN_VARIABLES,
    DatabaseSettings,
    DestinationSettings,
    FeedSettings,
    LogSettings,
    PluginSettings,
    Settings,
    SimulatorSettings,
    WebSettings,
)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "coldharbour.toml"
SECTIONS: dict[str, type[BaseModel]] = {
    "database": DatabaseSettings,
    "log": LogSettings,
    "web": WebSettings,
    "feed": FeedSettings,
    "plugins": PluginSettings,
    "simulator": SimulatorSettings,
    "destinations.<name>": DestinationSettings,
}
EXAMPLE_ACCOUNT = "main"
KEYS = {"ALPACA_API_KEY_MAIN_ACCOUNT": "PK-not-a-key", "ALPACA_SECRET_KEY_MAIN_ACCOUNT": "not-a-secret"}
EXAMPLE_VALUES = {("destinations", EXAMPLE_ACCOUNT, "name"): "Main Account"}  # what the example may say of its own


def document(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def part(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[str]:
    """Return the rows of the tables in a text, head and rule left out."""
    return [line for line in text.splitlines() if line.startswith("| `")]


def toml(value: object) -> str:
    """Return a default as one writes it in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"'


def setting_rows(model: type[BaseModel]) -> list[str]:
    """Return the rows that describe a table's settings."""
    return [
        f"| `{name}` | {f'`{toml(field.default)}`' if field.default is not PydanticUndefined else ''} | {field.description} |"
        for name, field in model.model_fields.items()
        if name != "workers"
    ]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    file = tmp_path_factory.mktemp("config") / "demo.toml"
    file.write_text("[simulator]\n[destinations.paper]\nsimulated = true")
    return loader.load_plugins(settings.load(file, {}))


class TestPluginDocument:
    def test_every_hook_is_described_with_its_arguments_and_no_other(self) -> None:
        hooks = {
            f"`{name}({', '.join(inspect.signature(value).parameters)})`"
            for name, value in vars(hookspecs).items()
            if hasattr(value, "coldharbour_spec")
        }

        assert set(re.findall(r"^### (`\w+\(.*\)`)$", document("plugins"), re.MULTILINE)) == hooks

    @pytest.mark.parametrize("spec", [WorkerSpec, PanelSpec], ids=lambda spec: spec.__name__)
    def test_every_field_of_a_spec_is_described_with_its_default(self, spec: type[Any]) -> None:
        described = [tuple(row.split(" | ")[:2]) for row in rows(part(document("plugins"), f"`{spec.__name__}`"))]

        assert described == [(f"| `{field.name}`", default_of(field)) for field in dataclasses.fields(spec)]

    @pytest.mark.parametrize("context", [WorkerContext, AccountContext, SystemContext], ids=lambda spec: spec.__name__)
    def test_everything_a_worker_may_touch_is_described(self, context: type[Any]) -> None:
        inherited = {
            field.name for base in context.__bases__ if base is not object for field in dataclasses.fields(base)
        }
        described = [row.split(" | ")[0] for row in rows(part(document("plugins"), f"`{context.__name__}`"))]

        assert described == [
            f"| `{field.name}`" for field in dataclasses.fields(context) if field.name not in inherited
        ]

    def test_every_event_is_described_with_its_fields(self) -> None:
        described = [row.split(" | ")[:2] for row in rows(part(document("plugins"), "Events"))]

        own = set(Event.__struct_fields__)
        assert described == [
            [f"| `{event.__name__}`", ", ".join(f"`{name}`" for name in event.__struct_fields__ if name not in own)]
            for event in get_args(AnyEvent)
        ]


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if isinstance(field.default, frozenset):
        return "`ALWAYS`"
    return f"`{field.default!r}`".replace("'", '"')


class TestConfigurationDocument:
    def test_every_section_of_the_settings_is_looked_at(self) -> None:
        assert {name.partition(".")[0] for name in SECTIONS} | {"workers"} == set(Settings.model_fields)

    @pytest.mark.parametrize("section", SECTIONS)
    def test_every_setting_stands_there_with_its_default_and_its_meaning(self, section: str) -> None:
        assert rows(part(document("configuration"), f"`[{section}]`")) == setting_rows(SECTIONS[section])

    def test_every_kind_of_worker_stands_there(self, registry: Registry) -> None:
        described = re.findall(r"^#+ `\[workers\.(\w+)\]`$", document("configuration"), re.MULTILINE)

        assert described == sorted(
            kind for kind, worker in registry.workers.items() if worker.spec.settings.model_fields
        )

    def test_every_setting_of_a_worker_stands_there_with_its_default_and_its_meaning(self, registry: Registry) -> None:
        for kind, worker in registry.workers.items():
            if worker.spec.settings.model_fields:
                described = rows(part(document("configuration"), f"`[workers.{kind}]`"))
                assert described == setting_rows(worker.spec.settings), kind

    def test_every_variable_that_operators_know_is_named_with_its_setting(self) -> None:
        described = rows(part(document("configuration"), "Environment"))

        for variable, (section, key) in KNOWN_VARIABLES.items():
            assert any(row.startswith(f"| `{variable}` | `[{section}] {key}`") for row in described), variable


class TestOperationsDocument:
    def test_every_command_is_described_and_no_other(self) -> None:
        context = click.Context(cli)
        commands = set()
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            commands |= {f"{name} {sub}" for sub in command.commands} if isinstance(command, click.Group) else {name}

        first_cells = [row.split(" | ")[0] for row in rows(part(document("operations"), "Commands"))]
        described = {
            words.removeprefix("coldharbour ").split(" --")[0].split(" WORKER")[0].split(" WHAT")[0]
            for cell in first_cells
            for words in re.findall(r"`([^`]+)`", cell)
        }
        assert described == commands


class TestExampleConfiguration:
    def test_it_is_fine_with_the_two_keys_of_its_account(self) -> None:
        configuration = settings.load(EXAMPLE, KEYS)
        loader.load_plugins(configuration)

        [account] = configuration.destinations
        assert not account.simulated
        assert not account.armed
        assert configuration.settings.simulator is None

    def test_it_says_which_keys_are_missing(self) -> None:
        with pytest.raises(settings.BadConfig) as caught:
            settings.load(EXAMPLE, {})

        assert {variable for variable in KEYS if variable in str(caught.value)} == set(KEYS)

    def test_every_setting_appears_with_its_default(self, registry: Registry) -> None:
        written = dict(leaves(tomllib.loads(uncommented())))

        for path, default in all_defaults(registry):
            assert path in written, f"missing: {'.'.join(path)} = {toml(default)}"
            if path not in EXAMPLE_VALUES:
                assert toml(written[path]) == toml(default), ".".join(path)

    def test_every_setting_is_explained_where_it_stands(self, registry: Registry) -> None:
        text = " ".join(line.strip("# ") for line in EXAMPLE.read_text(encoding="utf-8").splitlines())

        models = [*SECTIONS.values(), *(worker.spec.settings for worker in registry.workers.values())]
        for model in models:
            for name, field in model.model_fields.items():
                assert name == "workers" or str(field.description) in text, (model.__name__, name)

    def test_what_is_commented_out_can_be_switched_on(self, tmp_path: Path) -> None:
        file = tmp_path / "everything.toml"
        file.write_text(uncommented(), encoding="utf-8")

        loader.load_plugins(settings.load(file, KEYS))


def uncommented() -> str:
    """Return the example with its commented settings, which follow the # without a blank, switched on."""
    return re.sub(r"^#(?=[\[\w])", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def all_defaults(registry: Registry) -> Iterator[tuple[tuple[str, ...], Any]]:
    tables = {tuple(name.replace("<name>", EXAMPLE_ACCOUNT).split(".")): model for name, model in SECTIONS.items()}
    tables |= {("workers", kind): worker.spec.settings for kind, worker in registry.workers.items()}
    for table, model in tables.items():
        yield from (((*table, name), field.default) for name, field in model.model_fields.items() if name != "workers")
