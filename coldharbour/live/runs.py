"""A ledger cut into runs: events of one symbol in order of time, as many at once as stay near each other in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter, lt
from typing import Final, TypeVar

from coldharbour.live.model import Fill, ShareMove
from coldharbour.live.tape import Attachment, Step, in_order

RUN: Final = 200  # events of a symbol in a run, on average: more make it slower by memory, fewer by calls
LEAST: Final = 4_000

Event = TypeVar("Event", Fill, ShareMove)

id_of = attrgetter("id")


def runs(
    fills: Iterable[Fill], moves: Iterable[ShareMove] = (), ocos: Iterable[Attachment] = ()
) -> Iterator[tuple[str, list[Step], list[int]]]:
    """Yield a ledger as (symbol, run of events, which of them are no fills); a symbol's runs follow in order of time.

    Of fills, and of moves, with one id the last one counts, as it does when one is stated anew.
    """
    others: list[Step] = [*_latest(moves), *ocos]
    ordered = in_order([*_latest(fills), *others])
    size = max(LEAST, RUN * len({event.symbol for event in ordered[:: max(len(ordered) // LEAST, 1)]}))
    start = 0
    while start < len(ordered):
        stop = _end(ordered, start + size)
        by_symbol: defaultdict[str, list[Step]] = defaultdict(list)
        for event in ordered[start:stop]:
            by_symbol[event.symbol].append(event)
        for symbol, run in by_symbol.items():
            yield symbol, run, [place for place, step in enumerate(run) if type(step) is not Fill] if others else []
        start = stop


def _end(ordered: Sequence[Step], stop: int) -> int:
    """Return where a run ends that would end at `stop`: what happens at one moment stays together."""
    while stop < len(ordered) and ordered[stop].at == ordered[stop - 1].at:
        stop += 1
    return min(stop, len(ordered))


def _latest(events: Iterable[Event]) -> list[Event]:
    events = list(events)
    ids = list(map(id_of, events))
    # The broker's own ids begin with the time: where they rise, none comes twice, and no set needs to be built.
    if all(map(lt, ids, islice(ids, 1, None))) or len(set(ids)) == len(ids):
        return events
    return list({event.id: event for event in events}.values())
