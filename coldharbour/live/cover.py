"""Stops that are nobody's leg: which lots they protect, and when; places and moves none.

Source: domain.md 4 (orphan). They protect what their execution would close: the lots without a live stop of their
own, the oldest first, each whole, up to the quantity that the stops have left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from coldharbour.live.lineage import Leg
from coldharbour.live.liveness import Span, is_within
from coldharbour.live.lot_engine import LotEngine, OpenLot
from coldharbour.live.model import Fill, OrderFact

StopSpans = Callable[[OpenLot], Sequence[Span]]


@dataclass(frozen=True, slots=True)
class Cover:
    """What stops that are nobody's leg protected. spans: by lot, when. now: by lot, the stop that does now."""

    spans: Mapping[OpenLot, Sequence[Span]] = field(default_factory=dict)
    now: Mapping[OpenLot, OrderFact] = field(default_factory=dict)


def cover(engine: LotEngine, stops: Sequence[Leg], own_stops: StopSpans) -> Cover:
    """Return what these stops protect of the engine's lots. own_stops: when a lot had a live stop of its own."""
    starts = [leg.spans[0][0] for leg in stops if leg.spans]
    if not starts:
        return Cover()
    spans: defaultdict[OpenLot, list[Span]] = defaultdict(list)
    now: dict[OpenLot, OrderFact] = {}
    filled: defaultdict[str, Fraction] = defaultdict(Fraction)
    history = engine.held_since(min(starts))
    steps = engine.tape.steps
    for (place, held), after in zip(history, [*history[1:], None], strict=True):
        step = steps[place]
        if type(step) is Fill:
            filled[step.order_id] += Fraction(step.qty)
        until = None if after is None else steps[after[0]].at
        lots = sorted(held, key=lambda lot: lot.first)
        for start, end in _pieces(step.at, until, stops, [own_stops(lot) for lot in lots]):
            bare = [(lot, held[lot]) for lot in lots if not is_within(start, own_stops(lot))]
            now = dict(_protected(bare, _available(stops, start, filled), engine.tape.qty_digits))
            for lot in now:
                spans[lot].append((start, end))
    return Cover(spans, now)


def _pieces(start: datetime, until: datetime | None, stops: Iterable[Leg], own: Iterable[Sequence[Span]]) -> list[Span]:
    """Cut a stretch of time wherever a stop begins or ends."""
    edges = {edge for leg in stops for span in leg.spans for edge in span}
    edges |= {order.replaced_at for leg in stops for order in leg.orders}
    edges |= {edge for spans in own for span in spans for edge in span}
    cuts = sorted(edge for edge in edges if edge is not None and start < edge and (until is None or edge < until))
    return [(begin, end) for begin, end in zip([start, *cuts], [*cuts, until], strict=True) if begin != end]


def _available(stops: Iterable[Leg], at: datetime, filled: Mapping[str, Fraction]) -> list[tuple[OrderFact, Fraction]]:
    live = (leg.member_at(at) for leg in stops)
    return [(order, Fraction(order.qty or 0) - filled.get(order.id, 0)) for order in live if order is not None]


def _protected(
    bare: Iterable[tuple[OpenLot, int]], available: Iterable[tuple[OrderFact, Fraction]], digits: int
) -> Iterable[tuple[OpenLot, OrderFact]]:
    bare = list(bare)
    if not bare:
        return
    stops = [(order, left) for order, left in available if left > 0 and order.is_buy != bare[0][0].is_long]
    for lot, shares in bare:
        wanted = Fraction(abs(shares), 10**digits)
        if sum(left for _, left in stops) < wanted:
            return
        yield lot, stops[0][0]
        while wanted:
            order, left = stops.pop(0)
            if left > wanted:
                stops.insert(0, (order, left - wanted))
            wanted -= min(left, wanted)
