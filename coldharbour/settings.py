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
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from coldharbour.errors import BadConfig

ENV_PREFIX = "COLDHARBOUR_"
RESERVED_SLUGS = frozenset({"healthz", "readyz", "metrics", "schema", "static", "login", "logout", "stream", "api"})
MAX_SLUG_LENGTH = 40  # the longest table prefix and the slug must fit PostgreSQL's 63 bytes
ALPACA_TRADING_HOSTS = frozenset({"paper-api.alpaca.markets", "api.alpaca.markets"})
ALPACA_DATA_HOSTS = frozenset({"data.alpaca.markets"})
PAPER_URL = "https://paper-api.alpaca.markets"
DATA_URL = "https://data.alpaca.markets"
# Variables with our prefix that are no settings.
OTHER_VARIABLES = frozenset({"COLDHARBOUR_SECRETS_DIR", "COLDHARBOUR_CONFIG"})
# The names operators know, and the setting each one sets; a COLDHARBOUR_* variable wins over them.
KNOWN_VARIABLES = {
    "POSTGRESQL_LIVE_LOCAL_CONN_STRING": ("database", "url"),
    "POSTGRESQL_LIVE_CONN_STRING": ("database", "url"),
    "TIMESCALE_LIVE_CONN_STRING": ("database", "timescale_url"),
    "ZMQ_SIP_STREAM_ENDPOINT": ("feed", "endpoint"),
    "PORT": ("web", "port"),
}


