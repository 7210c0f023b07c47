"""The documents say what the code does: every hook, field, event, setting, worker, command and file is compared."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import MISSING, fields
from decimal import Decimal
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import annotated_types
import click
import msgspec
import pytest
from documents import ROOT, Document, Section
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from coldharbour import errors, events, hookspecs, loader, settings
from coldharbour.accounts import AccountContext, SystemContext, WorkerContext
from coldharbour.cli import cli
from coldharbour.hookspecs import PanelSpec, WorkerSpec
from coldharbour.registry import RegisteredWorker
from coldharbour.sections import DestinationSettings, Settings
from coldharbour.settings import KNOWN_VARIABLES
from coldharbour.supervise import State
from coldharbour.web.fragments import FILTERS

PRODUCTION = ROOT / "config" / "coldharbour.toml"
KEYS = {
    f"ALPACA_{part}_{slug}": f"PK-{part}-of-{slug}" for part in ("API_KEY", "SECRET_KEY") for slug in ("PAPER", "LIVE")
}
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
SOURCES = (ROOT, ROOT / "coldharbour")  # what a file may be named from
FILE_NAME = re.compile(r"[\w.-]+/[\w./-]*\.(py|toml|md|sql|html)")
COMMENTED_KEY = re.compile(r"^#(?=[\[\w])", re.MULTILINE)


@cache
def document(path: str) -> Document:
    return Document(path)


@cache
def built_in_workers() -> dict[str, RegisteredWorker]:
    registry = loader.load_plugins(settings.load(ROOT / "config" / "demo.toml", {}))
    return {kind: worker for kind, worker in registry.workers.items() if worker.plugin.built_in}


def column(section: Section, name: str) -> list[str]:
    """Return one column of a section's tables, the backticks left out."""
    return [row[name].strip("`") for row in section.rows if name in row]


class TestPlugins:
    @staticmethod
    def section(heading: str) -> Section:
        return document("docs/plugins.md").section(heading)

    @staticmethod
    def hooks() -> dict[str, list[str]]:
        """Return the arguments of every hook."""
        found = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "coldharbour_spec")}
        return {name: list(inspect.signature(hook).parameters) for name, hook in found.items()}

    def test_every_hook_is_listed_with_its_arguments(self) -> None:
        listed = column(self.section("Hooks"), "hook")

        assert listed == [f"{name}({', '.join(arguments)})" for name, arguments in self.hooks().items()]

    def test_every_hook_has_a_section_that_names_its_arguments(self) -> None:
        for name, arguments in self.hooks().items():
            text = self.section(f"`{name}`").text

            assert [argument for argument in arguments if f"`{argument}`" not in text] == []

    @pytest.mark.parametrize("spec", [WorkerSpec, PanelSpec])
    def test_every_field_of_a_declaration_is_listed_with_its_default(self, spec: Any) -> None:
        documented = {row["field"].strip("`"): row for row in self.section(f"`{spec.__name__}`").rows}

        assert list(documented) == [field.name for field in fields(spec)]
        for field in fields(spec):
            default = documented[field.name].get("default", "required")
            if field.name == "phases":
                assert default == "`ALWAYS`"
            elif field.default is MISSING:
                assert default == "required"
            else:
                assert ast.literal_eval(default.strip("`")) == field.default

    def test_everything_a_worker_may_touch_is_listed(self) -> None:
        common = [field.name for field in fields(WorkerContext)]

        assert column(self.section("Every worker"), "name") == common
        for heading, context in (
            ("`AccountContext`: a worker of one account", AccountContext),
            ("`SystemContext`: a worker of the installation", SystemContext),
        ):
            own = [field.name for field in fields(context) if field.name not in common]
            assert column(self.section(heading), "name") == own

    def test_every_event_is_listed_with_its_facts(self) -> None:
        listed = {row["event"].strip("`"): row["facts"] for row in self.section("Events").rows}

        assert listed == {
            event.__name__: ", ".join(f"`{fact.name}`" for fact in msgspec.structs.fields(event) if fact.name != "at")
            for event in get_args(events.AnyEvent)
        }

    def test_every_class_of_error_is_listed(self) -> None:
        classes = [name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__]

        listed = re.findall(r"`(\w+)`", " ".join(row["raised"] for row in self.section("Errors").rows))

        assert sorted(listed) == sorted(classes)

    def test_every_template_filter_is_named(self) -> None:
        assert set(FILTERS) <= set(re.findall(r"`(\w+)`", self.section("Templates").text))


def sections() -> dict[str, type[BaseModel]]:
    """Return every table of the configuration that holds keys, by its name."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in Settings.model_fields.items():
        is_optional = get_origin(field.annotation) is UnionType
        model = get_args(field.annotation)[0] if is_optional else field.annotation
        if inspect.isclass(model) and issubclass(model, BaseModel):
            found[name] = model
            tables = {key: type(inner.default) for key, inner in model.model_fields.items() if is_table(inner)}
            found |= {f"{name}.{key}": table for key, table in tables.items()}
    found["destinations.<key>"] = DestinationSettings
    return found | {f"workers.{kind}": worker.spec.settings for kind, worker in sorted(built_in_workers().items())}


def is_table(field: FieldInfo) -> bool:
    return inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel)


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a table that hold values, not tables of their own."""
    return {key: field for key, field in model.model_fields.items() if not is_table(field)}


