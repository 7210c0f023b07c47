"""The registry: what the plugins offer, which worker runs for which account, and in which process; loads nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pluggy
from pydantic import BaseModel

from coldharbour.destinations import Destination, slug_for
from coldharbour.events import Event
from coldharbour.hookspecs import PanelSpec, WorkerSpec


@dataclass(frozen=True, slots=True)
class Plugin:
    """One loaded plugin: its name, and where it came from in words an operator can act on."""

    name: str
    origin: str
    module: ModuleType
    built_in: bool

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.origin})"

    @property
    def service(self) -> str:
        """The process of its own that it runs in unless its workers name another."""
        return slug_for(self.name)


@dataclass(frozen=True, slots=True)
class RegisteredWorker:
    """A kind of worker, the plugin it came from, and the process it runs in."""

    spec: WorkerSpec
    plugin: Plugin

    @property
    def service(self) -> str:
        return self.spec.service or self.plugin.service


@dataclass(frozen=True, slots=True)
class RegisteredPanel:
    """A panel of the pages and the plugin it came from."""

    spec: PanelSpec
    plugin: Plugin


@dataclass(frozen=True, slots=True)
class Assignment:
    """One worker that should run: its kind, its account (None for the installation's own) and its settings."""

    worker: RegisteredWorker
    destination: Destination | None
    settings: BaseModel

    @property
    def slug(self) -> str:
        return self.destination.slug if self.destination else ""

    @property
    def channels(self) -> frozenset[str]:
        """The notification channels whose notes mean that there is work."""
        return frozenset(f"{topic}_{self.slug}" if self.slug else topic for topic in self.worker.spec.wake_on)


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything the plugins offer, checked."""

    pm: pluggy.PluginManager
    plugins: tuple[Plugin, ...]
    workers: Mapping[str, RegisteredWorker]
    panels: tuple[RegisteredPanel, ...]
    migrations: tuple[Path, ...]
    assignments: tuple[Assignment, ...] = field(default=())

    def all_services(self) -> set[str]:
        """Return every process that a plugin names, whether this configuration gives it work or not."""
        return {worker.service for worker in self.workers.values()} | set(map(self._observes_in, self.observers()))

    def services(self) -> list[str]:
        """Return the processes that the assigned workers and observers need, in order of first use."""
        names = [assignment.worker.service for assignment in self.assignments]
        names += [self._observes_in(plugin) for plugin in self.observers() if self._is_on(plugin)]
        return list(dict.fromkeys(names))

    def observers(self) -> Iterator[Plugin]:
        """Yield the plugins that observe events."""
        for implementation in self.pm.hook.on_event.get_hookimpls():
            yield next(plugin for plugin in self.plugins if plugin.module is implementation.plugin)

    def observers_in(self, service: str) -> list[tuple[Plugin, Callable[[str, Event], None]]]:
        """Return the observers that this process calls, each with its function."""
        return [
            (plugin, plugin.module.on_event)
            for plugin in self.observers()
            if self._observes_in(plugin) == service and self._is_on(plugin)
        ]

    def _is_on(self, plugin: Plugin) -> bool:
        """Return whether a plugin has work here: a worker that runs, or none to run at all."""
        offered = [worker for worker in self.workers.values() if worker.plugin is plugin]
        return not offered or any(assignment.worker in offered for assignment in self.assignments)

    def _observes_in(self, plugin: Plugin) -> str:
        """Return the process of the plugin's first worker, or its own if it has none."""
        workers = (worker.service for worker in self.workers.values() if worker.plugin is plugin)
        return next(workers, plugin.service)
