"""The tables of the configuration: every key, its type, default and meaning; reads nothing, checks no secret."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from coldharbour.activity_types import NoSuchType, performance_types

ENV_PREFIX = "COLDHARBOUR_"
PAPER_URL = "https://paper-api.alpaca.markets"
DATA_URL = "https://data.alpaca.markets"


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


class AuthSettings(Section):
    """Who may see the pages."""

    mode: Literal["none", "password", "proxy", "cloudflare"] = Field(
        "none", description="How a visitor proves who they are; without a proof only this machine is served."
    )
    users: tuple[str, ...] = Field(("operator",), description="Who may log in with a password.")
    session_idle_s: float = Field(3_600, gt=0, description="Seconds without a request or open page that end a login.")
    session_limit_s: float = Field(43_200, gt=0, description="Seconds after which a login ends in any case.")
    proxies: tuple[str, ...] = Field((), description="Addresses or networks of proxies whose headers are believed.")
    user_header: str = Field("X-Forwarded-User", description="Header in which those proxies name the visitor.")
    team: str = Field("", description="Cloudflare Access: the team, as in https://<team>.cloudflareaccess.com.")
    audience: str = Field("", description="Cloudflare Access: the audience tag of the application.")


class WebSettings(Section):
    """Where the pages are served."""

    host: str = Field("127.0.0.1", description="Address to bind; only loopback is served without a login.")
    port: int = Field(5000, ge=0, le=65535, description="TCP port; the environment's PORT wins.")
    origins: tuple[str, ...] = Field(
        (), description="Where browsers reach the pages besides loopback, such as https://room.example.org."
    )
    max_streams: int = Field(600, gt=0, description="Pages that may be open at once; one more is refused.")
    disable_sse: bool = Field(
        False, description="Ask for what changed every few seconds; for networks that hold back event streams."
    )
    actions: bool = Field(False, description="Offer the buttons that change something; the pages only show otherwise.")
    auth: AuthSettings = AuthSettings()


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
    cash_flow_types: tuple[str, ...] = Field(
        (), description="Activity types that count as profit or loss, in place of the usual ones."
    )
    workers: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Overrides of [workers.<kind>].")

    @field_validator("cash_flow_types")
    @classmethod
    def _are_types(cls, written: tuple[str, ...]) -> tuple[str, ...]:
        try:
            performance_types(written)
        except NoSuchType as error:
            raise PydanticCustomError("no_such_type", "{problem}", {"problem": str(error)}) from error
        return written


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