def type_of(field: FieldInfo) -> str:
    """Return a key's type and limits in the words of the document."""
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", Decimal: "amount", Path: "path"}
    if get_origin(field.annotation) is Literal:
        return ", ".join(f'`"{choice}"`' for choice in get_args(field.annotation))
    if get_origin(field.annotation) is tuple:
        return "list of text"
    if get_origin(field.annotation) is dict:
        return "tables"
    limits = [f", {sign} {getattr(limit, name)}" for limit in field.metadata
              for kind, name, sign in ((annotated_types.Gt, "gt", ">"), (annotated_types.Ge, "ge", ">="),
                                       (annotated_types.Le, "le", "<=")) if isinstance(limit, kind)]  # fmt: skip
    return words[field.annotation] + "".join(limits) if field.annotation in words else "text"


def default_of(field: FieldInfo) -> Any:
    """Return a key's default as TOML would give it, None for a table of tables."""
    if field.default is PydanticUndefined:
        return None
    if isinstance(field.default, Path):
        return str(field.default)
    if isinstance(field.default, Decimal):
        return float(field.default)
    return list(field.default) if isinstance(field.default, tuple) else field.default


class TestConfiguration:
    @staticmethod
    def page() -> Document:
        return document("docs/configuration.md")

    def test_every_table_and_every_key_is_explained_with_type_default_and_meaning(self) -> None:
        for name, model in sections().items():
            rows = {row["key"].strip("`"): row for row in self.page().section(f"`[{name}]`").rows}

            assert list(rows) == list(keys_of(model)), name
            for key, field in keys_of(model).items():
                row, where = rows[key], f"[{name}] {key}"
                assert row["type"] == type_of(field), where
                assert field.description, where
                assert row["meaning"].startswith(field.description.rstrip(".")), where
                default = default_of(field)
                if default is None:
                    assert row["default"] == "", where
                else:
                    assert tomllib.loads(f"it = {row['default'].strip('`')}")["it"] == default, where

    def test_no_table_is_explained_that_does_not_exist(self) -> None:
        explained = [section.heading for section in self.page().sections if section.heading.startswith("`[")]

        assert explained == [f"`[{name}]`" for name in sections()]

    def test_every_worker_is_listed_with_its_process(self) -> None:
        rows = self.page().section("Workers").rows

        assert [(row["worker"].strip("`"), row["process"].strip("`"), row["runs"]) for row in rows] == [
            (
                kind,
                worker.service,
                f"every `{worker.spec.every}`" if worker.spec.every else "until stopped",
            )
            for kind, worker in sorted(built_in_workers().items())
        ]

    def test_every_variable_is_listed(self) -> None:
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / "coldharbour").glob("*.py")]
        readers = [ast.parse(source) for source in sources if re.search(r"\benviron\b|VARIABLES", source)]
        words = {node.value for tree in readers for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        read = {word for word in words if isinstance(word, str) and re.fullmatch(r"[A-Z][A-Z_]{2,}[A-Z]", word)}
        parts = {"API_KEY", "SECRET_KEY"}

        listed = column(self.page().section("Environment"), "variable")

        assert parts <= read
        assert set(KNOWN_VARIABLES) <= read
        assert set(listed) == {
            "COLDHARBOUR_<SECTION>__<KEY>", "WEB_PASSWORD_HASH_<USER>",
            *(f"ALPACA_{part}_<SLUG>" for part in parts), *(read - parts),
        }  # fmt: skip

    def test_every_known_variable_names_the_key_that_it_sets(self) -> None:
        rows = {row["variable"].strip("`"): row["sets"] for row in self.page().section("Environment").rows}

        for variable, (section, key) in KNOWN_VARIABLES.items():
            assert f"`[{section}] {key}`" in rows[variable], variable


class TestProductionConfiguration:
    @staticmethod
    def whole() -> str:
        """Return the file with every commented key put to work."""
        return COMMENTED_KEY.sub("", PRODUCTION.read_text(encoding="utf-8"))

    def test_it_loads_and_needs_nothing_but_the_keys(self) -> None:
        configuration = settings.load(PRODUCTION, KEYS)

        registry = loader.load_plugins(configuration)

        assert [destination.slug for destination in configuration.destinations] == ["paper", "live"]
        assert not any(destination.simulated or destination.armed for destination in configuration.destinations)
        assert configuration.settings.database.url != "embedded"
        assigned = {assignment.worker.spec.kind for assignment in registry.assignments}
        assert assigned == built_in_workers().keys() - {"simulator", "notifications", "deadman"}
        assert not {"sim", "notify"} & {*registry.services()}

    def test_the_environment_names_its_database(self) -> None:
        environ = KEYS | {"POSTGRESQL_LIVE_CONN_STRING": "postgresql://lake.example/lake"}

        assert settings.load(PRODUCTION, environ).settings.database.url == "postgresql://lake.example/lake"

    def test_it_mentions_every_key(self, tmp_path: Path) -> None:
        file = tmp_path / "whole.toml"
        file.write_text(self.whole(), encoding="utf-8")
        table = tomllib.loads(self.whole())

        loader.load_plugins(settings.load(file, KEYS))

        for name, model in sections().items():
            written = self.table(table, name.replace("<key>", "paper"))
            assert set(model.model_fields) - {"workers"} == set(written), name

    def test_what_is_commented_out_is_the_default(self) -> None:
        table, active = tomllib.loads(self.whole()), tomllib.loads(PRODUCTION.read_text(encoding="utf-8"))

        for name, model in sections().items():
            path = name.replace("<key>", "paper")
            commented = {
                key: value for key, value in self.table(table, path).items() if key not in self.table(active, path)
            }
            assert commented == {key: default_of(model.model_fields[key]) for key in commented}, name

    @staticmethod
    def table(table: dict[str, Any], path: str) -> dict[str, Any]:
        for part in path.split("."):
            table = table.get(part, {})
        return table


def commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def spelled(command: click.Command) -> set[str]:
    """Return a command's arguments and visible options as its line in the table spells them."""
    return {
        parameter.opts[0] if isinstance(parameter, click.Option) else parameter.make_metavar(click.Context(command))
        for parameter in command.params
        if not (isinstance(parameter, click.Option) and parameter.hidden)
    }


class TestOperations:
    def test_every_command_is_listed_with_its_arguments_and_options(self) -> None:
        listed = {}
        for cell in column(document("docs/operations.md").section("Commands"), "command"):
            words = re.findall(r"--[\w-]+|\w+", cell)
            names = [word for word in words if word.islower() and not word.startswith("--")]
            placeholders = {"F", "S", "D", "W"}
            listed[" ".join(names)] = {word for word in words if word not in names} - placeholders

        assert listed == {name: spelled(command) for name, command in commands(cli, "coldharbour")}

    def test_the_options_before_a_command_are_named(self) -> None:
        text = document("docs/operations.md").section("Commands").text

        assert [option for option in spelled(cli) if option not in text] == []

    def test_every_state_is_explained(self) -> None:
        assert column(document("docs/operations.md").section("What the states mean"), "state") == [*State]

    def test_supervisord_runs_what_the_workers_name_and_the_tunnel(self) -> None:
        parser = ConfigParser(interpolation=None)
        parser.read(ROOT / "supervisord.conf", encoding="utf-8")
        programs = {name.removeprefix("program:"): parser[name]["command"] for name in parser if "program:" in name}
        tunnel = programs.pop("tunnel")

        assert "cloudflared" in tunnel
        assert set(programs) == {worker.service for worker in built_in_workers().values()}
        for name, command in programs.items():
            assert f"--service {name}'" in command

    def test_every_program_is_explained_with_its_workers(self) -> None:
        rows = document("docs/operations.md").section("supervisord").rows
        explained = {row["program"].strip("`"): row["workers"].split(", ") for row in rows}
        workers = built_in_workers().values()

        assert set(explained) == {worker.service for worker in workers} | {"tunnel"}
        for service, kinds in explained.items():
            expected = [worker.spec.kind for worker in workers if worker.service == service and worker.spec.per_account]
            assert sorted(kinds) == sorted(expected) or not expected, service


@pytest.mark.parametrize("path", DOCUMENTS)
class TestFiles:
    def test_every_relative_link_leads_somewhere(self, path: str) -> None:
        folder = (ROOT / path).parent
        dead = [
            target
            for target in document(path).links
            if "://" not in target and not target.startswith("#") and not (folder / target.partition("#")[0]).exists()
        ]

        assert dead == []

    def test_every_anchor_is_a_heading(self, path: str) -> None:
        for target in document(path).links:
            file, has_anchor, anchor = target.partition("#")
            if "://" in target or not has_anchor:
                continue
            page = document(((ROOT / path).parent / file).resolve().relative_to(ROOT).as_posix() if file else path)
            anchors = {re.sub(r"[^\w\- ]", "", section.heading.lower()).replace(" ", "-") for section in page.sections}
            assert anchor in anchors, target

    def test_every_name_of_the_library_can_be_imported(self, path: str) -> None:
        named = {span for span in document(path).spans if re.fullmatch(r"coldharbour(\.\w+)+", span)}

        assert {name for name in named if not _is_importable(name)} == set()

    def test_every_file_that_is_named_exists(self, path: str) -> None:
        named = {span for span in document(path).spans if FILE_NAME.fullmatch(span)}

        assert {name for name in named if not any((root / name).exists() for root in SOURCES)} == set()


def _is_importable(name: str) -> bool:
    if find_spec(name.rpartition(".")[0]) is None:
        return False
    holder = import_module(name.rpartition(".")[0])
    return hasattr(holder, name.rpartition(".")[2]) or find_spec(name) is not None
