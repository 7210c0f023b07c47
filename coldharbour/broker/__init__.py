"""The broker stage: what Alpaca says, as values; its errors, as ours. Every other stage reads it from here.

`Broker` is what a worker holds: the REST calls of one account and its stream of trade updates.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from coldharbour.broker.address import stream_url
from coldharbour.broker.budget import Priority, RateBudget
from coldharbour.broker.model import (
    Account,
    Activity,
    Bar,
    CalendarDay,
    CorporateAction,
    EquityPoint,
    LatestTrade,
    MarketClock,
    Order,
    Position,
    TradeUpdate,
)
from coldharbour.broker.pages import ActivitiesPage, OrdersPage, StuckWalk
from coldharbour.broker.refusals import (
    BrokerRefused,
    BrokerUnavailable,
    KeysRefused,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Refused,
    UnreadableAnswer,
)
from coldharbour.broker.rest import AlpacaRest
from coldharbour.broker.stream import Frame, StreamLost, TradeUpdates, open_trade_updates
from coldharbour.broker.translate import Malformed, to_utc

__all__ = [
    "Account",
    "ActivitiesPage",
    "Activity",
    "AlpacaRest",
    "Bar",
    "Broker",
    "BrokerRefused",
    "BrokerUnavailable",
    "CalendarDay",
    "CorporateAction",
    "EquityPoint",
    "Frame",
    "KeysRefused",
    "LatestTrade",
    "Malformed",
    "MarketClock",
    "NotFound",
    "NotSent",
    "Order",
    "OrdersPage",
    "OutcomeUnknown",
    "Position",
    "Priority",
    "RateBudget",
    "Refused",
    "StreamLost",
    "StuckWalk",
    "TradeUpdate",
    "TradeUpdates",
    "UnreadableAnswer",
    "open_trade_updates",
    "stream_url",
    "to_utc",
]


class Broker(AlpacaRest):
    """One account at the broker: its REST calls, and its stream."""

    def trade_updates(self) -> AbstractAsyncContextManager[TradeUpdates]:
        """Open the account's stream; the broker allows one such connection per account.

        Raises StreamLost (Transient) or KeysRefused (NeedsOperator) on entry, StreamLost while reading.
        """
        return open_trade_updates(
            stream_url(self.base_url), self._key_id, self._secret, clock=self._clock, slug=self.slug
        )
