"""Plugins: found, imported and checked, with the tables of their workers; never run here.

Built-ins, installed third parties and drop-in files come through one door: the entry-point group
`coldharbour`, or a single file in `[plugins] directory`.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import click
import pluggy
from pydantic import ValidationError

from coldharbour import hookspecs
from coldharbour.destinations import Destination
from coldharbour.errors import BadConfig
from coldharbour.hookspecs import PROJECT, PanelSpec, WorkerSpec
from coldharbour.registry import Assignment, Plugin, RegisteredPanel, RegisteredWorker, Registry
from coldharbour.sections import PluginSettings, Settings
from coldharbour.settings import Configuration, explain, suggestion
from coldharbour.supervise import describe

BUILT_IN_PACKAGE = "coldharbour_plugins"
OFF = frozenset({"false", "0", "no", "off"})
Declared = TypeVar("Declared")


def discover(settings: PluginSettings, file: Path) -> tuple[pluggy.PluginManager, list[Plugin], list[str]]:
    """Find and import the plugins; return them with the problems, one line each."""
    problems: list[str] = []
    pm = pluggy.PluginManager(PROJECT)
    pm.add_hookspecs(hookspecs)
    plugins = list(_register(pm, settings, file, problems))
    try:
        pm.check_pending()
    except pluggy.PluginValidationError as error:
        problems.append(_misspelled(plugins, error))
    problems += _refuse_async(pm, plugins)
    return pm, plugins, problems


def load_plugins(configuration: Configuration) -> Registry:
    """Find, import and check every plugin, and check the worker tables against what they offer.

    Raises BadConfig with every problem at once: a plugin that cannot be imported, a misspelled hook, a kind
    offered twice, an unknown worker or setting.
    """
    pm, plugins, problems = discover(configuration.settings.plugins, configuration.file)
    if problems:
        raise BadConfig(problems, hint="[plugins] disabled = [...] leaves a plugin out")
    workers = _workers(pm, plugins, problems)
    panels = tuple(
        RegisteredPanel(spec, plugin) for plugin, spec in _declared(pm, "register_panels", PanelSpec, plugins, problems)
    )
    migrations = tuple(folder for _, folder in _declared(pm, "register_migrations", Path, plugins, problems))
    assignments = tuple(_assignments(configuration, workers, problems))
    if not pm.hook.open_broker.get_hookimpls():
        problems.append(f"{configuration.file}: plugins.disabled: no plugin connects to a broker: leave 'alpaca' in")
    users = sorted({assignment.worker.spec.kind for assignment in assignments if assignment.worker.spec.uses_prices})
    if users and not pm.hook.open_prices.get_hookimpls():
        names = ", ".join(users)
        problems.append(f"{configuration.file}: plugins.disabled: no plugin has prices for {names}: leave 'feed' in")
    if problems:
        raise BadConfig(problems)
    return Registry(pm, tuple(plugins), workers, panels, migrations, assignments)


def add_commands(pm: pluggy.PluginManager, plugins: Iterable[Plugin], cli: click.Group) -> list[str]:
    """Let every plugin add its commands; return the problems: a name that was taken stays with its owner."""
    problems = []
    for implementation in pm.hook.register_commands.get_hookimpls():
        plugin = next(plugin for plugin in plugins if plugin.module is implementation.plugin)
        before = dict(cli.commands)
        try:
            implementation.function(cli)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a third party's hook may raise anything
            problems.append(f"{plugin}: register_commands failed: {describe(error)}")
        for name in [name for name, command in before.items() if cli.commands.get(name) is not command]:
            problems.append(f"{plugin}: command {name!r} exists already")
            cli.commands[name] = before[name]
    return problems


def _register(pm: pluggy.PluginManager, settings: PluginSettings, file: Path, problems: list[str]) -> Iterator[Plugin]:
    disabled = set(settings.disabled)
    found = [*_installed(), *_dropped_in(settings, file, problems)]
    names = {name for name, *_ in found}
    problems += [
        f"{file}: plugins.disabled: no plugin {name!r}{suggestion(name, names)}" for name in sorted(disabled - names)
    ]
    for name, origin, built_in, load in found:
        if name in disabled:
            continue
        try:
            module = load()
            pm.register(module, name)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a third party's import may raise anything
            problems.append(f"plugin {name} ({origin}): cannot be loaded: {describe(error)}")
        else:
            yield Plugin(name=name, origin=origin, module=module, built_in=built_in)


Found = tuple[str, str, bool, Callable[[], ModuleType]]


def _installed() -> Iterator[Found]:
    for entry in sorted(entry_points(group=PROJECT), key=lambda entry: (not _is_built_in(entry), entry.name)):
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown distribution"
        yield entry.name, f"{distribution}, {entry.value}", _is_built_in(entry), entry.load


def _is_built_in(entry: EntryPoint) -> bool:
    return entry.value.startswith(BUILT_IN_PACKAGE)


def _dropped_in(settings: PluginSettings, config: Path, problems: list[str]) -> Iterator[Found]:
    directory = settings.directory
    if not directory:
        return
    if not Path(directory).is_dir():
        problems.append(f"{config}: plugins.directory: {directory}: no such folder: create it or remove the key")
        return
    for file in sorted(Path(directory).glob("[!_]*.py")):
        yield file.stem, str(file), False, partial(_import_file, file)


def _import_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"coldharbour_dropin_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pydantic look their annotations up there
    spec.loader.exec_module(module)
    return module


def _misspelled(plugins: Iterable[Plugin], error: pluggy.PluginValidationError) -> str:
    plugin = next((plugin for plugin in plugins if plugin.module is error.plugin), None)
    hooks = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{PROJECT}_spec")]
    written = [name for name in vars(error.plugin) if hasattr(getattr(error.plugin, name), f"{PROJECT}_impl")]
    unknown = next((name for name in written if name not in hooks), "?")
    return f"{plugin or 'a plugin'}: unknown hook {unknown!r}{suggestion(unknown, hooks)}"


def _refuse_async(pm: pluggy.PluginManager, plugins: Iterable[Plugin]) -> Iterator[str]:
    """Leave out the plugins with an async hook, whose call would do nothing; yield one problem for each such hook."""
    for plugin in plugins:
        asynchronous = [
            caller.name
            for caller in pm.get_hookcallers(plugin.module) or ()
            for implementation in caller.get_hookimpls()
            if implementation.plugin is plugin.module and inspect.iscoroutinefunction(implementation.function)
        ]
        yield from (f"{plugin}: {name} must be a plain function, not async" for name in asynchronous)
        if asynchronous:
            pm.unregister(plugin.module)


def _declared(
    pm: pluggy.PluginManager, hook: str, expected: type[Declared], plugins: Iterable[Plugin], problems: list[str]
) -> Iterator[tuple[Plugin, Declared]]:
    by_module = {plugin.module: plugin for plugin in plugins}
    for implementation in getattr(pm.hook, hook).get_hookimpls():
        plugin = by_module[implementation.plugin]
        try:
            declared = list(implementation.function())
        except (Exception, SystemExit) as error:  # noqa: BLE001  a third party's hook may raise anything
            problems.append(f"{plugin}: {hook} failed: {describe(error)}")
            continue
        for item in declared:
            if isinstance(item, expected):
                yield plugin, item
            else:
                problems.append(f"{plugin}: {hook} must return a list of {expected.__name__}, got {item!r}")


def _workers(pm: pluggy.PluginManager, plugins: list[Plugin], problems: list[str]) -> dict[str, RegisteredWorker]:
    workers: dict[str, RegisteredWorker] = {}
    for plugin, spec in _declared(pm, "register_workers", WorkerSpec, plugins, problems):
        if spec.kind in workers:
            problems.append(f"{plugin}: worker {spec.kind!r} is already offered by {workers[spec.kind].plugin}")
            continue
        if spec.every and spec.every not in spec.settings.model_fields:
            problems.append(f"{plugin}: worker {spec.kind!r}: its settings have no field {spec.every!r}")
        if spec.needs and spec.needs not in Settings.model_fields:
            problems.append(
                f"{plugin}: worker {spec.kind!r} needs {spec.needs!r}, which is no section of the configuration"
            )
        workers[spec.kind] = RegisteredWorker(spec, plugin)
    return workers


def _assignments(
    configuration: Configuration, workers: Mapping[str, RegisteredWorker], problems: list[str]
) -> Iterator[Assignment]:
    file, settings = configuration.file, configuration.settings
    places = [(f"{file}: workers", settings.workers)]
    places += [(f"{file}: destinations.{key}.workers", d.workers) for key, d in settings.destinations.items()]
    for where, tables in places:
        problems += (
            f"{where}.{kind}: unknown worker{suggestion(kind, workers)}" for kind in tables if kind not in workers
        )
    for worker in workers.values():
        if worker.spec.needs and getattr(settings, worker.spec.needs, None) is None:
            continue
        for destination in configuration.destinations if worker.spec.per_account else (None,):
            yield from _assign(configuration, worker, destination, problems)


def _assign(
    configuration: Configuration,
    worker: RegisteredWorker,
    destination: Destination | None,
    problems: list[str],
) -> Iterator[Assignment]:
    kind, settings = worker.spec.kind, configuration.settings
    own = settings.destinations[destination.key].workers.get(kind, {}) if destination else {}
    table = {**settings.workers.get(kind, {}), **own}
    if str(table.pop("enabled", not worker.spec.opt_in)).lower() in OFF:  # the environment gives text
        return
    try:
        checked = worker.spec.settings.model_validate(table)
    except ValidationError as error:
        for detail in error.errors():
            key = ".".join(str(part) for part in detail["loc"])
            holder = f"destinations.{destination.key}.workers" if destination and key in own else "workers"
            message = explain(detail, worker.spec.settings.model_fields)
            problem = f"{configuration.file}: {holder}.{kind}.{key}: {message}"
            if problem not in problems:
                problems.append(problem)
    else:
        yield Assignment(worker, destination, checked)
