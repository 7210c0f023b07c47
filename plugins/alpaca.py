"""The connection to Alpaca, for real accounts and for the simulated broker, which speaks the same protocols."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from random import Random

from coldharbour.broker import Broker
from coldharbour.clock import Clock
from coldharbour.destinations import Destination
from coldharbour.hookspecs import hookimpl


@hookimpl(trylast=True)
def open_broker(destination: Destination, clock: Clock, random: Random) -> AbstractAsyncContextManager[Broker]:
    """Offer the Alpaca client for every account that no other plugin claims."""
    return Broker(
        base_url=destination.base_url,
        data_url=destination.data_url,
        key_id=destination.key_id.get_secret_value(),
        secret=destination.secret,
        clock=clock,
        random=random,
        slug=destination.slug,
        requests_per_min=destination.requests_per_min,
    )
