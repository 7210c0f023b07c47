"""The configuration: checked whole before anything connects; each problem is one line with its place and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from coldharbour import settings
from coldharbour.destinations import MAX_SLUG_LENGTH, RESERVED_SLUGS
from coldharbour.errors import BadConfig
from coldharbour.settings import Configuration

DEMO = """
[simulator]

[destinations.paper]
simulated = true
"""
REAL = """
[destinations.main]
"""
KEYS = {"ALPACA_API_KEY_MAIN": "PK-key-of-main", "ALPACA_SECRET_KEY_MAIN": "canary-secret-of-main"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "harbour.toml"


def load(file: Path, text: str, environ: Mapping[str, str] | None = None) -> Configuration:
    file.write_text(text, encoding="utf-8")
    return settings.load(file, environ or {})


def problems(file: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with a configuration, its folder left out."""
    with pytest.raises(BadConfig) as caught:
        load(file, text, environ)
    return [problem.replace(str(file), file.name) for problem in caught.value.problems]


class TestSources:
    def test_everything_has_a_default_but_the_destinations(self, file: Path) -> None:
        configuration = load(file, DEMO)

        assert configuration.settings.database.url == "embedded"
        assert configuration.settings.web.port == 5000
        [paper] = configuration.destinations
        assert (paper.name, paper.slug, paper.market) == ("paper", "paper", "simulated")
        assert not paper.armed

    def test_the_environment_wins_over_the_file(self, file: Path) -> None:
        environ = {
            "COLDHARBOUR_WEB__PORT": "6001",
            "COLDHARBOUR_DESTINATIONS__PAPER__INITIAL_DEPOSIT": "12.34",
            "COLDHARBOUR_WORKERS__HEALING__INTERVAL_S": "7",
        }
        configuration = load(file, f"[web]\nport = 6000\nhost = '::1'\n{DEMO}", environ)

        assert (configuration.settings.web.host, configuration.settings.web.port) == ("::1", 6001)
        assert configuration.destination("paper").initial_deposit == Decimal("12.34")
        assert configuration.settings.workers == {"healing": {"interval_s": "7"}}

    def test_the_names_operators_know_win_over_the_file_and_lose_against_ours(self, file: Path) -> None:
        known = {
            "POSTGRESQL_LIVE_CONN_STRING": "postgresql://live/lake",
            "POSTGRESQL_LIVE_LOCAL_CONN_STRING": "postgresql://local/lake",
            "TIMESCALE_LIVE_CONN_STRING": "postgresql://bars/lake",
            "ZMQ_SIP_STREAM_ENDPOINT": "tcp://feed:5556",
            "DISABLE_SESSION_SLEEP": "true",
            "PORT": "8080",
        }
        text = f"[database]\nurl = 'embedded'\n{DEMO}"

        configuration = load(file, text, known)
        assert configuration.settings.database.url == "postgresql://live/lake"
        assert configuration.settings.database.timescale_url == "postgresql://bars/lake"
        assert configuration.settings.feed.endpoint == "tcp://feed:5556"
        assert configuration.settings.web.port == 8080
        assert configuration.destination("paper").disable_session_sleep

        ours = {"COLDHARBOUR_WEB__PORT": "9090", "COLDHARBOUR_DATABASE__URL": "postgresql://ours/lake"}
        configuration = load(file, text, known | ours)
        assert configuration.settings.web.port == 9090
        assert configuration.settings.database.url == "postgresql://ours/lake"

    def test_what_a_destination_says_of_its_sleep_wins_over_the_environments_default(self, file: Path) -> None:
        text = f"{DEMO}disable_session_sleep = false"

        configuration = load(file, text, {"DISABLE_SESSION_SLEEP": "1"})

        assert not configuration.destination("paper").disable_session_sleep

    def test_what_counts_as_profit_is_replaced_or_changed_for_every_destination_or_for_one(self, file: Path) -> None:
        text = f"{DEMO}[destinations.swing]\nsimulated = true\ncash_flow_types = ['+SWP', '-ptc']"

        paper, swing = load(file, text, {"CASH_FLOW_TYPES": "div, FEE"}).destinations
        [usual] = load(file, DEMO).destinations

        assert paper.performance_types == {"DIV", "FEE"}
        assert swing.performance_types == usual.performance_types - {"PTC"} | {"SWP"}
        assert {"DIV", "FEE", "INT", "PTC"} < usual.performance_types

    def test_a_destination_is_found_by_its_key_its_slug_and_its_name(self, file: Path) -> None:
        configuration = load(file, f"{DEMO}name = 'Cold Harbour v1.0'")

        for name in ("paper", "cold_harbour_v1_0", "Cold Harbour v1.0"):
            assert configuration.destination(name).key == "paper"
        with pytest.raises(BadConfig, match=r"no destination 'swing'") as caught:
            configuration.destination("swing")
        assert caught.value.hint == "configured: paper"


