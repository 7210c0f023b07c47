"""The exits that a broker holds for an entry, each as its whole chain of replacements; ties none to its parent.

Source: domain.md 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from coldharbour.live import liveness
from coldharbour.live.liveness import Span
from coldharbour.live.model import ExitType, OrderFact

STOPS: Final = frozenset({"stop", "stop_limit", "trailing_stop"})
OCO: Final = "oco"


@dataclass(frozen=True, slots=True)
class Leg:
    """One exit of a family. orders: its chain from the first to the latest successor. spans: when it was live.

    kind: take-profit or stop, by the chain's first order; None for neither.
    """

    orders: tuple[OrderFact, ...]
    kind: ExitType | None
    spans: tuple[Span, ...]

    @property
    def first(self) -> OrderFact:
        """The order that began the chain: its price is the initial one."""
        return self.orders[0]

    @property
    def age(self) -> tuple[datetime, str]:
        """Its place among other legs, the oldest first."""
        return liveness.began(self.first), self.first.id

    @property
    def working(self) -> OrderFact | None:
        """The newest order of the chain that is live, by the latest evidence; None if none is."""
        for order in reversed(self.orders):
            span = liveness.lifespan(order)
            if span is not None and span[1] is None:
                return order
        return None

    def member_at(self, at: datetime) -> OrderFact | None:
        """The order of the chain that was live at a moment: the one not yet replaced, whatever was tried beside it."""
        live = (order for order in self.orders if liveness.was_live(order, at))
        return min(live, key=lambda order: order.status == "rejected", default=None)


def lone_leg(order: OrderFact) -> Leg:
    """Return the leg that an order is which was never replaced."""
    span = liveness.lifespan(order)
    return Leg((order,), kind_of(order), () if span is None else (span,))


def chained_leg(path: Sequence[OrderFact], others: Sequence[OrderFact]) -> Leg:
    """Return the leg of a chain. path: from its first order to the latest successor; others: attempts beside it."""
    spans = (liveness.lifespan(order) for order in (*path, *others))
    kind = kind_of(path[0]) if path else None
    return Leg((*path[:-1], *others, *path[-1:]), kind, liveness.merged(span for span in spans if span))


def kind_of(order: OrderFact | None) -> ExitType | None:
    """Return whether an order takes profit or stops loss; None for neither."""
    if order is None:
        return None
    if order.order_type == "limit":
        return ExitType.TAKE_PROFIT
    return ExitType.STOP_LOSS if order.order_type in STOPS else None


def earliest_expiry(legs: Iterable[Leg]) -> datetime | None:
    """Return the earliest expiry among the legs that are live; None where none is known."""
    working = (leg.working for leg in legs)
    expiries = (liveness.expiry(order) for order in working if order is not None)
    return min((at for at in expiries if at is not None), default=None)
