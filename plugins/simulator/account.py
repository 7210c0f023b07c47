"""One account as its owner sees it: requests in, Alpaca's JSON out; owns no rules of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

from .activities import activity_json
from .blotter import Blotter, Listener
from .bookings import Booking, book
from .desk import Desk
from .digits import NANO, ZERO, cents, plain
from .load import emit_events
from .market import Market
from .minutes import Holdings, Minutes
from .orders import OPEN, Order, order_json
from .permission import equity_of
from .profit import realised_by_exit
from .refusals import Refused, invalid, not_found
from .sessions import Sessions
from .stamps import rfc3339
from .truth import ReplaceJudge, truth_of
from .views import Views

JSON = dict[str, object]


class SimulatedAccount:
    """One simulated brokerage account.

    Every request raises `Refused` for what Alpaca refuses. What changes something is in the journal, and told
    to the listeners, before the request returns.
    """

    def __init__(
        self,
        slug: str,
        *,
        blotter: Blotter,
        market: Market,
        sessions: Sessions,
        now: Callable[[], int],
        commit: Callable[[], None],
    ) -> None:
        self.slug = slug
        self.key_id = f"SIM-{slug}"
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"account:{slug}"))
        self.blotter = blotter
        self.desk = Desk(blotter, market, sessions)
        self.replaces = ReplaceJudge()
        self.minutes = Minutes(self.holdings)
        self._market = market
        self._sessions = sessions
        self._now = now
        self._commit = commit
        self._views = Views(slug, self.id, blotter, market, sessions)

    def place(self, request: Mapping[str, object]) -> JSON:
        """POST /v2/orders: return the new order with its legs."""
        order = self.desk.place(request, self._now())
        self._commit()
        return self._nested(order)

    def replace(self, order_id: str, changes: Mapping[str, object]) -> JSON:
        """PATCH /v2/orders/{id}: return the new order, which takes over a little later or never."""
        now, known = self._now(), len(self.blotter.book)
        try:
            new = self.desk.replace(order_id, changes, now)
        finally:  # a replace can have happened although its answer is an error
            if len(self.blotter.book) > known:
                self._judge(self.blotter.book.get(order_id), now)
            self._commit()
        return self._nested(new)

    def cancel(self, order_id: str) -> None:
        """DELETE /v2/orders/{id}: take the request; the order may still fill."""
        self.desk.cancel(order_id, self._now())
        self._commit()

    def cancel_all(self) -> list[JSON]:
        """DELETE /v2/orders: one `{"id", "status", "body"}` per group, the id its live member's."""
        answers: list[JSON] = []
        for order in self._open_orders():
            if order.status != "pending_cancel" and not order.terminal:
                self.desk.cancel(order.id, self._now())
            answers.append({"id": order.id, "status": 200, "body": self._nested(self._root(order))})
        self._commit()
        return answers

    def order(self, order_id: str, *, nested: bool = False) -> JSON:
        """GET /v2/orders/{id}."""
        order = self.blotter.book.get(order_id)
        return self._nested(order) if nested else order_json(order)

    def order_by_client_id(self, client_order_id: str) -> JSON:
        """GET /v2/orders:by_client_order_id."""
        return self._nested(self.blotter.book.by_client_id(client_order_id))

    def orders(
        self,
        *,
        status: str = "open",
        limit: int = 50,
        after: datetime | None = None,
        until: datetime | None = None,
        direction: str = "desc",
        nested: bool = False,
        symbols: Sequence[str] = (),
        side: str | None = None,
        before_order_id: str | None = None,
        after_order_id: str | None = None,
    ) -> list[JSON]:
        """GET /v2/orders: at most 500 rows; bounds are exclusive and compare with the submission."""
        rows = self.blotter.book.listing(
            status=status,
            limit=limit,
            after=after,
            until=until,
            direction=direction,
            nested=nested,
            symbols=symbols,
            side=side,
            before_order_id=before_order_id,
            after_order_id=after_order_id,
        )
        return [self._nested(order) if nested else order_json(order) for order in rows]

    def activities(
        self,
        *,
        types: Sequence[str] = (),
        category: str | None = None,
        on: date | None = None,
        after: datetime | None = None,
        until: datetime | None = None,
        direction: str = "desc",
        page_size: int = 100,
        page_token: str | None = None,
        order_id: str | None = None,
    ) -> list[JSON]:
        """GET /v2/account/activities: at most 100 rows by id, strictly after `page_token`."""
        rows = self.blotter.ledger.listing(
            now=self._now(),
            types=types,
            category=category,
            on=on,
            after=after,
            until=until,
            direction=direction,
            page_size=page_size,
            page_token=page_token,
            order_id=order_id,
        )
        return [activity_json(row) for row in rows]

    def account(self) -> JSON:
        """GET /v2/account."""
        return self._views.account(self._now())

    def positions(self) -> list[JSON]:
        """GET /v2/positions."""
        return self._views.positions(self._now())

    def position(self, symbol_or_asset_id: str) -> JSON:
        """GET /v2/positions/{symbol or asset id}."""
        symbol = self._held_symbol(symbol_or_asset_id)
        return self._views.position(symbol, self.blotter.ledger.positions[symbol], self._now())

    def close_position(
        self, symbol_or_asset_id: str, *, qty: Decimal | None = None, percentage: Decimal | None = None
    ) -> JSON:
        """DELETE /v2/positions/{symbol or asset id}: return the closing market order.

        percentage: 0-100 of the position; neither it nor qty closes all of it.
        """
        symbol = self._held_symbol(symbol_or_asset_id)
        held = self.blotter.ledger.quantity(symbol)
        if qty is not None and percentage is not None:
            raise invalid("only one of qty or percentage is accepted")
        shares = abs(held)
        if percentage is not None:
            shares = (shares * percentage / 100).quantize(NANO)
        return self.place(
            {
                "symbol": symbol,
                "qty": plain(qty if qty is not None else shares),
                "side": "sell" if held > 0 else "buy",
                "type": "market",
                "time_in_force": "day",
            }
        )

    def close_all_positions(self, *, cancel_orders: bool = False) -> list[JSON]:
        """DELETE /v2/positions: one `{"symbol", "status", "body"}` per position, canceled orders first."""
        answers: list[JSON] = []
        if cancel_orders:
            for order in self._open_orders():
                if not order.terminal:
                    self.blotter.finish_cancel(order, self.blotter.moment(self._now()))
                body = self._nested(self._root(order))
                answers.append({"symbol": order.id, "status": 200, "body": body})
        answers.extend(self._try_to_close(symbol) for symbol in sorted(self.blotter.ledger.positions))
        self._commit()
        return answers

    def portfolio_history(
        self,
        *,
        period: str | None = None,
        timeframe: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> JSON:
        """GET /v2/account/portfolio/history."""
        return self._views.history(self._now(), period, timeframe, start, end)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call back with the `data` of every trade update, in order; returns the unsubscriber."""
        self.blotter.listeners.append(callback)
        return lambda: self.blotter.listeners.remove(callback)

    def book(self, booking: Booking) -> JSON:
        """Book money or shares that come or go by hand, now; return the activity."""
        now = self._now()
        self.minutes.begin_step(now)
        activity = book(self.blotter, self._market, booking, now)
        self._commit()
        return activity_json(activity)

    def holdings(self) -> Holdings:
        """Return what the account has now."""
        quantities = {symbol: held.qty for symbol, held in self.blotter.ledger.positions.items()}
        return Holdings(equity_of(self.blotter, self._market), self.blotter.ledger.cash, quantities)

    def realised(self) -> dict[str, Decimal]:
        """Return the first-in-first-out profit of every exit so far, by its order (or transfer), in currency."""
        return realised_by_exit(self.blotter.ledger.everything())

    def truth(self) -> JSON:
        """Return counts, checksums and figures to compare a copy of this account with."""
        return truth_of(self.blotter, self.replaces)

    def details(self) -> JSON:
        """Return what is true and too long for every look: profit by exit, and what there was at each minute's end."""
        realised = self.realised()
        return {
            "realised_fifo": plain(cents(sum(realised.values(), ZERO))),
            "realised_fifo_by_order": {exit_id: plain(profit) for exit_id, profit in sorted(realised.items())},
            "minutes": self.minutes.listing(),
        }

    def burst(self, events: int) -> int:
        """Trade through brackets as fast as possible; return how many events that emitted, >= `events`."""
        return emit_events(self.desk, self._market, events, now=self._now, commit=self._commit)

    def _try_to_close(self, symbol: str) -> JSON:
        try:
            return {"symbol": symbol, "status": 200, "body": self.close_position(symbol)}
        except Refused as refusal:
            return {"symbol": symbol, "status": refusal.status, "body": refusal.body()}

    def _open_orders(self) -> list[Order]:
        return [order for order in self.blotter.book.live_orders() if order.status in OPEN and not order.waiting]

    def _nested(self, order: Order) -> JSON:
        return order_json(order, self.blotter.book.legs_of(order) if order.legs else None)

    def _root(self, order: Order) -> Order:
        return self.blotter.book.root_of(order)

    def _held_symbol(self, symbol_or_asset_id: str) -> str:
        asset = self._market.asset(symbol_or_asset_id)
        if asset is None:
            raise not_found(f"asset not found for {symbol_or_asset_id}")
        if asset.symbol not in self.blotter.ledger.positions:
            raise not_found("position does not exist")
        return asset.symbol

    def _judge(self, old: Order, now: int) -> None:
        new = self.blotter.book.get(old.heir or "")
        is_open = self._sessions.open_at(now) is not None
        self.replaces.judge(old, new, self._market.price(new.symbol), rfc3339(now), is_open=is_open)