class TestSecrets:
    def test_keys_come_from_the_environment(self, file: Path) -> None:
        [main] = load(file, REAL, KEYS).destinations

        assert main.key_id.get_secret_value() == "PK-key-of-main"
        assert main.secret.get_secret_value() == "canary-secret-of-main"

    @pytest.mark.parametrize("variable", ["COLDHARBOUR_SECRETS_DIR", "CREDENTIALS_DIRECTORY"])
    def test_keys_come_from_a_secrets_folder_without_the_line_end(
        self, file: Path, tmp_path: Path, variable: str
    ) -> None:
        for name, value in KEYS.items():
            (tmp_path / name).write_text(f"{value}\n")

        [main] = load(file, REAL, {variable: str(tmp_path)}).destinations

        assert main.secret.get_secret_value() == "canary-secret-of-main"

    def test_the_database_url_may_come_from_a_secrets_folder_too(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "POSTGRESQL_LIVE_CONN_STRING").write_text("postgresql://ops:canary-password@db/lake\n")

        loaded = load(file, REAL, KEYS | {"COLDHARBOUR_SECRETS_DIR": str(tmp_path)})

        assert loaded.settings.database.url == "postgresql://ops:canary-password@db/lake"

    def test_they_are_named_after_the_slug(self, file: Path) -> None:
        missing = problems(file, f"{REAL}name = 'Cold Harbour v1.0'")

        assert missing == [
            "harbour.toml: destinations.main: missing secret: set the environment variable "
            f"ALPACA_{part}_COLD_HARBOUR_V1_0, or put it in a file of that name in the folder COLDHARBOUR_SECRETS_DIR"
            for part in ("API_KEY", "SECRET_KEY")
        ]

    def test_a_loaded_configuration_never_shows_them(self, file: Path) -> None:
        environ = KEYS | {"POSTGRESQL_LIVE_CONN_STRING": "postgresql://ops:canary-password@db/lake"}

        configuration = load(file, REAL, environ)

        for text in (repr(configuration), str(configuration), repr(configuration.destinations)):
            assert "canary" not in text

    def test_an_error_never_quotes_the_database(self, file: Path) -> None:
        [problem] = problems(file, f"database = 'postgresql://ops:canary-password@db/lake'\n{DEMO}")

        assert problem == "harbour.toml: database: must be a table: write [database]"

    def test_simulated_accounts_need_none(self, file: Path) -> None:
        [paper] = load(file, DEMO).destinations

        assert paper.base_url == paper.data_url == "http://127.0.0.1:8099"
        assert paper.key_id.get_secret_value() == "SIM-paper"


