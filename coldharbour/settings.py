"""The configuration: TOML plus environment, checked whole before anything connects.

Owns every key of design and its meaning; never opens a connection and never logs a secret. The tables
`[workers.<kind>]` are checked by the loader, which knows the kinds that the plugins offer.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from coldharbour.access import access_problems, password_hashes
from coldharbour.destinations import Destination, resolve, secret_text, slug_problems
from coldharbour.errors import BadConfig
from coldharbour.sections import (
    ENV_PREFIX,
    AuthSettings,
    DatabaseSettings,
    DestinationSettings,
    FeedSettings,
    LogSettings,
    PluginSettings,
    Settings,
    SimulatorSettings,
    WebSettings,
)

# Variables with our prefix that are no settings.
OTHER_VARIABLES = frozenset({"COLDHARBOUR_SECRETS_DIR", "COLDHARBOUR_CONFIG"})
# The names operators know, and the setting each one sets; a COLDHARBOUR_* variable wins over them.
KNOWN_VARIABLES = {
    "POSTGRESQL_LIVE_LOCAL_CONN_STRING": ("database", "url"),
    "POSTGRESQL_LIVE_CONN_STRING": ("database", "url"),
    "TIMESCALE_LIVE_CONN_STRING": ("database", "timescale_url"),
    "ZMQ_SIP_STREAM_ENDPOINT": ("feed", "endpoint"),
    "PORT": ("web", "port"),
    "DISABLE_SSE": ("web", "disable_sse"),
}
# Names operators know that set the default of every destination.
DESTINATION_VARIABLES = {
    "DISABLE_SESSION_SLEEP": "disable_session_sleep",
    "CASH_FLOW_TYPES": "cash_flow_types",
}


class Configuration(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """A loaded and checked configuration: the settings, their file, and the destinations with their secrets.

    password_hashes: by account, of those who may log in to the pages.
    """

    file: Path
    settings: Settings
    destinations: tuple[Destination, ...]
    password_hashes: Mapping[str, SecretStr] = {}

    def destination(self, name: str) -> Destination:
        """Return the destination with this TOML key, slug or name. Raises BadConfig if there is none."""
        for destination in self.destinations:
            if name in (destination.key, destination.slug, destination.name):
                return destination
        known = ", ".join(destination.key for destination in self.destinations) or "none"
        raise BadConfig([f"{self.file}: no destination {name!r}"], hint=f"configured: {known}")


def load(file: Path, environ: Mapping[str, str] | None = None) -> Configuration:
    """Read, merge and check the configuration; worker tables are left to the loader.

    Raises BadConfig with every problem at once, one line each: file (or variable), key, what is wrong and
    the remedy.
    """
    environ = os.environ if environ is None else environ
    table = _with_known_variables(_read_toml(file), environ)
    problems = list(_unknown_variables(environ))
    try:
        settings = _validate(table, environ)
    except ValidationError as error:
        problems += [_problem(file, environ, detail) for detail in error.errors()]
        raise BadConfig(list(dict.fromkeys(problems))) from None
    except SettingsError as error:
        raise BadConfig([*problems, _unreadable_variable(environ, error)]) from None
    if not settings.destinations:
        problems.append(f"{file}: destinations: none configured: add a table [destinations.<name>]")
    destinations = [resolve(file, key, settings, environ, problems) for key in settings.destinations]
    problems += slug_problems(file, destinations)
    problems += access_problems(file, settings.web)
    hashes = password_hashes(file, settings.web.auth, environ, problems)
    if problems:
        raise BadConfig(problems)
    return Configuration(file=file, settings=settings, destinations=tuple(destinations), password_hashes=hashes)


def plugin_settings(file: Path) -> PluginSettings:
    """Return the `[plugins]` table of a file, or its defaults where the file or the table cannot be read.

    The command line needs it before it knows which command will read the configuration and report on it.
    """
    try:
        return PluginSettings.model_validate(_read_toml(file).get("plugins", {}))
    except (BadConfig, ValidationError):
        return PluginSettings()


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadConfig([f"{file}: no such file: give the configuration with --config"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig([f"{file}: cannot be read: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise BadConfig([f"{file}: not valid TOML: {error}"]) from None


def _with_known_variables(table: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the table with what the known variables say; what is no table is left for the validation to refuse."""
    table = dict(table)
    for variable, (section, key) in KNOWN_VARIABLES.items():
        written = table.get(section, {})
        if (value := secret_text(variable, environ)) and isinstance(written, dict):
            table[section] = written | {key: value}
    destinations, defaults = table.get("destinations"), _defaults(environ)
    if isinstance(destinations, dict):
        table["destinations"] = {
            key: defaults | written if isinstance(written, dict) else written for key, written in destinations.items()
        }
    return table


