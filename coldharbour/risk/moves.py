"""The stop-move protocol: what state an intent is in, and the only steps between states; does no step itself.

One intent asks once. Sending makes the outcome unknown until it is answered, and an intent that is ACCEPTED or
UNKNOWN is left through evidence alone. Source: the stop-move protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from coldharbour.broker.model import Order
from coldharbour.broker.refusals import BrokerRefused, NotSent
from coldharbour.risk.clearance import Abandon
from coldharbour.risk.evidence import Reading, proof
from coldharbour.risk.model import StopMove
from coldharbour.risk.replacement import changes, client_order_id


class MoveState(StrEnum):
    """Where an intent stands, as `accounts.stop_intents` records it.

    PLANNED: on record, not known to have been sent. ACCEPTED: the broker took the request. UNKNOWN: perhaps it did.
    REJECTED: it refused, and changed nothing. MOVED, NOT_MOVED: proved.
    """

    PLANNED = "PLANNED"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"
    MOVED = "MOVED"
    NOT_MOVED = "NOT_MOVED"


FINAL = frozenset({MoveState.REJECTED, MoveState.MOVED, MoveState.NOT_MOVED})
TO_BE_PROVED = frozenset({MoveState.ACCEPTED, MoveState.UNKNOWN})


class Unsettled(ValueError):
    """A lot has an intent whose outcome is not known: it must be settled before another is planned."""


class WrongStep(RuntimeError):
    """An intent was asked for a step that its state does not allow, such as being sent twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One wish to replace one stop, on record before it is sent; lot_id, order and prices never change.

    epoch: of the lease under which it was planned. attempt: counts from 1 for one order in one epoch. sent: whether the
    request may have left; an intent read from the record counts as sent. since_s: when its sending ended, by this
    process's monotonic clock; only readings from then on are evidence, and before it is known none is. reason: of its
    state, in words. new_order_id: promised while ACCEPTED, proved once MOVED.
    """

    destination: str
    lot_id: str
    move: StopMove
    epoch: int
    attempt: int = 1
    state: MoveState = MoveState.PLANNED
    sent: bool = True
    since_s: float = inf
    reason: str = ""
    new_order_id: str | None = None

    @property
    def client_order_id(self) -> str:
        """The name under which the broker knows the replacement."""
        return client_order_id(
            self.destination, self.move.order_id, self.move.stop_price, self.epoch, attempt=self.attempt
        )

    @property
    def is_final(self) -> bool:
        """Whether the outcome is known for good."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the end of a request means. new_order_id: of the order that the broker promised."""

    state: MoveState
    reason: str
    new_order_id: str | None = None


def plan(move: StopMove, *, destination: str, lot_id: str, epoch: int, earlier: Iterable[Intent]) -> Intent:
    """Return a new intent, to be put on record before anything is sent.

    destination: its slug. earlier: all intents of the same lot, or for the same order. Raises Unsettled if one of them
    is not final.
    """
    alike = 0
    for intent in earlier:
        is_same_order = intent.move.order_id == move.order_id
        if (is_same_order or intent.lot_id == lot_id) and not intent.is_final:
            raise Unsettled(f"{intent.client_order_id} is {intent.state}: settle it before lot {lot_id} is moved again")
        alike += is_same_order and intent.epoch == epoch
    return Intent(destination=destination, lot_id=lot_id, move=move, epoch=epoch, attempt=alike + 1, sent=False)


def send_once(intent: Intent) -> tuple[Intent, dict[str, str]]:
    """Return the intent as sent, and the fields of the request that replaces `intent.move.order_id`.

    There is no other way to the fields. Raises WrongStep for an intent that is, or may have been, sent before.
    """
    if intent.state is not MoveState.PLANNED or intent.sent:
        raise WrongStep(f"{intent.client_order_id} is {intent.state} and may have been sent: it is never sent again")
    return replace(intent, sent=True), changes(intent.move, intent.client_order_id)


def abandon(intent: Intent, why: Abandon) -> Intent:
    """Return a planned intent as NOT_MOVED, since it will not be sent. Raises WrongStep if it may have been."""
    if intent.state is not MoveState.PLANNED or intent.sent:
        raise WrongStep(f"{intent.client_order_id} is {intent.state} and may have been sent: only evidence settles it")
    return replace(intent, state=MoveState.NOT_MOVED, reason=f"not sent: {why}")


def outcome_of(result: Order | BaseException) -> Outcome:
    """Return what the end of the one request means: the order that was answered, or what was raised instead.

    Accepted is a promise, not a fact. A definite refusal changed nothing, and a request that never found a connection
    asked for nothing; everything else is unknown, a cancelled wait included. So is the refusal of our
    client_order_id as taken: then an order of ours exists. Source: the stop-move protocol, step 4.
    """
    if isinstance(result, Order):
        return Outcome(MoveState.ACCEPTED, f"the broker answered with order {result.id}", result.id)
    reason = str(result) or type(result).__name__
    if isinstance(result, NotSent):
        return Outcome(MoveState.NOT_MOVED, f"not sent: {reason}")
    if isinstance(result, BrokerRefused) and not result.is_name_taken:
        return Outcome(MoveState.REJECTED, reason)
    return Outcome(MoveState.UNKNOWN, reason)


def answered(intent: Intent, outcome: Outcome, *, at_s: float) -> Intent:
    """Return a sent intent with the outcome of its request. Raises WrongStep for one that awaits no answer."""
    if intent.state is not MoveState.PLANNED or not intent.sent:
        raise WrongStep(f"{intent.client_order_id} is {intent.state}: it awaits no answer")
    return replace(intent, state=outcome.state, reason=outcome.reason, new_order_id=outcome.new_order_id, since_s=at_s)


def recovered(intent: Intent, *, at_s: float) -> Intent:
    """Return an intent as a new process must see it: planned means perhaps sent, and earlier readings are void."""
    if intent.is_final:
        return intent
    if intent.state is MoveState.PLANNED:
        reason = "the process that planned it is gone, and may have sent it"
        return replace(intent, state=MoveState.UNKNOWN, sent=True, reason=reason, since_s=at_s)
    return replace(intent, sent=True, since_s=at_s)


def settle(intent: Intent, readings: Sequence[Reading]) -> Intent:
    """Return an ACCEPTED or UNKNOWN intent as MOVED or NOT_MOVED if the readings prove it, else as it is.

    readings: in the order in which they were made; those begun before its sending ended are left out. Raises
    WrongStep for any other state.
    """
    if intent.state not in TO_BE_PROVED:
        raise WrongStep(f"{intent.client_order_id} is {intent.state}: there is nothing to prove")
    found = proof(intent.move, [reading for reading in readings if reading.at_s >= intent.since_s])
    if found is None:
        return intent
    state = MoveState.MOVED if found.moved else MoveState.NOT_MOVED
    return replace(intent, state=state, reason=found.detail, new_order_id=found.new_order_id)
