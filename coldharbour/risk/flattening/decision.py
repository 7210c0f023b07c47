"""What a flatten does next about each symbol, and whether it may begin at all; pure rules, asks nobody.

A symbol gets one closing order in a run, and none while anything is unclear: a price that is not good, an order that
still holds shares, a request or a stop move whose outcome is not known. Source: the stop-move protocol, rows 23 to 31.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from coldharbour.live.model import ZERO
from coldharbour.risk.flattening.model import (
    ENDED,
    INEFFECTIVE,
    Around,
    Cancel,
    Close,
    Finish,
    Kind,
    Request,
    RequestState,
    Run,
    Scene,
    Step,
    Target,
    TargetState,
    Wait,
)
from coldharbour.risk.grid import plain
from coldharbour.risk.losses.model import Latch, Watch
from coldharbour.risk.names import order_name
from coldharbour.sessions import MarketSession, Phase

LEAST_LEFT_S = 60.0  # of the session: later no stop is taken away, since its shares might stay open without it
MOST_CLOSES, MOST_CANCELS = 3, 5  # attempts that the broker refused, or that are proved to have had no effect
RETRY = timedelta(seconds=2)
PENDING = frozenset({"pending_cancel", "pending_replace"})
NUMBER = re.compile(r"\d[\d.,:]*")


def why_not_begin(
    latch: Latch, watch: Watch | None, session: MarketSession | None, now: datetime, max_age: timedelta
) -> str:
    """Return why a latched limit sets no flatten going now, "" if it does.

    watch: how the day stands by the newest look, of the account or of all together as the latch is. It must be
    certain, fresh, of the running session, and still reach the limit: what went by meanwhile is not acted on.
    """
    if session is None or session.phase_at(now) is not Phase.REGULAR:
        return "the regular session is not on"
    if latch.session_date != session.session_date:
        return "the limit was reached in an earlier session"
    day = watch.day if watch else None
    if watch is None or watch.blind or day is None:
        return f"the day's loss cannot be seen: {watch.blind if watch else 'nobody looks'}"
    if day.session_date != session.session_date or now - day.as_of > max_age:
        return f"the day's loss was last seen at {day.as_of:%H:%M:%S} UTC"
    if latch.limit_pnl is None or day.day_pnl > latch.limit_pnl:
        return f"the day stands at {day.day_pnl:,.2f} now, which does not reach the limit"
    return ""


def seconds_left(run: Run, session: MarketSession | None, now: datetime) -> float:
    """Return the seconds to the close of the regular session in which a run's limit was reached, 0 outside it.

    A process that comes back in a later session does not go on with what it left: that loss is not of this day.
    """
    if session is None or session.session_date != run.session_date or session.phase_at(now) is not Phase.REGULAR:
        return 0.0
    return (session.close_utc - now).total_seconds()


def client_order_id(run: Run, symbol: str) -> str:
    """Return the name of a symbol's closing order: one for each latched limit and symbol, whoever asks.

    So the broker itself refuses a second one, and every unknown outcome can be read back.
    """
    latch = (run.latched_for, run.session_date.isoformat(), f"{run.latched_at.timestamp():.6f}")
    return order_name("flat", run.destination, run.destination, *latch, symbol)


def decide(scene: Scene, around: Around) -> list[Step]:
    """Return the next steps for one symbol, each with its reason: cancels, one close, a wait, or the end.

    A close is for exactly what is held, on the other side, so that it can end at flat and never beyond.
    """
    if scene.target.state is not TargetState.OPEN:
        return []
    found = (
        _by_closing(scene)
        or _by_request(scene)
        or _by_position(scene)
        or _by_account(scene, around)
        or _by_attempts(scene, around)
        or _by_symbol(scene)
    )
    if found is not None:
        return [found]
    return _cancels(scene, around) if scene.orders else [_close(scene)]


def _close(scene: Scene) -> Step:
    qty = abs(scene.held)
    if scene.available is not None and scene.available < qty:
        reserved = plain(qty - scene.available)
        return _wait(scene, f"the broker reserves {reserved} shares for an order that it does not show")
    side = "sell" if scene.held > ZERO else "buy"
    return Close(scene.target.symbol, side, qty, f"{side} {plain(qty)} at market, all that is held")


def _by_closing(scene: Scene) -> Step | None:
    """Follow the closing order to its end."""
    order = scene.closing
    if order is None:
        return None
    filled = order.filled_qty or ZERO
    if order.status == "filled":
        price = "" if order.filled_avg_price is None else f" at {plain(order.filled_avg_price)}"
        return _finish(scene, TargetState.CLOSED, f"{order.side} {plain(filled)}{price}")
    if order.status not in ENDED:
        return _wait(scene, f"the closing order is {order.status}, {_of(filled, order.qty)} filled")
    if scene.held == ZERO:
        return _finish(scene, TargetState.CLOSED, f"flat; the closing order is {order.status}")
    ended = f"the closing order is {order.status} after {_of(filled, order.qty)}"
    return _finish(scene, TargetState.LEFT, f"{ended}: {plain(abs(scene.held))} are left, and no second one is sent")


def _by_request(scene: Scene) -> Step | None:
    """Hold back while it is not known whether there is a closing order."""
    for request in scene.requests:
        if request.kind is Kind.CLOSE and not request.is_final:
            return _wait(scene, f"the closing order is {request.state}: read back until its outcome is proved")
    return None


def _by_position(scene: Scene) -> Step | None:
    if scene.held == ZERO:
        return _finish(scene, TargetState.CLOSED, "flat without our order")
    if not scene.held.is_finite() or scene.target.side.sign * scene.held < ZERO:
        return _finish(scene, TargetState.LEFT, f"{plain(scene.held)} are held: somebody turned the position since")
    return None


def _by_account(scene: Scene, around: Around) -> Step | None:
    held = plain(abs(scene.held))
    if not around.stands:
        return _finish(scene, TargetState.LEFT, f"the limit was reset: {held} are left")
    if around.closes_in_s <= 0:
        return _finish(scene, TargetState.LEFT, f"the session of the limit is over: {held} are left")
    return _wait(scene, around.kept_back) if around.kept_back else None


def _by_attempts(scene: Scene, around: Around) -> Step | None:
    """Give up after too many refusals, leave time between two attempts, and make none once an order was seen."""
    tried = [request for request in scene.requests if request.kind is Kind.CLOSE]
    if tried and tried[-1].state is RequestState.DONE:
        return _wait(scene, f"the broker does not show the closing order {tried[-1].order_id} any more")
    if (failed := _ineffective(tried)) >= MOST_CLOSES:
        left = plain(abs(scene.held))
        return _finish(scene, TargetState.LEFT, f"{left} are left after {failed} attempts: {tried[-1].reason}")
    if tried and _is_recent(tried[-1], around.now):
        return _wait(scene, f"asked again soon: {tried[-1].reason}")
    return None


def _by_symbol(scene: Scene) -> Step | None:
    if scene.stop_move:
        return _wait(scene, f"the outcome of the stop move {scene.stop_move} is not known yet")
    if scene.price_problem is not None:
        return _wait(scene, scene.price_problem)
    unclear = [request for request in scene.requests if request.kind is Kind.CANCEL and not request.is_final]
    if unclear:
        names = ", ".join(f"{request.name} ({request.state})" for request in unclear)
        return _wait(scene, f"canceled is not yet proved of {names}")
    return None


def _cancels(scene: Scene, around: Around) -> list[Step]:
    """Have every order of the symbol canceled first: they hold the shares, and would trade what is closed."""
    if around.closes_in_s < LEAST_LEFT_S:
        return [_wait(scene, f"less than {LEAST_LEFT_S:g} s to the close: its orders stay")]
    steps: list[Step] = []
    waits: list[str] = []
    for order in scene.orders:
        tried = [request for request in scene.requests if request.name == order.id]
        if _ineffective(tried) >= MOST_CANCELS:
            return [_wait(scene, f"{order.id} cannot be canceled: {tried[-1].reason}")]
        if order.status in PENDING:
            waits.append(f"{order.id} is {order.status}")
        elif tried and _is_recent(tried[-1], around.now):
            waits.append(f"{order.id} is canceled again soon: {tried[-1].reason}")
        else:
            steps.append(
                Cancel(
                    scene.target.symbol, order.id, f"cancel the {order.side} {order.type} {order.id}: it holds shares"
                )
            )
    return steps or [_wait(scene, "; ".join(waits))]


def would(scene: Scene, around: Around) -> str:
    """Return in words what a run would do about a symbol."""
    steps = decide(scene, around)
    side = "sell" if scene.held > ZERO else "buy"
    if cancels := sum(isinstance(step, Cancel) for step in steps):
        orders = "1 order" if cancels == 1 else f"{cancels} orders"
        return f"would cancel {orders}, then {side} {plain(abs(scene.held))} at market"
    if any(isinstance(step, Close) for step in steps):
        return f"would {side} {plain(abs(scene.held))} at market"
    return f"would not act: {steps[0].reason}"


def has_news(before: Sequence[Target], after: Sequence[Target]) -> bool:
    """Return whether targets stand otherwise than before in more than numbers.

    The age of a price grows from look to look: whoever took that for news would look again at once, and spend on that
    what the broker lets be asked.
    """
    return [_without_numbers(each) for each in before] != [_without_numbers(each) for each in after]


def _without_numbers(target: Target) -> tuple[TargetState, str, bool]:
    return target.state, NUMBER.sub("", target.detail), target.alarmed_at is not None


def next_attempt(requests: Sequence[Request], kind: Kind, name: str) -> int:
    """Return the number of the next attempt of a request."""
    return 1 + sum(request.kind is kind and request.name == name for request in requests)


def _ineffective(requests: Sequence[Request]) -> int:
    return sum(request.state in INEFFECTIVE for request in requests)


def _is_recent(request: Request, now: datetime) -> bool:
    has_failed = request.is_final and request.state is not RequestState.DONE
    return has_failed and request.answered_at is not None and now - request.answered_at < RETRY


def _of(filled: Decimal, qty: Decimal | None) -> str:
    return plain(filled) if qty is None else f"{plain(filled)} of {plain(qty)}"


def _wait(scene: Scene, reason: str) -> Wait:
    return Wait(scene.target.symbol, reason)


def _finish(scene: Scene, state: TargetState, reason: str) -> Finish:
    return Finish(scene.target.symbol, state, reason)
