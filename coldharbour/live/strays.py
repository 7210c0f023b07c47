"""Orders without a parent that may be stops, by symbol and by when they ended; never decides what they protect."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from coldharbour.live.liveness import Span, lifespan
from coldharbour.live.model import OrderFact


class Strays:
    """Finds the few orders that still matter among the many that ended long ago."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Span]] = {}
        self._live: defaultdict[str, set[str]] = defaultdict(set)
        self._ended: defaultdict[str, list[tuple[datetime, str]]] = defaultdict(list)

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._known

    def put(self, order: OrderFact) -> None:
        """Take an order in as it is stated now; one that never was live is left out."""
        self.drop(order.id)
        span = lifespan(order)
        if span is None:
            return
        self._known[order.id] = order.symbol, span
        if span[1] is None:
            self._live[order.symbol].add(order.id)
        else:
            insort(self._ended[order.symbol], (span[1], order.id))

    def drop(self, order_id: str) -> None:
        """Forget an order, if it is there."""
        symbol, span = self._known.pop(order_id, ("", None))
        if span is None:
            return
        if span[1] is None:
            self._live[symbol].discard(order_id)
        else:
            ended = self._ended[symbol]
            del ended[bisect_right(ended, (span[1], order_id)) - 1]

    def live_since(self, symbol: str, at: datetime) -> Iterator[str]:
        """Yield the orders that were live at some time after a moment."""
        yield from self._live.get(symbol, ())
        ended = self._ended.get(symbol, [])
        for _, order_id in ended[bisect_right(ended, at, key=lambda entry: entry[0]) :]:
            yield order_id
