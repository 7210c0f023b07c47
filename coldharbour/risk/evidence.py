"""What proves that a stop moved, or that it did not; reads nothing, and never guesses.

Source: the stop-move protocol, step 5: an answer of the broker is no proof, and neither is a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from coldharbour.risk.model import Leg, StopMove

ENDED = frozenset({"filled", "canceled", "expired", "rejected"})  # finished for ever, and not by a replacement
GONE = frozenset({"canceled", "expired", "rejected"})
REPLACED = "replaced"
STILL_READS = 3
STILL_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Orders as the broker showed them in one round of reading, begun after the request had ended.

    at_s: when the round began, by the monotonic clock. old: the leg that was to be replaced. heir: the order that
    old.replaced_by names, read back. ours: the order with the client_order_id of the request, None if the broker
    knows none. stream_healthy: whether the order stream was alive all the while. A round in which a read failed is
    no reading.
    """

    at_s: float
    old: Leg
    heir: Leg | None = None
    ours: Leg | None = None
    stream_healthy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the readings prove. new_order_id: the order that stands in the old one's place, where it moved."""

    moved: bool
    detail: str
    new_order_id: str | None = None


def proof(move: StopMove, readings: Sequence[Reading]) -> Proof | None:
    """Return what readings, in the order in which they were made, prove of a move; None as long as nothing is proved.

    Moved: the old leg is replaced, and what replaced it was read back at our stop. Not moved: our order was rejected,
    the old leg was replaced by another price or by another's order, or it ended otherwise; or it stood unchanged in
    three consecutive readings over 15 s, with no live order of ours and the stream healthy all the while.
    """
    if not readings:
        return None
    newest = readings[-1]
    old, ours = newest.old, newest.ours
    if ours is not None and ours.status == "rejected":
        return Proof(moved=False, detail=f"the replacement {ours.id} was rejected")
    if old.status == REPLACED and (heir := _heir(newest)) is not None:
        return _by_heir(move, heir, ours)
    if old.status in ENDED and (ours is None or ours.status in GONE):
        return Proof(moved=False, detail=f"{old.id} is {old.status} and was not replaced")
    return _by_stillness(readings)


def _heir(reading: Reading) -> Leg | None:
    """Return the order that took the old one's place, if it was read."""
    read = [leg for leg in (reading.heir, reading.ours) if leg is not None]
    if reading.old.replaced_by is None:
        return next((leg for leg in read if leg.replaces == reading.old.id), None)
    return next((leg for leg in read if leg.id == reading.old.replaced_by), None)


def _by_heir(move: StopMove, heir: Leg, ours: Leg | None) -> Proof:
    if ours is not None and ours.id != heir.id:
        return Proof(moved=False, detail=f"{heir.id} replaced the leg, not the order {ours.id} that was asked for")
    if heir.status == "rejected":
        return Proof(moved=False, detail=f"the replacement {heir.id} was rejected")
    if heir.stop_price != move.stop_price:
        return Proof(moved=False, detail=f"{heir.id} replaced the leg, and stands at {heir.stop_price}")
    return Proof(moved=True, detail=f"{heir.id} replaced the leg at {heir.stop_price}", new_order_id=heir.id)


def _by_stillness(readings: Sequence[Reading]) -> Proof | None:
    old = readings[-1].old
    still = list(takewhile(lambda reading: _is_still(reading, old), reversed(readings)))
    if len(still) < STILL_READS or (span_s := still[0].at_s - still[-1].at_s) < STILL_S:
        return None
    detail = f"{old.id} is {old.status} at {old.stop_price}, unchanged in {len(still)} readings over {span_s:.0f} s"
    return Proof(moved=False, detail=detail)


def _is_still(reading: Reading, old: Leg) -> bool:
    """Say whether a reading shows the same old leg and nothing under way.

    A leg that is `replaced` by nothing, as the broker may show it after a corporate action, stands still too.
    """
    is_under_way = reading.ours is not None and reading.ours.status not in GONE
    is_linked = reading.heir is not None or old.replaced_by is not None or old.status.startswith("pending_")
    return reading.stream_healthy and reading.old == old and not is_under_way and not is_linked
