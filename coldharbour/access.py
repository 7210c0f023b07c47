"""Who may reach the pages, as far as the configuration says it: checks [web] and finds its secrets; lets nobody in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from coldharbour.destinations import secret_text
from coldharbour.sections import AuthSettings, WebSettings

USER = re.compile(r"[a-z][a-z0-9_]{0,31}")
HEADER = re.compile(r"[A-Za-z0-9-]+")
TEAM = re.compile(r"[a-z0-9][a-z0-9-]*")
HASH_PREFIX = "$argon2id$"
FORWARD_HINT = "or forward the port: ssh -L 5000:127.0.0.1:5000 <host>"


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def access_problems(file: Path, web: WebSettings) -> Iterator[str]:
    """Yield what would leave the pages open to others, or closed to everyone; one line each with its key."""
    where = f"{file}: web"
    if web.auth.mode == "none":
        if not is_loopback(web.host):
            yield (
                f"{where}.host: {web.host!r} is not a loopback address and web.auth.mode is none, so anybody could "
                f"read the pages: use 127.0.0.1, or set web.auth.mode, {FORWARD_HINT}"
            )
        if web.origins:
            yield f"{where}.origins: others are served with a login only: set web.auth.mode, {FORWARD_HINT}"
    elif not web.origins and not is_loopback(web.host):
        yield f"{where}.origins: no browser elsewhere would be answered: name the pages' address, https://<host>"
    for origin in web.origins:
        yield from _origin_problems(f"{where}.origins", origin)
    yield from _auth_problems(f"{where}.auth", web.auth)


def password_hashes(
    file: Path, auth: AuthSettings, environ: Mapping[str, str], problems: list[str]
) -> dict[str, SecretStr]:
    """Return the password hash of each user, by name; what is missing or no hash goes to the problems."""
    if auth.mode != "password":
        return {}
    hashes = {}
    for user in auth.users:
        variable = f"WEB_PASSWORD_HASH_{user.upper()}"
        text = secret_text(variable, environ)
        if not text.startswith(HASH_PREFIX):
            what = "is no argon2id hash" if text else "is missing"
            problems.append(
                f"{file}: web.auth.users: the password hash of {user!r} {what}: set the environment variable "
                f"{variable}, or a file of that name among the secrets, to what coldharbour password prints"
            )
        hashes[user] = SecretStr(text)
    return hashes


def _origin_problems(where: str, origin: str) -> Iterator[str]:
    try:
        parts = urlsplit(origin)
        is_plain = parts.port != 0 and f"{parts.scheme}://{parts.netloc}" == origin.lower() and parts.hostname
    except ValueError:
        is_plain = None
    if not is_plain or "@" in origin:
        yield f"{where}: {origin!r} is not an origin: write https://<host> or https://<host>:<port> and nothing else"
    elif parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        yield f"{where}: {origin!r} would send passwords in the clear: use https, behind a proxy or a tunnel"


def _auth_problems(where: str, auth: AuthSettings) -> Iterator[str]:
    for proxy in auth.proxies:
        try:
            ip_network(proxy)
        except ValueError:
            yield f"{where}.proxies: {proxy!r} is neither an address nor a network: write 10.0.0.2 or 10.0.0.0/24"
    match auth.mode:
        case "password":
            yield from _password_problems(where, auth)
        case "proxy":
            yield from _proxy_problems(where, auth)
        case "cloudflare":
            yield from _cloudflare_problems(where, auth)


def _password_problems(where: str, auth: AuthSettings) -> Iterator[str]:
    if not auth.users:
        yield f"{where}.users: nobody could log in: name at least one user"
    for user in auth.users:
        if not USER.fullmatch(user):
            yield f"{where}.users: {user!r} is no user name: up to 32 lower-case letters, digits and _"


def _proxy_problems(where: str, auth: AuthSettings) -> Iterator[str]:
    if not auth.proxies:
        yield f"{where}.proxies: nobody's word would be believed: name the address of the proxy"
    if not HEADER.fullmatch(auth.user_header):
        yield f"{where}.user_header: {auth.user_header!r} is not the name of a header"


def _cloudflare_problems(where: str, auth: AuthSettings) -> Iterator[str]:
    if not TEAM.fullmatch(auth.team):
        yield f"{where}.team: {auth.team!r} is no team: it is <team> in https://<team>.cloudflareaccess.com"
    if not auth.audience:
        yield f"{where}.audience: missing: copy the application's audience tag (AUD) from Cloudflare Access"
