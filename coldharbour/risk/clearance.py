"""The last look before a stop is replaced: send, or the reason to abandon; sends nothing itself.

Everything that it looks at must have been read just now. That the new stop is on the grid needs no look: a
`StopMove` off the grid cannot be made. Source: the stop-move protocol, steps 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from coldharbour.risk.grid import tick_at
from coldharbour.risk.model import BreakevenRule, Leg, MarketView, StopMove
from coldharbour.risk.prices import price_problem, quiet_problem

REPLACEABLE = frozenset({"new", "held"})  # open, and nothing of it is pending or traded: the broker refuses all others


class Obstacle(StrEnum):
    """Why a planned move is not sent.

    leg_changed: another order, another kind, or a limit that is not the planned one. leg_not_replaceable: pending,
    finished or partly filled. not_tighter, stop_changed: somebody moved the stop since; it is theirs now.
    """

    LEG_CHANGED = "leg_changed"
    LEG_NOT_REPLACEABLE = "leg_not_replaceable"
    NOT_TIGHTER = "not_tighter"
    STOP_CHANGED = "stop_changed"
    POSITION_GONE = "position_gone"
    SESSION_CLOSED = "session_closed"
    PERHAPS_HALTED = "perhaps_halted"
    NO_PRICE = "no_price"
    TOO_NEAR_MARKET = "too_near_market"


@dataclass(frozen=True, slots=True)
class Abandon:
    """The planned move must not be sent. detail: the obstacle in words and numbers."""

    obstacle: Obstacle
    detail: str

    def __str__(self) -> str:
        return f"{self.obstacle}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was read just before sending.

    leg: the stop order that the move names. position_qty: the symbol's shares by the broker, negative for a short
    position, 0 when flat. market: the price now. session_open: whether the regular session is on.
    """

    leg: Leg
    position_qty: Decimal
    market: MarketView
    session_open: bool


def obstacle_to(move: StopMove, scene: Scene, rule: BreakevenRule) -> Abandon | None:
    """Return why a planned move must not be sent into this scene; None to send it.

    The market must be off the new stop, on the winning side, by `min_gap` at least, and by a tick.
    """
    return _in_leg(move, scene.leg) or _in_account(move, scene) or _in_market(move, scene.market, rule)


def _in_leg(move: StopMove, leg: Leg) -> Abandon | None:
    if leg.id != move.order_id or leg.stop_type != move.stop_kind or leg.limit_price != move.old_limit:
        detail = f"planned for the {move.stop_kind} {move.order_id} with limit {move.old_limit}"
        return Abandon(
            Obstacle.LEG_CHANGED, f"{detail}; it is the {leg.stop_type} {leg.id} with limit {leg.limit_price}"
        )
    if leg.status not in REPLACEABLE or leg.replaced_by is not None or leg.filled_qty != 0:
        detail = f"{leg.id} is {leg.status}, {leg.filled_qty} filled, replaced by {leg.replaced_by}"
        return Abandon(Obstacle.LEG_NOT_REPLACEABLE, detail)
    if leg.stop_price is None or not leg.stop_price.is_finite():
        return Abandon(Obstacle.STOP_CHANGED, f"planned for a stop at {move.old_stop}; it is at {leg.stop_price}")
    if move.side.sign * (move.stop_price - leg.stop_price) <= 0:
        return Abandon(Obstacle.NOT_TIGHTER, f"{move.stop_price} would not tighten the stop at {leg.stop_price}")
    if leg.stop_price != move.old_stop:
        return Abandon(Obstacle.STOP_CHANGED, f"planned for a stop at {move.old_stop}; it is at {leg.stop_price}")
    return None


def _in_account(move: StopMove, scene: Scene) -> Abandon | None:
    if not scene.position_qty.is_finite() or move.side.sign * scene.position_qty <= 0:
        return Abandon(Obstacle.POSITION_GONE, f"the broker holds {scene.position_qty} shares, not a {move.side} lot")
    if not scene.session_open:
        return Abandon(Obstacle.SESSION_CLOSED, "the regular session is not on")
    return None


def _in_market(move: StopMove, market: MarketView, rule: BreakevenRule) -> Abandon | None:
    problem = price_problem(market, rule)
    if problem is not None or market.price is None:
        return Abandon(Obstacle.NO_PRICE, problem or "no market price")
    if problem := quiet_problem(market, rule):
        return Abandon(Obstacle.PERHAPS_HALTED, problem)
    gap = max(rule.min_gap, tick_at(move.stop_price))
    if move.side.sign * (market.price - move.stop_price) < gap:
        detail = f"the market {market.price} is not {gap} clear of the new stop {move.stop_price}"
        return Abandon(Obstacle.TOO_NEAR_MARKET, detail)
    return None
