"""Destinations: the accounts of a configuration, with their slugs, addresses and secrets; connects to nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, SecretStr

from coldharbour.activity_types import performance_types
from coldharbour.sections import DestinationSettings, Settings, SimulatorSettings

RESERVED_SLUGS = frozenset({"healthz", "readyz", "metrics", "schema", "static", "login", "logout", "stream", "api"})
MAX_SLUG_LENGTH = 40  # the longest table prefix and the slug must fit PostgreSQL's 63 bytes
ALPACA_TRADING_HOSTS = frozenset({"paper-api.alpaca.markets", "api.alpaca.markets"})
ALPACA_DATA_HOSTS = frozenset({"data.alpaca.markets"})


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
    cash_flow_types: tuple[str, ...] = ()

    @property
    def performance_types(self) -> frozenset[str]:
        """The activity types that change profit; every other cash type moves the balance alone (domain.md 6)."""
        return performance_types(self.cash_flow_types)

    @property
    def market(self) -> str:
        """Whose calendar the account lives by: "us_equity", or "simulated"."""
        return "simulated" if self.simulated else "us_equity"


def slug_for(name: str) -> str:
    """Return the identifier that names a destination's tables, channels and URLs (domain.md 1).

    >>> slug_for("Cold Harbour v1.0"), slug_for("7up"), slug_for("--")
    ('cold_harbour_v1_0', 'd_7up', 'dest')
    """
    slug = re.sub(r"_+", "_", re.sub(r"[^a-z0-9_]", "_", name.lower())).strip("_")
    if not slug:
        return "dest"
    return f"d_{slug}" if slug[0].isdigit() else slug


def resolve(file: Path, key: str, settings: Settings, environ: Mapping[str, str], problems: list[str]) -> Destination:
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
                                      "requests_per_min", "cash_flow_types"}),
    )  # fmt: skip


def slug_problems(file: Path, destinations: list[Destination]) -> Iterator[str]:
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
    text = secret_text(variable, environ)
    if not text:
        problems.append(
            f"{where}: missing secret: set the environment variable {variable}, "
            "or put it in a file of that name in the folder COLDHARBOUR_SECRETS_DIR"
        )
    return SecretStr(text)


def secret_text(variable: str, environ: Mapping[str, str]) -> str:
    """Return a variable from the environment, else from a file of its name in a secrets folder, else ""."""
    if environ.get(variable):
        return environ[variable]
    folders = [environ[name] for name in ("COLDHARBOUR_SECRETS_DIR", "CREDENTIALS_DIRECTORY") if environ.get(name)]
    for folder in [*folders, "/run/secrets"]:
        file = Path(folder, variable)
        if file.is_file():
            return file.read_text(encoding="utf-8").strip()
    return ""
