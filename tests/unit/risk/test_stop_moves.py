"""The stop-move protocol step by step: which steps there are, which are refused, and what an answer means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from risk_values import NOW, D, leg, move

from coldharbour.broker.model import Order
from coldharbour.broker.refusals import (
    BrokerUnavailable,
    KeysRefused,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Refused,
    UnreadableAnswer,
    refusal,
)
from coldharbour.risk.clearance import Abandon, Obstacle
from coldharbour.risk.evidence import Reading
from coldharbour.risk.moves import (
    FINAL,
    Intent,
    MoveState,
    Outcome,
    Unsettled,
    WrongStep,
    abandon,
    answered,
    outcome_of,
    plan,
    recovered,
    send_once,
    settle,
)

State = MoveState
HALT = Abandon(Obstacle.PERHAPS_HALTED, "it has not traded for 121 s")
ACCEPTED = Outcome(State.ACCEPTED, "the broker answered", "stop-2")


def planned(*earlier: Intent) -> Intent:
    return plan(move(), destination="live", lot_id="parent", epoch=3, earlier=earlier)


def sent() -> Intent:
    return send_once(planned())[0]


def in_state(state: MoveState) -> Intent:
    return replace(sent(), state=state, since_s=100.0)


def still(*times: float) -> list[Reading]:
    return [Reading(at_s=at_s, old=leg(), stream_healthy=True) for at_s in times]


class TestPlan:
    def test_an_intent_is_on_record_before_anything_is_sent(self) -> None:
        intent = planned()

        assert (intent.state, intent.sent, intent.attempt, intent.new_order_id) == (State.PLANNED, False, 1, None)
        assert intent.client_order_id.startswith("stop-live-e3-a1-")

    @pytest.mark.parametrize("state", sorted(set(State) - FINAL))
    def test_nothing_is_planned_for_a_lot_with_an_open_intent(self, state: MoveState) -> None:
        with pytest.raises(Unsettled, match=f"is {state}"):
            planned(in_state(state))

    @pytest.mark.parametrize("state", sorted(set(State) - FINAL))
    def test_nor_for_the_same_order_under_another_lot(self, state: MoveState) -> None:
        with pytest.raises(Unsettled):
            planned(replace(in_state(state), lot_id="another parent"))

    def test_an_open_intent_of_another_lot_is_no_obstacle(self) -> None:
        other = replace(in_state(State.UNKNOWN), lot_id="another", move=move(order_id="stop-7"))

        assert planned(other).attempt == 1

    @pytest.mark.parametrize("state", sorted(FINAL))
    def test_the_next_attempt_has_another_name(self, state: MoveState) -> None:
        first = in_state(state)
        second = planned(first)

        assert second.attempt == 2
        assert second.client_order_id != first.client_order_id

    def test_a_new_epoch_begins_to_count_anew_and_has_another_name(self) -> None:
        before = replace(in_state(State.NOT_MOVED), epoch=2)
        now = planned(before)

        assert now.attempt == 1
        assert now.client_order_id != before.client_order_id


class TestSend:
    def test_it_hands_out_the_request_and_marks_the_intent(self) -> None:
        intent, fields = send_once(planned())

        assert intent.sent
        assert intent.state is State.PLANNED
        assert fields == {"stop_price": "49.99", "client_order_id": intent.client_order_id}

    def test_it_does_so_once(self) -> None:
        with pytest.raises(WrongStep, match="never sent again"):
            send_once(sent())

    @pytest.mark.parametrize("state", sorted(set(State) - {State.PLANNED}))
    def test_an_intent_in_any_other_state_is_not_sent(self, state: MoveState) -> None:
        with pytest.raises(WrongStep):
            send_once(replace(planned(), state=state))

    def test_an_intent_from_the_record_counts_as_sent(self) -> None:
        from_record = Intent(destination="live", lot_id="parent", move=move(), epoch=3)

        with pytest.raises(WrongStep):
            send_once(from_record)
        with pytest.raises(WrongStep):
            abandon(from_record, HALT)

    def test_an_intent_that_was_not_sent_can_be_abandoned(self) -> None:
        given_up = abandon(planned(), HALT)

        assert given_up.state is State.NOT_MOVED
        assert given_up.reason == "not sent: perhaps_halted: it has not traded for 121 s"

    def test_one_that_was_sent_cannot(self) -> None:
        with pytest.raises(WrongStep, match="only evidence"):
            abandon(sent(), HALT)


def order() -> Order:
    return Order(id="stop-2", status="new", created_at=NOW, updated_at=NOW, raw=b"{}")


class TestOutcome:
    def test_an_order_in_answer_is_accepted_and_no_more(self) -> None:
        assert outcome_of(order()) == Outcome(
            State.ACCEPTED, "the broker answered with order stop-2", new_order_id="stop-2"
        )

    @pytest.mark.parametrize(
        "error",
        [
            Refused("cannot replace order in accepted status", status=422, code=42210000),
            Refused("order already pending replacement", status=422, code=42210000),
            Refused("order chain not fully replaced", status=422, code=42210000),
            Refused('order is already in "filled" state', status=422, code=42210000),
            Refused("invalid stop_price 49.999. sub-penny increment", status=422, code=42210000),
            Refused("client_order_id must be no more than 128 characters", status=422, code=40010001),
            Refused("order parameters are not changed", status=403, code=40310000),
            NotFound("order not found for stop-1", status=404, code=40410000),
            KeysRefused("live", status=401, message="unauthorized."),
        ],
    )
    def test_a_definite_no_is_rejected(self, error: BaseException) -> None:
        outcome = outcome_of(error)

        assert outcome.state is State.REJECTED
        assert outcome.reason == str(error)

    def test_a_request_that_found_no_connection_asked_for_nothing(self) -> None:
        outcome = outcome_of(NotSent("no connection to api.example"))

        assert outcome == Outcome(State.NOT_MOVED, "not sent: no connection to api.example")

    @pytest.mark.parametrize(
        "error",
        [
            OutcomeUnknown("PATCH", "/v2/orders/stop-1", "no answer within 10 s"),
            BrokerUnavailable("the broker answered HTTP 500", status=500),
            BrokerUnavailable("the broker answered HTTP 429", status=429),
            UnreadableAnswer("an answer that cannot be read", status=200),
            TimeoutError(),
            ConnectionResetError(),
            asyncio.CancelledError(),
            KeyboardInterrupt(),
            ValueError("a bug"),
            BaseExceptionGroup("several", [NotSent("no connection"), asyncio.CancelledError()]),
        ],
    )
    def test_everything_else_is_unknown_and_says_what_happened(self, error: BaseException) -> None:
        outcome = outcome_of(error)

        assert outcome.state is State.UNKNOWN
        assert outcome.reason != ""

    @pytest.mark.parametrize(
        ("status", "body", "state"),
        [
            (422, b'{"code":42210000,"message":"order already replaced"}', State.REJECTED),
            (403, b'{"code":40310000,"message":"insufficient qty"}', State.REJECTED),
            (400, b"no JSON", State.REJECTED),
            (400, b"<html>a proxy speaks</html>", State.UNKNOWN),
            (408, b"", State.UNKNOWN),
            (425, b"", State.UNKNOWN),
            (429, b'{"code":42910000,"message":"rate limit exceeded"}', State.UNKNOWN),
            (500, b'{"code":50010000,"message":"internal server error occurred"}', State.UNKNOWN),
            (503, b"", State.UNKNOWN),
            (504, b"", State.UNKNOWN),
            (302, b"", State.UNKNOWN),
        ],
    )
    def test_it_agrees_with_what_the_broker_client_makes_of_an_answer(
        self, status: int, body: bytes, state: MoveState
    ) -> None:
        assert outcome_of(refusal(status=status, body=body, slug="live")).state is state

    def test_the_refusal_of_our_name_as_taken_shows_that_an_order_of_ours_exists(self) -> None:
        taken = Refused("client_order_id must be unique", status=422, code=40010001)

        assert outcome_of(taken).state is State.UNKNOWN


class TestAnswer:
    @pytest.mark.parametrize("state", [State.ACCEPTED, State.REJECTED, State.UNKNOWN, State.NOT_MOVED])
    def test_the_outcome_becomes_the_state(self, state: MoveState) -> None:
        intent = answered(sent(), Outcome(state, "why", "stop-2"), at_s=7.5)

        assert (intent.state, intent.reason, intent.new_order_id, intent.since_s) == (state, "why", "stop-2", 7.5)

    @pytest.mark.parametrize("intent", [planned(), *map(in_state, sorted(set(State) - {State.PLANNED}))])
    def test_nothing_but_a_sent_intent_awaits_one(self, intent: Intent) -> None:
        with pytest.raises(WrongStep, match="awaits no answer"):
            answered(intent, ACCEPTED, at_s=7.5)


class TestRecovery:
    @pytest.mark.parametrize("intent", [planned(), sent()])
    def test_planned_means_perhaps_sent(self, intent: Intent) -> None:
        found = recovered(intent, at_s=3.0)

        assert (found.state, found.since_s) == (State.UNKNOWN, 3.0)
        assert found.client_order_id == intent.client_order_id
        with pytest.raises(WrongStep):
            send_once(found)

    @pytest.mark.parametrize("state", [State.ACCEPTED, State.UNKNOWN])
    def test_what_is_to_be_proved_stays_so_and_is_read_anew(self, state: MoveState) -> None:
        found = recovered(in_state(state), at_s=3.0)

        assert found == replace(in_state(state), since_s=3.0)

    @pytest.mark.parametrize("state", sorted(FINAL))
    def test_what_is_final_stays_as_it_is(self, state: MoveState) -> None:
        assert recovered(in_state(state), at_s=3.0) == in_state(state)


class TestSettle:
    @pytest.mark.parametrize("state", [State.ACCEPTED, State.UNKNOWN])
    def test_evidence_alone_ends_it(self, state: MoveState) -> None:
        heir = leg("stop-2", stop="49.99", replaces="stop-1")
        took_over = Reading(at_s=100, old=leg(status="replaced", replaced_by="stop-2"), heir=heir, stream_healthy=True)

        assert settle(in_state(state), []) == in_state(state)
        assert settle(in_state(state), still(100, 108)) == in_state(state)
        assert settle(in_state(state), still(100, 108, 115)).state is State.NOT_MOVED
        moved = settle(in_state(state), [took_over])
        assert (moved.state, moved.new_order_id) == (State.MOVED, "stop-2")

    def test_readings_begun_before_the_request_had_ended_prove_nothing(self) -> None:
        assert settle(in_state(State.UNKNOWN), still(80, 90, 99.9, 108, 114)).state is State.UNKNOWN

    def test_an_intent_from_the_record_is_settled_only_after_its_recovery(self) -> None:
        from_record = Intent(destination="live", lot_id="parent", move=move(), epoch=3, state=State.UNKNOWN)

        assert settle(from_record, still(100, 108, 115)) == from_record
        assert settle(recovered(from_record, at_s=100), still(100, 108, 115)).state is State.NOT_MOVED

    @pytest.mark.parametrize("intent", [planned(), sent(), *map(in_state, sorted(FINAL))])
    def test_there_is_nothing_to_prove_in_any_other_state(self, intent: Intent) -> None:
        with pytest.raises(WrongStep, match="nothing to prove"):
            settle(intent, still(100, 108, 115))


STEPS: dict[str, Callable[[Intent], object]] = {
    "send": send_once,
    "abandon": lambda intent: abandon(intent, HALT),
    "answer": lambda intent: answered(intent, ACCEPTED, at_s=1.0),
    "settle": lambda intent: settle(intent, []),
}


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("step", STEPS)
def test_no_step_leads_out_of_a_final_state(state: MoveState, step: str) -> None:
    with pytest.raises(WrongStep):
        STEPS[step](in_state(state))


def test_a_name_depends_on_what_is_moved_and_never_on_the_state() -> None:
    intent = planned()

    assert replace(intent, state=State.MOVED, sent=True).client_order_id == intent.client_order_id
    assert replace(intent, move=move(stop_price=D("49.98"))).client_order_id != intent.client_order_id