class TestProblems:
    def test_all_are_reported_at_once(self, file: Path) -> None:
        text = """
            [destinations.healthz]
            [destinations.twin]
            name = "Twin One"
            [destinations.other]
            name = "twin-one"
        """
        found = problems(file, text, {"COLDHARBOUR_WBE__PORT": "1", "ACCOUNT_SCHEMA": "live"})

        assert len([problem for problem in found if "missing secret" in problem]) == 6
        assert [problem for problem in found if "missing secret" not in problem] == [
            "environment: COLDHARBOUR_WBE__PORT: unknown setting: did you mean 'web'?",
            "environment: ACCOUNT_SCHEMA: 'live' is not supported: the schema is always 'accounts'; unset it",
            "harbour.toml: destinations.healthz.name: slug 'healthz' is a route of the web pages: give it another name",
            "harbour.toml: destinations.other.name: slug 'twin_one' is already used by 'twin': give it another name",
        ]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[web]\nprot = 1", "web.prot: unknown key: did you mean 'port'?"),
            ("[wbe]", "wbe: unknown key: did you mean 'web'?"),
            ("_env_file = 'x'", "_env_file: unknown key: known are database, destinations, feed, log, plugins, "
                                "simulator, web, workers"),
            ("[web]\nport = 'high'", "web.port: input should be a valid integer, unable to parse string as an integer, "
                                     "got 'high'"),
            ("[web]\nport = 70000", "web.port: input should be less than or equal to 65535, got 70000"),
            ("[feed]\nmax_silence_s = 0", "feed.max_silence_s: input should be greater than 0, got 0"),
            ("[log]\nlevel = 'loud'", "log.level: input should be 'debug', 'info', 'warning' or 'error', got 'loud'"),
            ("web = 5", "web: must be a table: write [web]"),
            ("workers = 5", "workers: must be a table: write [workers]"),
            ("[workers]\nhealing = 5", "workers.healing: must be a table: write [workers.healing]"),
        ],
    )  # fmt: skip
    def test_each_names_its_file_and_key_and_the_remedy(self, file: Path, text: str, problem: str) -> None:
        assert problems(file, f"{text}\n{DEMO}") == [f"harbour.toml: {problem}"]

    @pytest.mark.parametrize(
        ("variable", "value", "problem"),
        [
            ("COLDHARBOUR_WEB__PROT", "1", "unknown key: did you mean 'port'?"),
            ("COLDHARBOUR_WEB__PORT", "high", "input should be a valid integer, unable to parse string as an integer, "
                                              "got 'high'"),
            ("PORT", "70000", "input should be less than or equal to 65535, got '70000'"),
            ("COLDHARBOUR_FEED__EXCLUDE_CONDITIONS", "D,M", "a list or table must be written as JSON, "
                                                            'such as ["D", "M"]'),
            ("COLDHARBOUR_WEB", "5000", "must be a table: write [web]"),
        ],
    )  # fmt: skip
    def test_one_of_the_environment_names_its_variable(
        self, file: Path, variable: str, value: str, problem: str
    ) -> None:
        assert problems(file, DEMO, {variable: value}) == [f"environment: {variable}: {problem}"]

    @pytest.mark.parametrize("known", [{"PORT": "8080"}, {"DISABLE_SESSION_SLEEP": "1"}])
    def test_what_should_be_a_table_is_refused_although_a_known_variable_belongs_into_it(
        self, file: Path, known: dict[str, str]
    ) -> None:
        text = "web = 5\n[destinations]\npaper = 5"

        assert problems(file, text, known) == [
            "harbour.toml: web: must be a table: write [web]",
            "harbour.toml: destinations.paper: must be a table: write [destinations.paper]",
        ]

    @pytest.mark.parametrize(
        ("written", "problem"),
        [
            ("DIV,DVI", "unknown activity type 'DVI': known are ACATC, CFEE, CGD, "),
            ("DIV,,FEE", "unknown activity type '': known are "),
            ("FEE,-PTC", "mixes FEE with -PTC: write + or - before each name, or before none"),
            ("DIV,FILL", "shares move with FILL, which is neither profit nor deposit: leave it out"),
            ("+JNLS", "shares move with JNLS, which is neither profit nor deposit: leave it out"),
        ],
    )
    def test_cash_flow_types_that_cannot_be_meant_are_refused_once(
        self, file: Path, written: str, problem: str
    ) -> None:
        [found] = problems(file, f"{DEMO}[destinations.swing]\nsimulated = true", {"CASH_FLOW_TYPES": written})

        assert found.startswith(f"environment: CASH_FLOW_TYPES: {problem}")

    def test_cash_flow_types_of_a_file_are_refused_there(self, file: Path) -> None:
        [found] = problems(file, f"{DEMO}cash_flow_types = ['DVI']", {"CASH_FLOW_TYPES": "DIV"})

        assert found.startswith("harbour.toml: destinations.paper.cash_flow_types: unknown activity type 'DVI': ")

    def test_a_file_without_destinations_is_refused(self, file: Path) -> None:
        assert problems(file, "") == ["harbour.toml: destinations: none configured: add a table [destinations.<name>]"]

    def test_a_simulated_account_needs_the_simulator(self, file: Path) -> None:
        assert problems(file, "[destinations.paper]\nsimulated = true") == [
            "harbour.toml: destinations.paper.simulated: needs a [simulator] table: add one"
        ]

    @pytest.mark.parametrize("slug", sorted(RESERVED_SLUGS))
    def test_no_destination_takes_the_address_of_a_page(self, file: Path, slug: str) -> None:
        [problem] = problems(file, f"{DEMO}name = '{slug.upper()}'")

        assert problem.startswith(f"harbour.toml: destinations.paper.name: slug {slug!r} is a route")

    def test_a_slug_that_postgresql_would_cut_is_refused(self, file: Path) -> None:
        load(file, f"{DEMO}name = '{'a' * MAX_SLUG_LENGTH}'")

        [problem] = problems(file, f"{DEMO}name = '{'a' * (MAX_SLUG_LENGTH + 1)}'")
        assert f"has {MAX_SLUG_LENGTH + 1} characters, at most {MAX_SLUG_LENGTH}: shorten the name" in problem

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"[web", "not valid TOML: "),
            (b"name = '\xff'", "cannot be read: "),
            (None, "no such file: give the configuration with --config"),
        ],
    )
    def test_a_file_that_cannot_be_read_says_why(self, file: Path, content: bytes | None, problem: str) -> None:
        if content is not None:
            file.write_bytes(content)

        with pytest.raises(BadConfig) as caught:
            settings.load(file, {})
        assert str(caught.value).startswith(f"{file}: {problem}")


