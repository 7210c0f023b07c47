"""The edge to apprise: addresses made from a secret, and one message sent to one of them; logs no address.

It is a library that blocks, so it works in threads; it is installed with the extra `notify`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread

from coldharbour.errors import NeedsOperator

SEND_LIMIT_S = 30.0
# What they log names addresses, which are secrets.
TALKATIVE = ("apprise", "urllib3", "requests")


@dataclass(eq=False)
class Address:
    """One address. number: its place in the secret, from 1; kind: the service behind it."""

    number: int
    kind: str
    target: Any
    is_failing: bool = False

    async def send(self, title: str, body: str) -> bool:
        """Send one message; return whether the service took it."""
        with anyio.move_on_after(SEND_LIMIT_S):
            return bool(await anyio.to_thread.run_sync(self._send, title, body, abandon_on_cancel=True))
        return False

    def _send(self, title: str, body: str) -> bool:
        try:
            # As plain text: whatever a broker put into it is escaped where the service takes markup.
            return bool(self.target.notify(title=title, body=body, body_format="text"))
        except Exception:  # noqa: BLE001 - of any of a hundred services; its text may hold the address
            return False


async def addresses(secret: str, variable: str) -> list[Address]:
    """Return the addresses of a secret, separated by spaces or lines. Raises NeedsOperator without a usable one."""
    urls = secret.split()
    if not urls:
        raise NeedsOperator(f"notifications have no address: set the environment variable {variable}")
    return await anyio.to_thread.run_sync(_open, urls, variable)


def _open(urls: list[str], variable: str) -> list[Address]:
    try:
        import apprise  # noqa: PLC0415  only who wants notifications needs it, and it takes a second
    except ImportError as error:
        raise NeedsOperator(
            "notifications are sent by a library that is not installed here",
            hint="pip install 'coldharbour[notify]', or leave [workers.notifications] off",
        ) from error
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    found = []
    for number, url in enumerate(urls, 1):
        target = apprise.Apprise()
        if not target.add(url):
            raise NeedsOperator(f"{variable}: address {number} is none that apprise knows: correct it")
        found.append(Address(number, str(target[0].service_name or ""), target))
    return found