class Section(BaseModel):
    """A table of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(Section):
    """Where the lake lives."""

    url: str = Field(
        "embedded",
        repr=False,
        description='"embedded", or a PostgreSQL URL: postgresql://, postgresql+psycopg2://, or libpq "host=...".',
    )
    data_dir: Path = Field(Path("var/postgres"), description="Folder of the embedded server's data.")
    timescale_url: str = Field("", repr=False, description="Optional second server for bars and trades.")


class LogSettings(Section):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level shown.")
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere."
    )


class WebSettings(Section):
    """Where the pages are served."""

    host: str = Field("127.0.0.1", description="Address to bind; only loopback is served without a login.")
    port: int = Field(5000, ge=0, le=65535, description="TCP port; the environment's PORT wins.")


class FeedSettings(Section):
    """The price stream."""

    endpoint: str = Field("tcp://127.0.0.1:5558", description="ZeroMQ publisher of trades.")
    max_silence_s: float = Field(15, gt=0, description="Seconds without a price before the feed counts as silent.")
    exclude_conditions: tuple[str, ...] = Field(
        ("", "D", "M", "E"), description="Trade conditions that never set a price."
    )


class PluginSettings(Section):
    """Which plugins are loaded."""

    disabled: tuple[str, ...] = Field((), description="Names of installed plugins to leave out.")
    directory: str = Field("", description="Folder of drop-in single-file plugins.")


class SimulatorSettings(Section):
    """The simulated broker of the demo and the tests."""

    host: str = Field("127.0.0.1", description="Address the simulated broker binds.")
    port: int = Field(8099, ge=0, le=65535, description="Port of its REST and websocket server.")
    price_endpoint: str = Field("tcp://127.0.0.1:5558", description="ZeroMQ endpoint it publishes prices on.")
    seed: int = Field(7, description="One seed replays a run.")
    speed: float = Field(1.0, gt=0, description="How much faster than real time its clock runs.")
    history_days: int = Field(365, ge=0, description="Days of history it generates before its first start.")
    state_dir: Path = Field(Path("var/simulator"), description="Where it keeps its own books between runs.")


class DestinationSettings(Section):
    """One broker account as written in the file; `Destination` is the checked form."""

    name: str = Field("", description="Shown on the page and turned into the slug; the TOML key if empty.")
    base_url: str = Field(PAPER_URL, description="Trading API; Alpaca's hosts over https only.")
    data_url: str = Field(DATA_URL, description="Market data API; Alpaca's host over https only.")
    initial_deposit: Decimal = Field(Decimal(0), ge=0, description="Starting capital in account currency.")
    disable_session_sleep: bool = Field(False, description="Keep every worker awake in all market phases.")
    armed: bool = Field(False, description="Until true, everything that would change an order is a dry run.")
    simulated: bool = Field(False, description="Use the URLs and keys of [simulator].")
    allow_custom_broker: bool = Field(False, description="Permit URLs that are not Alpaca's (never with live keys).")
    requests_per_min: int = Field(200, gt=0, description="The account's REST budget at the broker.")
    workers: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Overrides of [workers.<kind>].")


class Destination(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """One broker account, checked and ready to use (domain.md 1)."""

    key: str
    name: str
    slug: str
    base_url: str
    data_url: str
    key_id: SecretStr
    secret: SecretStr
    initial_deposit: Decimal
    disable_session_sleep: bool
    armed: bool
    simulated: bool
    requests_per_min: int

    @property
    def market(self) -> str:
        """Whose calendar the account lives by: "us_equity", or "simulated"."""
        return "simulated" if self.simulated else "us_equity"


class Settings(BaseSettings):
    """The whole configuration file, environment applied."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()
    web: WebSettings = WebSettings()
    feed: FeedSettings = FeedSettings()
    plugins: PluginSettings = PluginSettings()
    simulator: SimulatorSettings | None = Field(None, description="Absent: no simulated broker.")
    workers: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Defaults for every destination.")
    destinations: dict[str, DestinationSettings] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; nothing else is read."""
        return env_settings, init_settings


class Configuration(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """A loaded and checked configuration: the settings, their file, and the destinations with their secrets."""

    file: Path
    settings: Settings
    destinations: tuple[Destination, ...]

    def destination(self, name: str) -> Destination:
        """Return the destination with this TOML key, slug or name. Raises BadConfig if there is none."""
        for destination in self.destinations:
            if name in (destination.key, destination.slug, destination.name):
                return destination
        known = ", ".join(destination.key for destination in self.destinations) or "none"
        raise BadConfig([f"{self.file}: no destination {name!r}"], hint=f"configured: {known}")


def slug_for(name: str) -> str:
    """Return the identifier that names a destination's tables, channels and URLs (domain.md 1).

    >>> slug_for("Cold Harbour v1.0"), slug_for("7up"), slug_for("--")
    ('cold_harbour_v1_0', 'd_7up', 'dest')
    """
    slug = re.sub(r"_+", "_", re.sub(r"[^a-z0-9_]", "_", name.lower())).strip("_")
    if not slug:
        return "dest"
    return f"d_{slug}" if slug[0].isdigit() else slug


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
        raise BadConfig(problems) from None
    except SettingsError as error:
        raise BadConfig([*problems, _unreadable_variable(environ, error)]) from None
    if not settings.destinations:
        problems.append(f"{file}: destinations: none configured: add a table [destinations.<name>]")
    destinations = [_resolve(file, key, settings, environ, problems) for key in settings.destinations]
    problems += _slug_problems(file, destinations)
    if problems:
        raise BadConfig(problems)
    return Configuration(file=file, settings=settings, destinations=tuple(destinations))


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
        if environ.get(variable) and isinstance(written, dict):
            table[section] = written | {key: environ[variable]}
    destinations = table.get("destinations")
    if environ.get("DISABLE_SESSION_SLEEP") and isinstance(destinations, dict):
        awake = {"disable_session_sleep": environ["DISABLE_SESSION_SLEEP"]}
        table["destinations"] = {
            key: awake | written if isinstance(written, dict) else written for key, written in destinations.items()
        }
    return table


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
    if detail["type"] == "extra_forbidden":
        message = f"unknown key{suggestion(path[-1], _known_keys(path[:-1]))}"
    elif detail["type"] in ("model_type", "dict_type"):
        message = f"must be a table: write [{'.'.join(path)}]"
    else:
        message = f"{detail['msg'][0].lower()}{detail['msg'][1:]}"
        if path[0] != "database":  # it may hold a password
            message += f", got {detail['input']!r}"
    known = [variable for variable, target in KNOWN_VARIABLES.items() if list(target) == path]
    for variable in (ENV_PREFIX + "__".join(path).upper(), *known):
        if environ.get(variable):
            return f"environment: {variable}: {message}"
    return f"{file}: {'.'.join(path)}: {message}"


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
    return (models.get(path[0], Settings) if path else Settings).model_fields


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ": did you mean X?", or the list of what is known when nothing is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}"


def _resolve(file: Path, key: str, settings: Settings, environ: Mapping[str, str], problems: list[str]) -> Destination:
    written = settings.destinations[key]
    name = written.name or key
    slug = slug_for(name)
    base_url, data_url = written.base_url.rstrip("/"), written.data_url.rstrip("/")
    if written.simulated:
        simulator = settings.simulator
        if simulator is None:
            problems.append(f"{file}: destinations.{key}.simulated: needs a [simulator] table: add one")
            simulator = SimulatorSettings.model_construct()
        base_url = data_url = f"http://{simulator.host}:{simulator.port}"
        key_id, secret = SecretStr(f"SIM-{slug}"), SecretStr("simulator")
    else:
        where = f"{file}: destinations.{key}"
        problems += _url_problems(where, written)
        key_id, secret = (_secret(f"ALPACA_{part}_{slug.upper()}", where, environ, problems)
                          for part in ("API_KEY", "SECRET_KEY"))  # fmt: skip
        if _is_custom(written) and key_id.get_secret_value().startswith("AK"):
            problems.append(f"{where}.base_url: a live key is never sent to a custom broker: use a paper key")
    return Destination(
        key=key, name=name, slug=slug, base_url=base_url, data_url=data_url, key_id=key_id, secret=secret,
        **written.model_dump(include={"initial_deposit", "disable_session_sleep", "armed", "simulated",
                                      "requests_per_min"}),
    )  # fmt: skip


def _is_custom(written: DestinationSettings) -> bool:
    places = ((written.base_url, ALPACA_TRADING_HOSTS), (written.data_url, ALPACA_DATA_HOSTS))
    return not all(
        (parts := _usable(url)) and parts.scheme == "https" and parts.netloc in hosts for url, hosts in places
    )


def _url_problems(where: str, written: DestinationSettings) -> Iterator[str]:
    if _is_custom(written) and not written.allow_custom_broker:
        yield (
            f"{where}.base_url, data_url: must be Alpaca's hosts over https "
            f"({', '.join(sorted(ALPACA_TRADING_HOSTS | ALPACA_DATA_HOSTS))}): "
            "correct them, or set allow_custom_broker = true"
        )
    for field in ("base_url", "data_url"):
        if _usable(getattr(written, field)) is None:
            yield f"{where}.{field}: not a usable URL: write scheme://host[:port] and nothing else"


def _usable(url: str) -> SplitResult | None:
    """Return the parts of a URL that a broker may have, None for any other."""
    try:
        parts = urlsplit(url)
        is_plain = parts.username is None and not parts.query and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is none
        return None
    return parts if is_plain and parts.hostname and parts.scheme in ("http", "https") else None


def _secret(variable: str, where: str, environ: Mapping[str, str], problems: list[str]) -> SecretStr:
    if environ.get(variable):
        return SecretStr(environ[variable])
    folders = [environ[name] for name in ("COLDHARBOUR_SECRETS_DIR", "CREDENTIALS_DIRECTORY") if environ.get(name)]
    for folder in [*folders, "/run/secrets"]:
        file = Path(folder, variable)
        if file.is_file() and (text := file.read_text(encoding="utf-8").strip()):
            return SecretStr(text)
    problems.append(
        f"{where}: missing secret: set the environment variable {variable}, "
        "or put it in a file of that name in the folder COLDHARBOUR_SECRETS_DIR"
    )
    return SecretStr("")


def _slug_problems(file: Path, destinations: list[Destination]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for destination in destinations:
        where, slug = f"{file}: destinations.{destination.key}.name", destination.slug
        if slug in owners:
            yield f"{where}: slug {slug!r} is already used by {owners[slug]!r}: give it another name"
        if slug in RESERVED_SLUGS:
            yield f"{where}: slug {slug!r} is a route of the web pages: give it another name"
        if len(slug) > MAX_SLUG_LENGTH:
            yield f"{where}: slug {slug!r} has {len(slug)} characters, at most {MAX_SLUG_LENGTH}: shorten the name"
        owners.setdefault(slug, destination.key)
