"""Where the broker is reached, and the name we give there; never whether a host may be trusted.

Which hosts are allowed is checked by the settings, before anything here is asked.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from urllib.parse import urlsplit


def stream_url(base_url: str) -> str:
    """Return the trade_updates address of a trading host: https becomes wss, http becomes ws.

    >>> stream_url("https://paper-api.alpaca.markets")
    'wss://paper-api.alpaca.markets/stream'
    """
    parts = urlsplit(base_url)
    schemes = {"https": "wss", "http": "ws"}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"not the http(s) address of a host: {base_url!r}")
    return f"{schemes[parts.scheme]}://{parts.netloc}/stream"


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, which is never reached through a proxy."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def user_agent() -> str:
    """Return the name under which the broker sees this program."""
    try:
        return f"coldharbour/{version('coldharbour')}"
    except PackageNotFoundError:  # run from its source tree
        return "coldharbour/source"