class TestBrokerAddresses:
    @pytest.mark.parametrize("base_url", ["https://api.alpaca.markets", "https://paper-api.alpaca.markets/"])
    def test_alpacas_hosts_are_trusted(self, file: Path, base_url: str) -> None:
        [main] = load(file, f"{REAL}base_url = '{base_url}'", KEYS).destinations

        assert main.base_url == base_url.rstrip("/")

    @pytest.mark.parametrize(
        "base_url",
        [
            "http://api.alpaca.markets",
            "https://api.alpaca.markets.example.com",
            "https://api.alpaca.markets@example.com",
            "https://api.alpaca.markets:8443",
            "https://xn--alpaca-xyz.markets",
            "http://169.254.169.254",
        ],
    )
    def test_no_other_host_is_used_by_accident(self, file: Path, base_url: str) -> None:
        found = problems(file, f"{REAL}base_url = '{base_url}'", KEYS)

        assert found[0].startswith("harbour.toml: destinations.main.base_url, data_url: must be Alpaca's hosts")
        assert "allow_custom_broker = true" in found[0]

    def test_another_host_is_used_when_it_is_permitted(self, file: Path) -> None:
        text = f"{REAL}base_url = 'http://127.0.0.1:9000'\nallow_custom_broker = true"

        [main] = load(file, text, KEYS).destinations

        assert main.base_url == "http://127.0.0.1:9000"

    def test_a_live_key_never_goes_there_even_then(self, file: Path) -> None:
        text = f"{REAL}base_url = 'http://127.0.0.1:9000'\nallow_custom_broker = true"

        assert problems(file, text, KEYS | {"ALPACA_API_KEY_MAIN": "AK-live-key"}) == [
            "harbour.toml: destinations.main.base_url: a live key is never sent to a custom broker: use a paper key"
        ]

    @pytest.mark.parametrize(
        "base_url",
        ["ftp://host", "host:80", "https://", "http://[::1", "http://host:99999", "http://u:p@host", "http://h?a=b"],
    )
    def test_an_address_that_is_none_is_refused(self, file: Path, base_url: str) -> None:
        text = f"{REAL}base_url = '{base_url}'\nallow_custom_broker = true"

        assert problems(file, text, KEYS) == [
            "harbour.toml: destinations.main.base_url: not a usable URL: write scheme://host[:port] and nothing else"
        ]


class TestPluginSettings:
    def test_they_are_known_before_the_rest_is_checked(self, file: Path) -> None:
        file.write_text("[plugins]\ndisabled = ['stream']\n[wbe]")

        assert settings.plugin_settings(file).disabled == ("stream",)

    @pytest.mark.parametrize("text", ["[web", "plugins = 5", "[plugins]\nwrong = 1"])
    def test_a_file_with_problems_gives_the_defaults(self, file: Path, text: str) -> None:
        file.write_text(text)

        assert settings.plugin_settings(file).disabled == ()

    def test_a_missing_file_gives_the_defaults(self, file: Path) -> None:
        assert settings.plugin_settings(file).directory == ""
