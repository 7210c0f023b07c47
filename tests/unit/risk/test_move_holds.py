"""What keeps a decided move back: a corporate action, a move too wide, a symbol or an account that fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from risk_values import NOW, lot, market

from coldharbour.risk.breakeven import decide_breakeven
from coldharbour.risk.holds import Attempt, Circumstances, Limits, held_back
from coldharbour.risk.model import BreakevenRule, Decision, Flag, Reason

MOVE = decide_breakeven(lot(), market("54"), BreakevenRule())  # 48 -> 49.99 of an entry at 50: 3.98 %
CALM = Circumstances(now=NOW, session_since=NOW - timedelta(hours=10), frozen={}, attempts=())


def attempt(state: str, answer: str = "ACCEPTED", *, minutes: float = 1, symbol: str = "KO") -> Attempt:
    return Attempt(symbol, NOW - timedelta(minutes=minutes), answer, state)


def held(around: Circumstances = CALM, limits: Limits | None = None) -> Decision:
    return held_back(MOVE, limits or Limits(), around)


def test_nothing_is_held_back_without_a_reason() -> None:
    assert MOVE.action is not None
    assert held() == MOVE
    nothing = decide_breakeven(lot(), market("49"), BreakevenRule())
    frozen = replace(CALM, frozen={"KO": "SPLIT of KO on 2026-10-08"})
    assert held_back(nothing, Limits(), frozen) == nothing


def test_a_symbol_whose_shares_change_is_frozen_and_others_are_not() -> None:
    found = held(replace(CALM, frozen={"KO": "SPLIT of KO on 2026-10-08"}))

    assert (found.flag, found.reason, found.action) == (Flag.NOTHING, Reason.CORPORATE_ACTION, None)
    assert found.detail.startswith("SPLIT of KO on 2026-10-08")
    assert found.new_stop == Decimal("49.99")
    assert held(replace(CALM, frozen={"PEP": "SPLIT of PEP on 2026-10-08"})) == MOVE


def test_a_symbol_that_does_not_trade_may_be_halted_and_is_left_alone() -> None:
    def decided(ago_s: float) -> Decision:
        quiet = market("54", traded_at=NOW - timedelta(seconds=ago_s))
        return held_back(decide_breakeven(lot(), quiet, BreakevenRule()), Limits(), CALM)

    assert decided(120).action is not None
    assert (decided(121).reason, decided(121).action) == (Reason.PERHAPS_HALTED, None)
    assert decided(901).reason is Reason.NO_PRICE


def test_a_move_wider_than_the_cap_is_not_made_and_one_as_wide_is() -> None:
    assert held(limits=Limits(max_move_pct=Decimal("3.97"))).reason is Reason.MOVE_TOO_WIDE
    assert held(limits=Limits(max_move_pct=Decimal("3.98"))) == MOVE


def test_a_symbol_is_disarmed_by_failures_in_a_row_of_this_session() -> None:
    failed = [attempt("NOT_MOVED", "UNKNOWN"), attempt("REJECTED", "REJECTED"), attempt("NOT_MOVED")]

    assert held(replace(CALM, attempts=failed)).reason is Reason.SYMBOL_DISARMED
    for others in (
        failed[:2],  # too few
        [*failed[:2], attempt("MOVED"), failed[2]],  # one of them went well
        [attempt("NOT_MOVED", symbol="PEP") for _ in range(3)],
        [attempt("NOT_MOVED", minutes=700) for _ in range(3)],  # of the day before
        [attempt("UNKNOWN", "UNKNOWN"), *failed[:2]],  # the newest is not known yet
    ):
        assert held(replace(CALM, attempts=others)) == MOVE


def test_an_account_is_disarmed_by_more_doubts_within_ten_minutes_than_its_limit() -> None:
    doubts = [attempt("MOVED", "UNKNOWN", symbol=f"S{n}") for n in range(11)]
    old = [attempt("MOVED", "UNKNOWN", symbol=f"S{n}", minutes=11) for n in range(5)]
    plain = [attempt("MOVED", symbol=f"S{n}") for n in range(50)]

    assert held(replace(CALM, attempts=doubts)).reason is Reason.ACCOUNT_DISARMED
    assert held(replace(CALM, attempts=[*doubts[:10], *old, *plain])) == MOVE
