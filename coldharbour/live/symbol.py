"""Both matchings of one symbol over one tape, moved on and taken back together; makes no rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from coldharbour.live.average import AverageCost
from coldharbour.live.cover import Coverage
from coldharbour.live.decimals import ZERO
from coldharbour.live.fifo import FifoEngine
from coldharbour.live.lineage import Lineage
from coldharbour.live.lot_engine import LotEngine
from coldharbour.live.model import Fill
from coldharbour.live.rewinding import rewind
from coldharbour.live.tape import Attachment, Step, Tape, in_order


class SymbolBook:
    """One symbol's events, lots and inventory; use it in the EXACT context.

    Events may come late or be stated anew; what follows from them ends as it must.
    """

    def __init__(self, symbol: str, lineage: Lineage) -> None:
        self.symbol, self.lineage, self.tape = symbol, lineage, Tape()
        self.engine, self.fifo = LotEngine(self.tape, lineage), FifoEngine(self.tape)
        self.average, self.coverage = AverageCost(self.tape), Coverage(symbol, self.engine, lineage)

    def extend(self, run: Sequence[Step], others: Iterable[int] = ()) -> None:
        """Match events that follow all there are. others: which of them are no fills."""
        self.tape.extend(run, others)
        self.engine.advance()
        self.fifo.advance()

    def first_touched(self, events: Iterable[Step]) -> int:
        """Return the first step whose outcome may change when events are put in or taken out."""
        return min(map(self.tape.find, events), default=len(self.tape))

    def asked_since(self, at: datetime) -> int:
        """Return the first step from a moment on whose outcome hung on which legs were live, or the tape's end."""
        steps, asked = self.tape.steps, self.engine.asked
        first = bisect_left(asked, at, key=lambda place: steps[place].at)
        return asked[first] if first < len(asked) else len(steps)

    def used_first(self, order_id: str) -> int:
        """Return the first step at which an order closed something, or the tape's end."""
        return min((row.first for row in self.engine.rows_of(order_id)), default=len(self.tape))

    def replay(self, place: int, added: Sequence[Step] = (), gone: Collection[Step] = ()) -> None:
        """Match again from a place on, with events put in and taken out, none of which belongs before it."""
        tape = self.tape
        rewind(self.engine, place)
        self.fifo.rewind(place)
        self.average.rewind(place)
        leaving = {(type(step), step.id) for step in gone}
        tail = [step for step in tape.cut(place) if (type(step), step.id) not in leaving]
        tail = in_order([*tail, *added])
        if tail:
            self.coverage.doubt(tail[0].at)
        for step in gone:
            self.coverage.doubt(step.at)
        self.extend(tail, [place for place, step in enumerate(tail) if type(step) is not Fill])

    @property
    def quantity(self) -> Decimal:
        """Shares held, negative when short."""
        held = sum((lot.remaining for lot in self.engine.open.values()), ZERO)
        return held if self.engine.is_long else -held


def attachment(lineage: Lineage, head: str) -> Attachment | None:
    """Return the event by which an OCO is tied to a lot; None for what is none, or began nobody knows when."""
    order = lineage.order(lineage.first(head))
    if order is None or lineage.latest(head) != head or not lineage.is_oco(head):
        return None
    at = order.created_at or order.submitted_at
    return None if at is None else Attachment(head, at, order.symbol, order.is_buy, order.qty)


def attachments(lineage: Lineage) -> Iterator[Attachment]:
    """Yield the events by which all OCOs are tied to lots."""
    for head in lineage.ocos():
        if (found := attachment(lineage, head)) is not None:
            yield found
