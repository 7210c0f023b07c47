"""Load: owns making many order events quickly; decides nothing about prices or chances."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from .desk import Desk
from .digits import ONE, cents
from .market import Market
from .tickets import Ticket

COMMIT_EVERY = 500  # events between two writes of the journal
SHARES = Decimal(30)


def emit_events(desk: Desk, market: Market, events: int, *, now: Callable[[], int], commit: Callable[[], None]) -> int:
    """Trade through brackets until about `events` events were emitted; return how many there were.

    Each bracket fills in two slices, has its stop moved, and ends by its take-profit or by a cancel and a
    market order, so that the positions afterwards are those from before.
    """
    start = committed = desk.blotter.event_count
    rounds = 0
    while desk.blotter.event_count - start < events:
        symbol = market.symbols[rounds % len(market.symbols)]
        _trade_once(desk, _bracket(market, symbol), now, by_target=rounds % 2 == 0)
        rounds += 1
        if desk.blotter.event_count - committed >= COMMIT_EVERY:
            committed = desk.blotter.event_count
            commit()
    commit()
    return desk.blotter.event_count - start


def _trade_once(desk: Desk, ticket: Ticket, now: Callable[[], int], *, by_target: bool) -> None:
    blotter = desk.blotter
    entry = desk.write(ticket, now())
    price = ticket.limit_price or ONE
    if entry.status in {"pending_new", "accepted"}:
        blotter.accept(entry, blotter.moment(now()))
    for slices in (SHARES * 2 / 3, SHARES / 3):
        blotter.fill(entry, slices, price, blotter.moment(now()))
    target, stop = (blotter.book.by_id[leg_id] for leg_id in entry.legs)
    desk.replace(stop.id, {"stop_price": cents(price * Decimal("0.99"))}, now())
    blotter.finish_replace(stop, blotter.moment(now()))
    if by_target:
        for slices in (SHARES / 3, SHARES * 2 / 3):
            blotter.fill(target, slices, target.limit_price or price, blotter.moment(now()))
        return
    blotter.request_cancel(target, blotter.moment(now()))
    blotter.finish_cancel(target, blotter.moment(now()))
    leaving = desk.write(Ticket(asset=ticket.asset, side="sell", qty=SHARES), now())
    if leaving.status in {"pending_new", "accepted"}:
        blotter.accept(leaving, blotter.moment(now()))
    blotter.fill(leaving, SHARES, price, blotter.moment(now()))


def _bracket(market: Market, symbol: str) -> Ticket:
    price = market.price(symbol)
    return Ticket(
        asset=market.assets[symbol],
        side="buy",
        type="limit",
        time_in_force="gtc",
        order_class="bracket",
        qty=SHARES,
        limit_price=price,
        take_profit=cents(price * Decimal("1.02")),
        stop_loss=cents(price * Decimal("0.98")),
    )
