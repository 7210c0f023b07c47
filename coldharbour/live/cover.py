"""Stops that are nobody's leg: which lots they protect, and when; places and moves none.

Source: domain.md 4 (orphan). They protect what their execution would close: the lots without a live stop of their
own, the oldest first, each whole, up to the quantity that the stops have left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from coldharbour.live.decimals import ZERO
from coldharbour.live.legs import Leg
from coldharbour.live.lineage import Lineage
from coldharbour.live.liveness import ALWAYS, Span, is_within
from coldharbour.live.lot_engine import LotEngine
from coldharbour.live.model import ExitType, Fill, OrderFact
from coldharbour.live.open_lot import OpenLot
from coldharbour.live.rewinding import held_since

Stretch = tuple[datetime, datetime | None, tuple[str, ...]]  # from, until, the lots that are covered


class Coverage:
    """What such stops protected of one symbol's lots; worked out anew from the earliest moment that is in doubt.

    touched: the lots whose protection was worked out anew; who looks at it empties it.
    """

    def __init__(self, symbol: str, engine: LotEngine, lineage: Lineage) -> None:
        self.touched: set[str] = set()
        self._symbol, self._engine, self._lineage = symbol, engine, lineage
        self._doubtful_since: datetime | None = ALWAYS
        self._stretches: list[Stretch] = []
        self._spans: defaultdict[str, list[Span]] = defaultdict(list)
        self._now: dict[str, OrderFact] = {}
        self._filled: defaultdict[str, list[tuple[datetime, Decimal]]] = defaultdict(list)

    def doubt(self, since: datetime) -> None:
        """Note that fills or orders changed from a moment on."""
        if self._doubtful_since is None or since < self._doubtful_since:
            self._doubtful_since = since

    def spans(self, lot: str) -> Sequence[Span]:
        """Return when a lot was protected."""
        self.refresh()
        return self._spans.get(lot, ())

    def now(self, lot: str) -> OrderFact | None:
        """Return the stop that protects a lot, as far as is known."""
        self.refresh()
        return self._now.get(lot)

    def refresh(self) -> None:
        """Work out what is in doubt."""
        since, self._doubtful_since = self._doubtful_since, None
        if since is None:
            return
        self._forget(since)
        stops = self._stops(since)
        if not stops:
            return
        for leg in stops:
            for order in leg.orders:
                fills = self._filled[order.id]
                del fills[bisect_left(fills, since, key=lambda fill: fill[0]) :]
        self._work_out(since, stops)

    def _forget(self, since: datetime) -> None:
        self._now = {}
        while self._stretches and _ends_after(self._stretches[-1], since):
            start, _, lots = self._stretches.pop()
            for lot in lots:
                self._cut(lot, since)
            if start < since:
                self._stretches.append((start, since, lots))
                break

    def _cut(self, lot: str, since: datetime) -> None:
        self.touched.add(lot)
        spans = self._spans[lot]
        while spans and (spans[-1][1] is None or spans[-1][1] > since):
            start, _ = spans.pop()
            if start < since:
                spans.append((start, since))
        if not spans:
            del self._spans[lot]

    def _stops(self, since: datetime) -> list[Leg]:
        heads = [head for head, lot in self._engine.legs.ties.items() if lot is None]
        untied = (leg for head in heads for leg in self._lineage.legs(head) if leg.kind is ExitType.STOP_LOSS)
        late = [leg for leg in untied if any(end is None or end > since for _, end in leg.spans)]
        return [*self._lineage.loose_stops(self._symbol, since), *late]

    def _work_out(self, since: datetime, stops: Sequence[Leg]) -> None:
        steps = self._engine.tape.steps
        history = held_since(self._engine, since)
        for (place, held), after in zip(history, [*history[1:], None][: len(history)], strict=True):
            step = steps[place]
            if type(step) is Fill and step.at >= since:
                self._filled[step.order_id].append((step.at, step.qty))
            until = None if after is None else steps[after[0]].at
            lots = sorted(held, key=lambda lot: lot.first)
            own = {lot: self._own_stops(lot) for lot in lots}
            for start, end in _pieces(max(step.at, since), until, stops, own.values()):
                bare = [(lot, held[lot]) for lot in lots if not is_within(start, own[lot])]
                self._now = dict(_protected(bare, self._available(stops, start)))
                self._note(start, end)

    def _own_stops(self, lot: OpenLot) -> list[Span]:
        return [span for leg in self._engine.legs.of(lot) if leg.kind is ExitType.STOP_LOSS for span in leg.spans]

    def _available(self, stops: Iterable[Leg], at: datetime) -> list[tuple[OrderFact, Decimal]]:
        live = (leg.member_at(at) for leg in stops)
        return [(order, (order.qty or ZERO) - self._filled_of(order)) for order in live if order is not None]

    def _filled_of(self, order: OrderFact) -> Decimal:
        return sum((qty for _, qty in self._filled.get(order.id, ())), ZERO)

    def _note(self, start: datetime, end: datetime | None) -> None:
        if not self._now:
            return
        self._stretches.append((start, end, tuple(self._now)))
        for lot in self._now:
            self.touched.add(lot)
            spans = self._spans[lot]
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))


def _ends_after(stretch: Stretch, at: datetime) -> bool:
    return stretch[1] is None or stretch[1] > at


def _pieces(start: datetime, until: datetime | None, stops: Iterable[Leg], own: Iterable[Sequence[Span]]) -> list[Span]:
    """Cut a stretch of time wherever a stop begins or ends."""
    if until is not None and start >= until:
        return []
    edges = {edge for leg in stops for span in leg.spans for edge in span}
    edges |= {order.replaced_at for leg in stops for order in leg.orders}
    edges |= {edge for spans in own for span in spans for edge in span}
    cuts = sorted(edge for edge in edges if edge is not None and start < edge and (until is None or edge < until))
    return list(zip([start, *cuts], [*cuts, until], strict=True))


def _protected(
    bare: Sequence[tuple[OpenLot, Decimal]], available: Iterable[tuple[OrderFact, Decimal]]
) -> Iterator[tuple[str, OrderFact]]:
    if not bare:
        return
    stops = [(order, left) for order, left in available if left > 0 and order.is_buy != bare[0][0].is_long]
    for lot, wanted in bare:
        if sum((left for _, left in stops), ZERO) < wanted:
            return
        yield lot.key, stops[0][0]
        while wanted:
            order, left = stops.pop(0)
            if left > wanted:
                stops.insert(0, (order, left - wanted))
            wanted -= min(left, wanted)  # noqa: PLW2901 - it is counted down
