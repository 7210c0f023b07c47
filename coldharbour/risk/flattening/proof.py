"""What became of a request of a flatten: the steps between its states, and what proves each; sends and reads nothing.

An answer is no proof. A closing order exists once it was read back by its name; it does not if three readings over
15 s found none, and only then may the same name be sent again, which the broker takes once.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from coldharbour.broker.model import Order
from coldharbour.broker.refusals import BrokerRefused, NotSent
from coldharbour.risk.flattening.model import Kind, Request, RequestState, Sight

UNSEEN_READS = 3
UNSEEN_FOR = timedelta(seconds=15)


def answered(request: Request, result: Order | BaseException | None, at: datetime) -> Request:
    """Return a sent request with what the end of it means. result: the order, None for a cancel, or what was raised.

    A definite refusal changed nothing, and a request that never left asked for nothing. Everything else is unknown, a
    cancelled wait included; so is the refusal of our name as taken, since then an order of ours exists.
    """
    if isinstance(result, Order):
        reason = f"the broker answered with order {result.id}"
        return replace(request, state=RequestState.ACCEPTED, reason=reason, order_id=result.id, answered_at=at)
    if result is None:
        return replace(request, state=RequestState.ACCEPTED, reason="the broker took the cancel", answered_at=at)
    reason = str(result) or type(result).__name__
    if isinstance(result, NotSent):
        return replace(request, state=RequestState.NOT_SENT, reason=f"not sent: {reason}", answered_at=at)
    is_definite = isinstance(result, BrokerRefused) and not result.is_name_taken
    state = RequestState.REJECTED if is_definite else RequestState.UNKNOWN
    return replace(request, state=state, reason=reason, answered_at=at)


def recovered(request: Request, at: datetime) -> Request:
    """Return a request that an earlier process left planned as what it is: perhaps sent."""
    reason = "the process that planned it is gone, and may have sent it"
    return replace(request, state=RequestState.UNKNOWN, reason=reason, answered_at=at, unseen=0)


def settled(request: Request, sight: Sight, now: datetime) -> Request:
    """Return an unsettled request as a look at the broker proves it, else with one more reading that does not."""
    if request.is_final:
        return request
    return _close(request, sight, now) if request.kind is Kind.CLOSE else _cancel(request, sight, now)


def _close(request: Request, sight: Sight, now: datetime) -> Request:
    order = sight.closings.get(request.name)
    if order is not None:
        return replace(request, state=RequestState.DONE, reason=f"order {order.id} bears its name", order_id=order.id)
    if request.state is RequestState.ACCEPTED:  # the broker named an order: it exists, wherever it is shown
        return request
    return _unseen(request, "the broker knows no order of this name", now)


def _cancel(request: Request, sight: Sight, now: datetime) -> Request:
    if (order := sight.ended.get(request.name)) is not None:
        return replace(request, state=RequestState.DONE, reason=f"the order is {order.status}")
    order = sight.orders.get(request.name)
    if order is None or order.status == "pending_cancel":
        return request
    return _unseen(request, f"the order is {order.status}", now)


def _unseen(request: Request, what: str, now: datetime) -> Request:
    unseen = request.unseen + 1
    if unseen >= UNSEEN_READS and request.answered_at is not None and now - request.answered_at >= UNSEEN_FOR:
        reason = f"{what} in {unseen} readings since {request.answered_at:%H:%M:%S} UTC"
        return replace(request, state=RequestState.NOT_DONE, reason=reason, unseen=unseen)
    return replace(request, unseen=unseen)
