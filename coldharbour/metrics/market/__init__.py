"""The market as an account's equity needs it: session days and closing prices, asked once and kept; newest prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coldharbour.broker import Broker
from coldharbour.db import Database
from coldharbour.feed.model import LastPrice


@dataclass(frozen=True, slots=True)
class Source:
    """Where the past of one market is kept, and who is asked for what is not: None asks nobody.

    alive: called after each request, since many of them take long. last: what the price stream told last of a symbol,
    None where there is no stream.
    """

    db: Database
    market: str
    broker: Broker | None = None
    alive: Callable[[], None] = lambda: None
    last: Callable[[str], LastPrice | None] = lambda symbol: None
