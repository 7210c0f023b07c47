"""The stop-move protocol against a broker that may do its worst, as a state machine that Hypothesis drives.

The broker answers late, wrongly or not at all; applies a request at once, up to five seconds later, or never; and
its user edits, cancels and fills the same stop meanwhile. The process may die between any two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from risk_values import NOW, D, leg, lot, market

from coldharbour.broker.model import Order
from coldharbour.broker.refusals import NotSent, OutcomeUnknown, Refused
from coldharbour.live.model import Side
from coldharbour.risk.breakeven import decide_breakeven
from coldharbour.risk.clearance import Scene, obstacle_to
from coldharbour.risk.evidence import Reading
from coldharbour.risk.model import BreakevenRule, Leg, StopMove
from coldharbour.risk.moves import (
    Intent,
    MoveState,
    Unsettled,
    abandon,
    answered,
    outcome_of,
    plan,
    recovered,
    send_once,
    settle,
)

TIMEOUT_S = 10.0
LATEST_S = 5.0  # how long after a request the broker may still apply it
DELAYS = st.sampled_from([0.0, 1.0, LATEST_S])
OPEN = ("held", "new")
ENDED = ("filled", "canceled")


@dataclass
class Broker:
    """The true chain of one stop leg, and every request that it saw."""

    side: Side
    now_s: float = 0.0
    legs: dict[str, Leg] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    waiting: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    moves: list[tuple[Decimal, Decimal]] = field(default_factory=list)  # old and new stop of what our requests did

    def newest(self) -> Leg:
        """Return the end of the chain."""
        found = self.legs["stop-1"]
        while found.replaced_by is not None:
            found = self.legs[found.replaced_by]
        return found

    def named(self, name: str) -> Leg | None:
        return next((one for one in self.legs.values() if one.client_order_id == name), None)

    def wait(self, seconds: float) -> None:
        """Let time pass, and do what was due in it."""
        self.now_s += seconds
        due = [action for at_s, action in self.waiting if at_s <= self.now_s]
        self.waiting = [(at_s, action) for at_s, action in self.waiting if at_s > self.now_s]
        for action in due:
            action()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        self.waiting.append((self.now_s + seconds, action))

    def replace(self, order_id: str, stop: Decimal, name: str, *, is_ours: bool) -> Leg | None:
        """Take a replacement over if the order can be replaced now."""
        old = self.legs[order_id]
        if old.status not in OPEN or (name and self.named(name)):
            return None
        new = replace(old, id=f"stop-{len(self.legs) + 1}", stop_price=stop, client_order_id=name, replaces=old.id)
        self.legs |= {old.id: replace(old, status="replaced", replaced_by=new.id), new.id: new}
        if is_ours and old.stop_price is not None:
            self.moves.append((old.stop_price, stop))
        return new

    def begin(self, order_id: str, stop: Decimal, name: str, delay_s: float, *, is_rejected: bool) -> Leg:
        """Let a replacement wait beside its order; it takes over later, or is rejected. Raises Refused."""
        old = self.legs[order_id]
        if old.status not in OPEN:
            raise Refused(f"cannot replace order in {old.status} status", status=422, code=42210000)
        if self.named(name):
            raise Refused("client_order_id must be unique", status=422, code=40010001)
        new = leg(f"stop-{len(self.legs) + 1}", "accepted", str(stop), client_order_id=name, replaces=old.id)
        self.legs |= {old.id: replace(old, status="pending_replace"), new.id: new}

        def finish() -> None:
            seen, mine = self.legs[old.id], self.legs[new.id]
            took_over = seen.status == "pending_replace" and mine.status == "accepted" and not is_rejected
            if took_over:
                self.legs |= {
                    old.id: replace(seen, status="replaced", replaced_by=new.id),
                    new.id: replace(mine, status=old.status),
                }
                assert old.stop_price is not None
                self.moves.append((old.stop_price, stop))
                return
            if seen.status == "pending_replace":
                self.legs[old.id] = replace(seen, status=old.status)
            if mine.status == "accepted":
                self.legs[new.id] = replace(mine, status="rejected")

        self.later(delay_s, finish)
        return new

    def end(self, order_id: str, status: str) -> None:
        """Fill or cancel an order that is not finished yet."""
        if self.legs[order_id].status in (*OPEN, "pending_replace", "accepted"):
            self.legs[order_id] = replace(self.legs[order_id], status=status)

    def patch(self, order_id: str, fields: dict[str, str], fate: str, delay_s: float) -> Order:
        """Answer, or fail to answer, one request."""
        stop, name = D(fields["stop_price"]), fields["client_order_id"]
        if fate == "not sent":
            raise NotSent("no connection")
        self.requests.append(name)
        lost = OutcomeUnknown("PATCH", order_id, "no answer")
        if fate == "lost":
            self.wait(TIMEOUT_S)
            raise lost
        if fate == "refused":
            raise Refused("cannot replace order in accepted status", status=422, code=42210000)
        if fate == "applied unseen":
            self.later(delay_s, lambda: self.replace(order_id, stop, name, is_ours=True))
            self.wait(0 if delay_s > 2 else TIMEOUT_S)  # a connection may also break at once
            raise lost
        new = self.begin(order_id, stop, name, delay_s, is_rejected=fate == "accepted, then rejected")
        if fate == "an error though done":
            raise lost
        return Order(id=new.id, status="new", created_at=NOW, updated_at=NOW, raw=b"{}")


FATES = [
    "accepted", "accepted, then rejected", "refused", "lost", "applied unseen", "an error though done", "not sent",
]  # fmt: skip

MEANWHILE = [
    "the stop is loosened", "the stop is tightened beyond ours",
    "the leg is tightened in place", "the leg is loosened in place",
    "the leg fills", "the market falls through", "the market moves on",
    "the market is silent", "the session ends",
]  # fmt: skip


class StopMoves(RuleBasedStateMachine):
    """One process at a time moves the stop of one lot; the record outlives it."""

    side = Side.LONG

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(self.side, legs={"stop-1": leg(stop="48" if self.side is Side.LONG else "52")})
        self.record: dict[str, Intent] = {}
        self.readings: list[Reading] = []
        self.epoch = 1
        self.price: str | None = str(50 + self.side.sign)
        self.session_open = True

    @property
    def open_intent(self) -> Intent | None:
        return next((intent for intent in self.record.values() if not intent.is_final), None)

    def keep(self, intent: Intent) -> None:
        self.record[intent.client_order_id] = intent

    def planned_move(self, seen: Leg) -> StopMove | None:
        trade = lot(self.side, stop_order_id=seen.id, stop_price=seen.stop_price)
        return decide_breakeven(trade, market(self.price), BreakevenRule()).action

    @precondition(lambda self: self.broker.newest().status not in ENDED)
    @rule(fate=st.sampled_from(FATES), delay_s=DELAYS)
    def move(self, fate: str, delay_s: float) -> None:
        """Move the stop, nothing happening meanwhile."""
        self.move_while(fate, delay_s, "nothing")

    @precondition(lambda self: self.broker.newest().status not in ENDED)
    @rule(fate=st.sampled_from(FATES), delay_s=DELAYS, meanwhile=st.sampled_from(MEANWHILE))
    def move_while(self, fate: str, delay_s: float, meanwhile: str) -> None:
        """Decide, plan, look once more, and send; something may happen between two of these steps."""
        wanted = self.planned_move(self.broker.newest())
        if wanted is None:
            return
        if self.open_intent is not None:
            with pytest.raises(Unsettled):
                self.plan(wanted)
            return
        intent = self.plan(wanted)
        self.keep(intent)
        self.happens(meanwhile)
        scene = Scene(
            leg=self.broker.legs[wanted.order_id],
            position_qty=D(0) if self.broker.newest().status == "filled" else self.side.sign * D(100),
            market=market(self.price),
            session_open=self.session_open,
        )
        if why := obstacle_to(wanted, scene, BreakevenRule()):
            self.keep(abandon(intent, why))
            return
        assert meanwhile in {"nothing", "the market moves on"}, "this had to be noticed"
        intent, fields = send_once(intent)
        self.keep(intent)
        try:
            outcome = outcome_of(self.broker.patch(wanted.order_id, fields, fate, delay_s))
        except (NotSent, OutcomeUnknown, Refused) as error:
            outcome = outcome_of(error)
        self.keep(answered(intent, outcome, at_s=self.broker.now_s))

    @rule(delay_s=DELAYS, is_sent=st.booleans(), is_applied=st.booleans())
    def move_and_die(self, delay_s: float, *, is_sent: bool, is_applied: bool) -> None:
        """Die after the plan is on record: before the request, with it on its way, or with the answer."""
        wanted = self.planned_move(self.broker.newest())
        if wanted is None or self.open_intent is not None:
            return
        intent = self.plan(wanted)
        self.keep(intent)
        if is_sent and self.broker.legs[wanted.order_id].status in OPEN:
            _, fields = send_once(intent)
            self.broker.requests.append(fields["client_order_id"])
            if is_applied:
                stop, name = D(fields["stop_price"]), fields["client_order_id"]
                self.broker.later(delay_s, lambda: self.broker.replace(wanted.order_id, stop, name, is_ours=True))
        self.restart()

    def happens(self, what: str) -> None:
        """Let something happen after the plan; only the move of the market leaves the plan good."""
        newest, winning = self.broker.newest(), self.side.sign
        if what == "the stop is loosened" and newest.stop_price is not None:
            self.broker.replace(newest.id, newest.stop_price - winning, "", is_ours=False)
        elif what == "the stop is tightened beyond ours":
            self.broker.replace(newest.id, D("50") + winning * D("0.4"), "", is_ours=False)
        elif what == "the leg is loosened in place" and newest.stop_price is not None:
            self.broker.legs[newest.id] = replace(newest, stop_price=newest.stop_price - winning)
        elif what == "the leg is tightened in place":
            self.broker.legs[newest.id] = replace(newest, stop_price=D("50") + winning * D("0.4"))
        elif what == "the leg fills":
            self.broker.end(newest.id, "filled")
        elif what == "the market falls through":
            self.price = str(D("50") - winning * D("0.01"))
        elif what == "the market moves on":
            self.price = str(D("50") + winning)
        elif what == "the market is silent":
            self.price = None
        elif what == "the session ends":
            self.session_open = False

    def plan(self, wanted: StopMove) -> Intent:
        return plan(wanted, destination="live", lot_id="parent", epoch=self.epoch, earlier=self.record.values())

    @rule()
    def restart(self) -> None:
        """Die and begin anew under the next lease; only the record and the broker remember."""
        self.epoch += 1
        self.record = {name: recovered(intent, at_s=self.broker.now_s) for name, intent in self.record.items()}

    @rule()
    def another_day_begins(self) -> None:
        """Open the session, with the market on the winning side again."""
        self.session_open, self.price = True, str(50 + self.side.sign)

    @rule(seconds=st.sampled_from([1.0, 6.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.broker.wait(seconds)

    @precondition(lambda self: self.open_intent is not None)
    @rule(is_healthy=st.sampled_from([True, True, True, False]), seconds=st.sampled_from([0.0, 2.0, 8.0]))
    def read(self, seconds: float, *, is_healthy: bool) -> None:
        """Read the legs after a while, and conclude what can be concluded."""
        self.broker.wait(seconds)
        intent = self.open_intent
        assert intent is not None
        old = self.broker.legs[intent.move.order_id]
        heir = None if old.replaced_by is None else self.broker.legs[old.replaced_by]
        ours = self.broker.named(intent.client_order_id)
        self.readings.append(Reading(at_s=self.broker.now_s, old=old, heir=heir, ours=ours, stream_healthy=is_healthy))
        self.keep(settle(intent, self.readings))

    @rule(step=st.sampled_from([D("-0.5"), D("-0.25"), D("0.25"), D("3")]))
    def user_edits(self, step: Decimal) -> None:
        """Move the stop by hand, tighter or looser."""
        newest = self.broker.newest()
        assert newest.stop_price is not None
        self.broker.replace(newest.id, newest.stop_price + self.side.sign * step, "", is_ours=False)

    @rule(status=st.sampled_from(["canceled", "filled"]), rarely=st.integers(0, 9))
    def leg_ends(self, status: str, rarely: int) -> None:
        if rarely == 9:
            self.broker.end(self.broker.newest().id, status)

    @precondition(lambda self: self.open_intent is not None)
    @rule()
    def replacement_is_canceled(self) -> None:
        """Cancel what waits to take over, as a user may."""
        intent = self.open_intent
        ours = None if intent is None else self.broker.named(intent.client_order_id)
        if ours is not None and ours.status == "accepted":
            self.broker.end(ours.id, "canceled")

    @invariant()
    def no_intent_asks_twice(self) -> None:
        assert len(self.broker.requests) == len(set(self.broker.requests))

    @invariant()
    def there_is_one_open_intent_at_most(self) -> None:
        assert sum(not intent.is_final for intent in self.record.values()) <= 1

    @invariant()
    def no_move_of_ours_loosened_a_stop(self) -> None:
        assert all(self.side.sign * (new - old) > 0 for old, new in self.broker.moves)

    @invariant()
    def what_is_final_is_true_and_stays_true(self) -> None:
        for name, intent in self.record.items():
            old, ours = self.broker.legs[intent.move.order_id], self.broker.named(name)
            if intent.state is MoveState.MOVED:
                assert old.replaced_by is not None
                assert self.broker.legs[old.replaced_by].stop_price == intent.move.stop_price
            elif intent.is_final:
                assert ours is None or old.replaced_by != ours.id

    def teardown(self) -> None:
        """Left alone and read every six seconds, whatever is open is settled."""
        self.broker.wait(LATEST_S)
        self.restart()
        for _ in range(4):
            if self.open_intent is not None:
                self.read(6.0, is_healthy=True)
        assert self.open_intent is None
        self.what_is_final_is_true_and_stays_true()


class ShortStopMoves(StopMoves):
    side = Side.SHORT


LENGTH = settings(max_examples=400, stateful_step_count=30, deadline=None)
TestLongStopMoves = StopMoves.TestCase
TestLongStopMoves.settings = LENGTH
TestShortStopMoves = ShortStopMoves.TestCase
TestShortStopMoves.settings = LENGTH