def _defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the environment says for every destination: a list is written with commas."""
    said: dict[str, Any] = {
        key: environ[variable] for variable, key in DESTINATION_VARIABLES.items() if environ.get(variable)
    }
    if "cash_flow_types" in said:
        said["cash_flow_types"] = said["cash_flow_types"].split(",")
    return said


def _validate(table: dict[str, Any], environ: Mapping[str, str]) -> Settings:
    class _Settings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            source = EnvSettingsSource(settings_cls)
            source.env_vars = {name.lower(): value for name, value in environ.items()}
            return source, InitSettingsSource(settings_cls, table)

    return _Settings()


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for variable in sorted(environ):
        section = variable.removeprefix(ENV_PREFIX).split("__")[0].lower()
        if variable.startswith(ENV_PREFIX) and variable not in OTHER_VARIABLES and section not in Settings.model_fields:
            yield f"environment: {variable}: unknown setting{suggestion(section, Settings.model_fields)}"
    schema = environ.get("ACCOUNT_SCHEMA", "accounts")
    if schema != "accounts":
        yield f"environment: ACCOUNT_SCHEMA: {schema!r} is not supported: the schema is always 'accounts'; unset it"


def _problem(file: Path, environ: Mapping[str, str], detail: Any) -> str:
    path = [str(part) for part in detail["loc"]]
    message = explain(detail, _known_keys(path[:-1]), show_value=path[0] != "database")  # it may hold a password
    known = [variable for variable, target in KNOWN_VARIABLES.items() if list(target) == path]
    for variable in (ENV_PREFIX + "__".join(path).upper(), *known):
        if environ.get(variable):
            return f"environment: {variable}: {message}"
    for variable, key in DESTINATION_VARIABLES.items():
        if path[0] == "destinations" and path[2:3] == [key] and _is_said(detail["input"], _defaults(environ).get(key)):
            return f"environment: {variable}: {message}"
    return f"{file}: {'.'.join(path)}: {message}"


def _is_said(value: object, said: object) -> bool:
    return said is not None and (list(value) if isinstance(value, tuple) else value) == said


def _unreadable_variable(environ: Mapping[str, str], error: SettingsError) -> str:
    """Name the variable behind an error that names a field only: the first that is no JSON where JSON is due."""
    field = re.search(r'"(\w+)"', str(error))
    prefix = f"{ENV_PREFIX}{field[1].upper() if field else ''}"
    variables = ", ".join(sorted(variable for variable in environ if variable.upper().startswith(prefix)))
    return f'environment: {variables or prefix}: a list or table must be written as JSON, such as ["D", "M"]'


def _known_keys(path: list[str]) -> Iterable[str]:
    models: dict[str, type[BaseModel]] = {
        "database": DatabaseSettings, "log": LogSettings, "web": WebSettings, "feed": FeedSettings,
        "plugins": PluginSettings, "simulator": SimulatorSettings, "destinations": DestinationSettings,
    }  # fmt: skip
    if path[:2] == ["web", "auth"]:
        return AuthSettings.model_fields
    return (models.get(path[0], Settings) if path else Settings).model_fields


def explain(detail: Mapping[str, Any], known: Iterable[str], *, show_value: bool = True) -> str:
    """Return what is wrong with a key, in words: `detail` is one of pydantic's errors, `known` the keys there are."""
    path, value = [str(part) for part in detail["loc"]], detail["input"]
    if detail["type"] == "extra_forbidden":
        return f"unknown key{suggestion(path[-1], known)}"
    if detail["type"] in ("model_type", "dict_type"):
        return f"must be a table: write [{'.'.join(path)}]"
    message = f"{detail['msg'][0].lower()}{detail['msg'][1:]}"
    return f"{message}, got {value!r}" if show_value and not isinstance(value, dict) else message


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ": did you mean X?", or the list of what is known when nothing is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}"
