"""The last look before sending: everything as planned, or the reason to abandon."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from risk_values import NOW, D, leg, market, move

from coldharbour.live.model import Side
from coldharbour.risk.clearance import Abandon, Obstacle, Scene, obstacle_to
from coldharbour.risk.model import BreakevenRule, Leg, MarketView, StopMove

LONG, SHORT = Side.LONG, Side.SHORT
RULE = BreakevenRule()
LIMITED: dict[str, Any] = {"old_limit": D("47"), "limit_price": D("48.99")}


def scene(side: Side = LONG, **changed: Any) -> Scene:
    """Return the moment before sending as it was planned for."""
    stop = leg(stop="48" if side is LONG else "52")
    values: dict[str, Any] = {
        "leg": stop, "position_qty": side.sign * D(100), "market": market("51" if side is LONG else "49"),
        "session_open": True,
    }  # fmt: skip
    return Scene(**(values | changed))


def obstacle(planned: StopMove, seen: Scene, rule: BreakevenRule = RULE) -> str | None:
    found = obstacle_to(planned, seen, rule)
    return None if found is None else found.obstacle.value


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("status", ["held", "new"])
def test_a_move_is_sent_when_everything_is_as_planned(side: Side, status: str) -> None:
    stop = leg(status=status, stop="48.00" if side is LONG else "52.00")

    assert obstacle_to(move(side), scene(side, leg=stop), RULE) is None


@pytest.mark.parametrize(
    ("planned", "seen"),
    [
        (move(), leg("stop-2")),
        (move(), leg(stop_type="stop_limit", limit_price=D("47"))),
        (move(), leg(stop_type="trailing_stop")),
        (move(), leg(stop_type="market")),
        (move(), leg(limit_price=D("47"))),
        (move(**LIMITED), leg()),
        (move(**LIMITED), leg(stop_type="stop_limit", limit_price=D("46.99"))),
    ],
)
def test_another_order_or_kind_or_limit_than_planned_is_left_alone(planned: StopMove, seen: Leg) -> None:
    assert obstacle(planned, scene(leg=seen)) == "leg_changed"


def test_a_stop_limit_as_planned_is_sent() -> None:
    assert obstacle(move(**LIMITED), scene(leg=leg(stop_type="stop_limit", limit_price=D("47.00")))) is None


@pytest.mark.parametrize(
    "status",
    [
        "accepted", "accepted_for_bidding", "pending_new", "pending_replace", "pending_cancel", "partially_filled",
        "filled", "canceled", "expired", "replaced", "rejected", "done_for_day", "stopped", "suspended", "calculated",
        "pending_review", "a_status_of_next_year",
    ],
)  # fmt: skip
def test_a_leg_that_the_broker_would_not_replace_is_left_alone(status: str) -> None:
    assert obstacle(move(), scene(leg=leg(status=status))) == "leg_not_replaceable"


def test_a_leg_with_a_successor_or_a_fill_is_left_alone() -> None:
    assert obstacle(move(), scene(leg=leg(replaced_by="stop-2"))) == "leg_not_replaceable"
    assert obstacle(move(), scene(leg=leg(status="new", filled_qty=D(1)))) == "leg_not_replaceable"


@pytest.mark.parametrize(
    ("side", "stop", "expected"),
    [
        (LONG, "47.5", "stop_changed"),
        (LONG, "49.5", "stop_changed"),
        (LONG, "49.99", "not_tighter"),
        (LONG, "53", "not_tighter"),
        (SHORT, "53", "stop_changed"),
        (SHORT, "50.5", "stop_changed"),
        (SHORT, "50.01", "not_tighter"),
        (SHORT, "45", "not_tighter"),
        (LONG, None, "stop_changed"),
        (LONG, "NaN", "stop_changed"),
    ],
)
def test_a_stop_that_somebody_moved_meanwhile_is_theirs(side: Side, stop: str | None, expected: str) -> None:
    assert obstacle(move(side), scene(side, leg=leg(stop=stop))) == expected


@pytest.mark.parametrize(("side", "qty"), [(LONG, "0"), (LONG, "-100"), (LONG, "NaN"), (SHORT, "0"), (SHORT, "5")])
def test_nothing_is_sent_for_a_position_that_is_gone_or_flipped(side: Side, qty: str) -> None:
    assert obstacle(move(side), scene(side, position_qty=D(qty))) == "position_gone"


def test_a_position_that_shrank_is_still_there() -> None:
    assert obstacle(move(), scene(position_qty=D("0.5"))) is None


def test_nothing_is_sent_outside_the_session_or_while_the_symbol_does_not_trade() -> None:
    def traded(ago_s: float) -> Scene:
        return scene(market=market("51", traded_at=NOW - timedelta(seconds=ago_s)))

    assert obstacle(move(), scene(session_open=False)) == "session_closed"
    assert obstacle(move(), traded(120)) is None
    assert obstacle(move(), traded(120.1)) == "perhaps_halted"
    assert obstacle(move(), traded(30), BreakevenRule(max_quiet_s=29)) == "perhaps_halted"


@pytest.mark.parametrize(
    "view",
    [
        market(None), market("NaN"), market("51", feed_silent_s=16), market("51", last_trade=D("40")),
        market("51", traded_at=NOW - timedelta(seconds=901)),
    ],
)  # fmt: skip
def test_nothing_is_sent_on_a_price_that_is_not_good(view: MarketView) -> None:
    assert obstacle(move(), scene(market=view)) == "no_price"


@pytest.mark.parametrize(
    ("side", "price", "expected"),
    [
        (LONG, "50", None),
        (LONG, "49.995", "too_near_market"),
        (LONG, "49.99", "too_near_market"),
        (LONG, "48", "too_near_market"),
        (SHORT, "50", None),
        (SHORT, "50.005", "too_near_market"),
        (SHORT, "50.01", "too_near_market"),
        (SHORT, "52", "too_near_market"),
    ],
)
def test_the_market_must_be_clear_of_the_new_stop_by_the_gap(side: Side, price: str, expected: str | None) -> None:
    assert obstacle(move(side), scene(side, market=market(price))) == expected


def test_the_gap_is_the_rules_and_a_tick_at_least() -> None:
    at_gap, near = scene(market=market("50.04")), scene(market=market("50.03"))

    assert obstacle(move(), at_gap, BreakevenRule(min_gap=D("0.05"))) is None
    assert obstacle(move(), near, BreakevenRule(min_gap=D("0.05"))) == "too_near_market"
    assert obstacle(move(), scene(market=market("49.995")), BreakevenRule(min_gap=D("0"))) == "too_near_market"


def test_the_reason_is_told_in_words_and_numbers() -> None:
    assert str(obstacle_to(move(), scene(leg=leg(stop="49.5")), RULE)) == (
        "stop_changed: planned for a stop at 48; it is at 49.5"
    )
    quiet = scene(market=market("51", traded_at=NOW - timedelta(seconds=121)))
    detail = "it has not traded for 121 s (limit 120 s) and may be halted"
    assert obstacle_to(move(), quiet, RULE) == Abandon(Obstacle.PERHAPS_HALTED, detail)
