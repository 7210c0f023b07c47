"""Which open shares no live stop covers, and why; a pure rule, asks nobody and corrects nothing.

Source: domain.md 3, 4 (orphan). A stop covers its own lot first; what is nobody's leg covers the symbol's other lots,
the oldest first, up to its quantity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from coldharbour.live.legs import OCO, STOPS
from coldharbour.live.liveness import ENDED_AT, LIVE
from coldharbour.live.model import ZERO, Side
from coldharbour.risk.protection.model import Exposure, GuardedLot, OrderState, Reason, Stray

HELD = "held"
ENDINGS = {
    "canceled": Reason.STOP_CANCELED,
    "expired": Reason.STOP_EXPIRED,
    "rejected": Reason.STOP_REJECTED,
}


def unprotected(
    lots: Sequence[GuardedLot], orders: Iterable[OrderState], strays: Iterable[Stray] = ()
) -> list[Exposure]:
    """Return every quantity that no live stop covers: of lots, the oldest first, then what is no lot's.

    lots: the oldest first. orders: the lots' entries and exits, and all live stops that may be nobody's leg; of those
    that are alike, the newest change last. strays: symbols of which the broker holds something else than our lots.

    A leg that is held while its entry is not filled whole protects nothing: the broker does not send it out. Held
    beside a working take-profit, or in an OCO, it is as good as sent. A stop whose order is unknown, or has no
    quantity, counts for its whole lot.
    """
    cover = _Cover(orders)
    left_by_own = [(lot, lot.qty - cover.by_own_stop(lot)) for lot in lots]  # all of them first: others' shares wait
    found = []
    for lot, own_rest in left_by_own:
        rest = own_rest - cover.by_others(lot.symbol, lot.side, own_rest)
        if rest > ZERO:
            found.append(_exposed(lot, rest, cover))
    return [*found, *_without_lot(strays, cover)]


class _Cover:
    """What live stops have left to give; each share of theirs is given once."""

    def __init__(self, orders: Iterable[OrderState]) -> None:
        self.known: Mapping[str, OrderState] = {order.id: order for order in orders}
        self._left = {
            order.id: order.remaining
            for order in self.known.values()
            if order.order_type in STOPS and order.remaining is not None and _is_live(order)
        }
        self._shared: defaultdict[tuple[str, bool], list[str]] = defaultdict(list)
        for order in map(self.known.__getitem__, self._left):
            if _is_loose(order) or order.order_class == OCO:
                self._shared[order.symbol, order.is_buy].append(order.id)

    def by_own_stop(self, lot: GuardedLot) -> Decimal:
        """Give a lot what its own stop covers."""
        stop = self.stop_of(lot)
        if lot.stop_order_id is None or (stop is not None and (_is_loose(stop) or self.is_held_back(lot))):
            return ZERO
        if stop is None or stop.remaining is None or stop.status == "filled":  # then the lot's row is a moment behind
            return lot.qty
        return self._give(stop.id, lot.qty)

    def by_others(self, symbol: str, side: Side, wanted: Decimal) -> Decimal:
        """Give shares what stops cover that are nobody's leg, or that an OCO has left."""
        given = ZERO
        for stop_id in self._shared.get((symbol, side is Side.SHORT), ()):
            given += self._give(stop_id, wanted - given)
        return given

    def stop_of(self, lot: GuardedLot) -> OrderState | None:
        """Return the live stop of a lot, as far as it is known."""
        return self.known.get(lot.stop_order_id or "")

    def is_held_back(self, lot: GuardedLot) -> bool:
        """Return whether the broker keeps a lot's stop to itself until the entry is filled whole."""
        stop, entry = self.stop_of(lot), self.known.get(lot.parent_id)
        take = self.known.get(lot.take_order_id or "")
        if stop is None or entry is None or stop.status != HELD or stop.order_class == OCO:
            return False
        return entry.status != "filled" and (take is None or take.status == HELD)

    def ending_of(self, lot: GuardedLot) -> Reason:
        """Return what became of a lot's newest stop."""
        stops = [order for order in self.known.values() if order.order_type in STOPS and _is_of(order, lot)]
        return ENDINGS.get(stops[-1].status, Reason.NO_STOP) if stops else Reason.NO_STOP

    def _give(self, stop_id: str, wanted: Decimal) -> Decimal:
        given = min(self._left.get(stop_id, ZERO), wanted)
        if given > ZERO:
            self._left[stop_id] -= given
        return max(given, ZERO)


def _exposed(lot: GuardedLot, qty: Decimal, cover: _Cover) -> Exposure:
    stop = cover.stop_of(lot)
    since = lot.bare_since or lot.last_fill_time
    if stop is not None and stop.status in ENDED_AT:  # the lot's row is a moment behind
        reason, since = cover.ending_of(lot), max(since, stop.updated_at)
    elif cover.is_held_back(lot):
        reason, since = Reason.LEGS_HELD, lot.entry_time
    elif qty < lot.qty or stop is not None:
        reason = Reason.STOP_TOO_SMALL
        if lot.bare_since is None and stop is not None and stop.submitted_at is not None:
            since = max(since, stop.submitted_at)
    else:
        reason = cover.ending_of(lot)
    return Exposure(
        key=lot.parent_id, symbol=lot.symbol, parent_id=lot.parent_id, side=lot.side, qty=qty, reason=reason,
        since=since,
    )  # fmt: skip


def _without_lot(strays: Iterable[Stray], cover: _Cover) -> Iterator[Exposure]:
    """Yield what the broker holds beyond our lots; where it holds less, nothing is exposed."""
    for stray in strays:
        side = Side.LONG if stray.broker_qty > ZERO else Side.SHORT
        beyond = side.sign * stray.broker_qty - max(side.sign * stray.our_qty, ZERO)
        rest = beyond - cover.by_others(stray.symbol, side, beyond) if beyond > ZERO else ZERO
        if rest > ZERO:
            yield Exposure(
                key=f"symbol:{stray.symbol}", symbol=stray.symbol, parent_id=None, side=side, qty=rest,
                reason=Reason.NO_LOT, since=stray.seen_at,
            )  # fmt: skip


def _is_of(order: OrderState, lot: GuardedLot) -> bool:
    """Return whether a stop is or was a lot's: its leg, the one it names, or the one whose end left it bare."""
    if order.parent_id == lot.parent_id or order.id == lot.stop_order_id:
        return True
    return order.ended_at is not None and order.ended_at == lot.bare_since and order.symbol == lot.symbol


def _is_live(order: OrderState) -> bool:
    return order.status in LIVE or order.status == "done_for_day"  # that one lives on in the next session


def _is_loose(order: OrderState) -> bool:
    return order.parent_id is None
