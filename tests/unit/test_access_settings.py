"""What the configuration may say about access: what leaves the pages open, or closed to all, stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from coldharbour_plugins import dashboard
from pydantic import SecretStr

from coldharbour import settings
from coldharbour.cli import PluginGroup
from coldharbour.errors import BadConfig
from coldharbour.web.access.passwords import Passwords

ACCOUNT = "[simulator]\n[destinations.paper]\nsimulated = true\n"
HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$Ym9keQ"


def load(tmp_path: Path, text: str, **environ: str) -> settings.Configuration:
    file = tmp_path / "room.toml"
    file.write_text(text + ACCOUNT)
    return settings.load(file, environ)


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        ('[web]\nhost = "0.0.0.0"\n', "web.host: '0.0.0.0' is not a loopback", "set web.auth.mode"),
        ('[web]\norigins = ["https://room.example.org"]\n', "web.origins: others are served", "set web.auth.mode"),
        ('[web]\nhost = "::"\n[web.auth]\nmode = "cloudflare"\nteam = "t"\naudience = "a"\n', "web.origins: no browser",
         "name the pages' address"),
        ('[web]\norigins = ["http://room.example.org"]\n[web.auth]\nmode = "proxy"\nproxies = ["10.0.0.2"]\n',
         "web.origins: 'http://room.example.org' would send passwords", "use https"),
        ('[web]\norigins = ["https://room.example.org/path"]\n', "web.origins: 'https://room.example.org/path' is not",
         "write https://<host>"),
        ('[web.auth]\nmode = "proxy"\n', "web.auth.proxies: nobody's word", "name the address"),
        ('[web.auth]\nmode = "proxy"\nproxies = ["proxy.example"]\n', "web.auth.proxies: 'proxy.example'", "10.0.0.2"),
        ('[web.auth]\nmode = "cloudflare"\nteam = "x/y"\n', "web.auth.team: 'x/y' is no team", "cloudflareaccess.com"),
        ('[web.auth]\nmode = "cloudflare"\nteam = "x"\n', "web.auth.audience: missing", "audience tag"),
        ('[web.auth]\nmode = "password"\n', "web.auth.users: the password hash of 'operator' is missing",
         "WEB_PASSWORD_HASH_OPERATOR"),
        ('[web.auth]\nmode = "password"\nusers = ["Anna B"]\n', "web.auth.users: 'Anna B' is no user name",
         "lower-case"),
        ('[web.auth]\nmode = "password"\nusers = []\n', "web.auth.users: nobody could log in", "name at least one"),
        ('[web.auth]\nmod = "password"\n', "web.auth.mod: unknown key", "did you mean 'mode'"),
    ],
)  # fmt: skip
def test_it_is_refused_with_its_file_key_and_remedy(tmp_path: Path, text: str, key: str, remedy: str) -> None:
    with pytest.raises(BadConfig) as refused:
        load(tmp_path, text)

    found = [problem for problem in refused.value.problems if problem.startswith(f"{tmp_path}/room.toml: {key}")]
    assert len(found) == 1, refused.value.problems
    assert remedy in found[0]


def test_a_password_in_place_of_its_hash_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(BadConfig) as refused:
        load(tmp_path, '[web.auth]\nmode = "password"\n', WEB_PASSWORD_HASH_OPERATOR="CANARY-4711")

    assert "is no argon2id hash" in str(refused.value)
    assert "CANARY" not in str(refused.value)


def test_hashes_come_from_the_environment_or_a_secrets_folder_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "WEB_PASSWORD_HASH_BEN").write_text(f"{HASH}\n")

    configuration = load(
        tmp_path, '[web.auth]\nmode = "password"\nusers = ["anna", "ben"]\n',
        WEB_PASSWORD_HASH_ANNA=HASH, COLDHARBOUR_SECRETS_DIR=str(tmp_path),
    )  # fmt: skip

    assert {user: value.get_secret_value() for user, value in configuration.password_hashes.items()} == {
        "anna": HASH, "ben": HASH,
    }  # fmt: skip
    assert HASH not in repr(configuration)


def test_the_documented_forms_of_access_load(tmp_path: Path) -> None:
    origin = '[web]\nhost = "0.0.0.0"\norigins = ["https://room.example.org", "http://localhost:8080"]\n'
    for auth in (
        'mode = "password"',
        'mode = "proxy"\nproxies = ["10.0.0.0/24", "::1"]',
        'mode = "cloudflare"\nteam = "harbour"\naudience = "f00d"',
    ):
        assert load(tmp_path, f"{origin}[web.auth]\n{auth}\n", WEB_PASSWORD_HASH_OPERATOR=HASH)


@pytest.mark.anyio
async def test_the_password_command_prints_what_the_login_accepts() -> None:
    cli = PluginGroup("coldharbour")
    dashboard.register_commands(cli)
    password = "correct horse battery"

    printed = CliRunner().invoke(cli, ["password", "--user", "anna"], input=f"{password}\n{password}\n")
    short = CliRunner().invoke(cli, ["password"], input="short\nshort\n")

    variable, _, quoted = printed.stdout.strip().partition("=")
    hashes = Passwords({"anna": SecretStr(quoted.strip("'"))})
    assert variable == "WEB_PASSWORD_HASH_ANNA"
    assert password not in printed.output
    assert await hashes.match("anna", password)
    assert not await hashes.match("anna", password + "!")
    assert not await hashes.match("ben", password)
    assert (short.exit_code, short.stdout) == (2, "")
