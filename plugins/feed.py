"""The price stream over ZeroMQ, as every process gets it that has a worker who uses prices."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from coldharbour.clock import Clock
from coldharbour.feed.prices import Prices
from coldharbour.feed.zmq import subscribed_prices
from coldharbour.hookspecs import hookimpl
from coldharbour.sections import FeedSettings


@hookimpl(trylast=True)
def open_prices(settings: FeedSettings, clock: Clock) -> AbstractAsyncContextManager[Prices]:
    """Offer the stream of [feed] unless another plugin has one."""
    return subscribed_prices(settings, clock)
