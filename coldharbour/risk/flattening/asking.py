"""Sending one request of a flatten: on record under the lease before it leaves, once, and its answer after it.

The only code that cancels orders or closes positions by itself. What a request is for is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import psycopg

from coldharbour.accounts import AccountContext, Lease
from coldharbour.broker import BrokerRefused, NotSent, Order, OutcomeUnknown
from coldharbour.connect import one_line
from coldharbour.errors import NeedsOperator
from coldharbour.risk import store as audit
from coldharbour.risk.fence import fence
from coldharbour.risk.flattening import store
from coldharbour.risk.flattening.decision import client_order_id, next_attempt
from coldharbour.risk.flattening.model import Cancel, Close, Kind, Request, Run
from coldharbour.risk.flattening.proof import answered
from coldharbour.risk.grid import plain

LAST_WORDS_S = 3.0

WhyNot = Callable[[str], str]


class Asker:
    """Sends the requests of one account. why_not: asked for a symbol when only the first byte is left to write."""

    def __init__(self, ctx: AccountContext, lease: Lease, why_not: WhyNot) -> None:
        self._ctx, self._lease, self._why_not, self._slug = ctx, lease, why_not, ctx.destination.slug

    async def ask(self, run: Run, step: Cancel | Close, known: list[Request]) -> Request | None:
        """Put a request on record, send it, record its answer and return it; None if it may not be made.

        known: the requests of the run so far. Raises NeedsOperator for refused keys, after they are on record.
        """
        request = self._request(run, step, known)
        checked_s = self._ctx.clock.monotonic()
        try:
            is_planned = await self._plan(run, request, step.reason)
        except psycopg.errors.UniqueViolation as error:  # its outcome is not known yet
            self._ctx.log.warning("flatten.unsettled", symbol=step.symbol, error=one_line(error))
            return None
        if not is_planned:
            return None
        return await self._send(run, request, self._may_send(request, checked_s))

    def _request(self, run: Run, step: Cancel | Close, known: list[Request]) -> Request:
        if isinstance(step, Cancel):
            kind, name, side, qty = Kind.CANCEL, step.order_id, "", None
        else:
            kind, name, side, qty = Kind.CLOSE, client_order_id(run, step.symbol), step.side, step.qty
        return Request(
            kind=kind, symbol=step.symbol, name=name, attempt=next_attempt(known, kind, name), epoch=self._lease.epoch,
            side=side, qty=qty,
        )  # fmt: skip

    async def _plan(self, run: Run, request: Request, detail: str) -> bool:
        """Record a request, unless its limit was reset; the audit tells of a closing in the rows of its lots."""
        now = self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            if not await store.stands(conn, run):
                return False
            await store.insert_request(conn, run, request, now)
            if request.kind is Kind.CLOSE and request.attempt == 1:
                entries = await store.audit_entries(
                    conn, self._slug, request.symbol, name=request.name, detail=f"flatten: {detail}", at=now
                )
                await audit.record(conn, self._slug, entries, within=audit.NO_REPEAT)
        return True

    async def _send(self, run: Run, request: Request, may_send: Callable[[], None]) -> Request:
        broker, result = self._ctx.broker, None
        error: BaseException | None = None
        try:
            if request.kind is Kind.CANCEL:
                await broker.cancel_order(request.name, may_send=may_send)
            else:
                result = await broker.place_order(order_of(request), may_send=may_send)
        except (BrokerRefused, NotSent, OutcomeUnknown) as refused:
            error = refused
        except BaseException as gone:  # cancelled, or a bug: perhaps it left
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await self._keep(run, request, gone)
            raise
        request = await self._keep(run, request, error or result)
        if isinstance(error, NeedsOperator):
            raise error
        return request

    async def _keep(self, run: Run, request: Request, result: Order | BaseException | None) -> Request:
        now = self._ctx.clock.now()
        request = answered(request, result, now)
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            await store.save_request(conn, run, request, now)
        facts = {"symbol": request.symbol, "kind": request.kind.value, "name": request.name}
        self._ctx.log.info("flatten.asked", **facts, state=request.state.value, reason=request.reason)
        return request

    def _may_send(self, request: Request, checked_s: float) -> Callable[[], None]:
        """Return what keeps a request back that comes too late, or into other circumstances than it was made for."""
        refuse_late = fence(self._ctx.clock, checked_s)

        def may_send() -> None:
            refuse_late()
            if why := self._why_not(request.symbol):
                raise NotSent(why)

        return may_send


def order_of(request: Request) -> dict[str, str]:
    """Return the fields of a closing order: a market order for the day.

    Its intent makes the broker refuse it where it would open a position: nothing is closed beyond flat.
    """
    return {
        "symbol": request.symbol,
        "qty": plain(request.qty) if request.qty is not None else "",
        "side": request.side,
        "type": "market",
        "time_in_force": "day",
        "position_intent": f"{request.side}_to_close",
        "client_order_id": request.name,
    }
