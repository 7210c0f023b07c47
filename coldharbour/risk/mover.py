"""Moving one stop, from a decision to a proved outcome: the only code that asks the broker to replace an order.

Owns the order of the steps; each of them is judged elsewhere (`clearance`, `moves`, `evidence`). Source: the stop-move
protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import anyio
import psycopg

from coldharbour.accounts import AccountContext, Lease
from coldharbour.broker import BrokerRefused, NotSent, Order, OutcomeUnknown
from coldharbour.connect import one_line
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.events import StopMoved
from coldharbour.journal import announce, record
from coldharbour.risk import store as audit
from coldharbour.risk.audit import entry_of
from coldharbour.risk.clearance import Obstacle, obstacle_to
from coldharbour.risk.evidence import Reading
from coldharbour.risk.fence import fence
from coldharbour.risk.flattening import store as flattens
from coldharbour.risk.holds import kept_back
from coldharbour.risk.intents import store
from coldharbour.risk.intents.store import RecordedIntent
from coldharbour.risk.last_look import LastLook, MarketNow
from coldharbour.risk.model import BreakevenRule, Decision, Flag, Reason, StopMove
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
from coldharbour.risk.notices import tell_end, tell_flags
from coldharbour.risk.readback import ReadBack, pauses_s

LAST_WORDS_S = 3.0
KEPT_READINGS = 12
STALE = frozenset({Obstacle.LEG_CHANGED, Obstacle.LEG_NOT_REPLACEABLE, Obstacle.STOP_CHANGED, Obstacle.NOT_TIGHTER,
                   Obstacle.POSITION_GONE})  # fmt: skip
REASONS = {MoveState.MOVED: Reason.MOVED, MoveState.REJECTED: Reason.REJECTED, MoveState.NOT_MOVED: Reason.NOT_MOVED}


class StopMover:
    """Moves the stops of one account. within: how long the audit lets equal evaluations share a row.

    concurrency: how many are looked at and asked for at once; what waits for proof hinders nobody. `busy` holds the
    lots whose stop is on its way, with what is known of that.
    """

    def __init__(self, ctx: AccountContext, rule: BreakevenRule, *, within: timedelta, concurrency: int) -> None:
        if ctx.lease is None:
            raise ValueError("stops are moved under a lease alone: the worker must be exclusive")
        self.busy: dict[str, str] = {}
        self._ctx, self._rule, self._within, self._slug = ctx, rule, within, ctx.destination.slug
        self._lease: Lease = ctx.lease
        self._back = ReadBack(ctx.db, ctx.broker, ctx.clock, self._slug)
        self._last_look = LastLook(ctx)
        self._at_once = anyio.CapacityLimiter(concurrency)

    async def move(self, decision: Decision, market_now: MarketNow) -> None:
        """Do what a decision says, unless a last look at order, position and market finds an obstacle."""
        lot = decision.lot
        if decision.action is None or lot.parent_id in self.busy:
            return
        with self._busy(lot.parent_id, "its stop is being moved"):
            async with self._at_once:
                intent = await self._ask(decision, decision.action, market_now)
            if intent is not None:
                await self._settle(intent, lot.symbol)

    async def _ask(self, decision: Decision, move: StopMove, market_now: MarketNow) -> Intent | None:
        """Look, plan and send; return the intent, None if there is none."""
        symbol = decision.lot.symbol
        try:
            scene = await self._last_look.look(symbol, move, market_now)
        except (Transient, BrokerRefused) as error:
            if isinstance(error, NeedsOperator):
                raise
            await self._keep_back(decision, Reason.NO_ANSWER, f"the broker did not show the leg: {error}")
            return None
        if why := obstacle_to(move, scene, self._rule):
            if why.obstacle in STALE:
                self._ctx.wake("healing")  # our tables know an older order
            await self._keep_back(decision, Reason.ABANDONED, str(why))
            return None
        checked_s = self._ctx.clock.monotonic()
        try:
            intent = await self._plan(decision, move)
        except (Unsettled, psycopg.errors.UniqueViolation) as error:
            await self._keep_back(decision, Reason.UNSETTLED, one_line(error))
            return None
        if why := obstacle_to(move, self._last_look.again(scene, market_now), self._rule):
            intent = abandon(intent, why)
            await self._answer(intent, symbol, "")
            return intent
        return await self._send(intent, symbol, checked_s)

    async def recover(self) -> list[RecordedIntent]:
        """Return what an earlier process left unsettled, each now known to be perhaps sent."""
        async with self._ctx.db.transaction() as conn:
            left = await store.unsettled(conn, self._slug)
        for recorded in left:
            self.busy[recorded.intent.lot_id] = f"{recorded.intent.client_order_id} is {recorded.intent.state}"
        return left

    async def settle_recovered(self, recorded: RecordedIntent) -> None:
        """Prove what became of an intent that an earlier process left."""
        intent = recovered(recorded.intent, at_s=self._ctx.clock.monotonic())
        with self._busy(intent.lot_id, f"{intent.client_order_id} is {intent.state}: {intent.reason}"):
            async with self._ctx.db.transaction() as conn:
                await self._lease.check(conn)
                await store.keep_outcome(conn, intent, self._ctx.clock.now())
            self._ctx.log.warning("stop.recovered", symbol=recorded.symbol, intent=intent.client_order_id)
            await self._settle(intent, recorded.symbol)

    async def _plan(self, decision: Decision, move: StopMove) -> Intent:
        """Put the intent on record, under our lease, in one transaction with what the audit says of it."""
        lot, now = decision.lot, self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            await flattens.take_stops_turn(conn, self._slug)
            if lot.symbol in await flattens.under_way(conn, self._slug):
                raise Unsettled(f"the position in {lot.symbol} is being closed")
            earlier = await store.earlier(conn, self._slug, lot.parent_id, move.order_id)
            intent = plan(move, destination=self._slug, lot_id=lot.parent_id, epoch=self._lease.epoch, earlier=earlier)
            await store.insert(conn, intent, lot.symbol, now)
            planned = replace(decision, flag=Flag.NOTHING, reason=Reason.PLANNED)
            entry = entry_of(planned, client_order_id=intent.client_order_id, is_action=True, at=now)
            await audit.record(conn, self._slug, [entry], within=audit.NO_REPEAT)
        return intent

    async def _send(self, intent: Intent, symbol: str, checked_s: float) -> Intent:
        intent, changes = send_once(intent)
        may_send = fence(self._ctx.clock, checked_s)
        result: Order | BaseException
        try:
            result = await self._ctx.broker.replace_order(intent.move.order_id, may_send=may_send, **changes)
        except (BrokerRefused, NotSent, OutcomeUnknown) as error:
            result = error
        except BaseException as error:  # cancelled, or a bug: perhaps it left
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await self._answer(self._answered(intent, error), symbol, repr(error))
            raise
        intent = self._answered(intent, result)
        said = result.raw.decode("utf-8", "replace") if isinstance(result, Order) else str(result)
        await self._answer(intent, symbol, said)
        return intent

    def _answered(self, intent: Intent, result: Order | BaseException) -> Intent:
        return answered(intent, outcome_of(result), at_s=self._ctx.clock.monotonic())

    async def _answer(self, intent: Intent, symbol: str, answer: str) -> None:
        """Record how the request ended; what is final by that is told."""
        now = self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            is_ours = await store.keep_answer(conn, intent, answer, now)
            if is_ours and intent.is_final:
                await self._record_end(conn, intent, now)
        if is_ours and intent.is_final:
            await self._tell(intent, symbol)

    async def _settle(self, intent: Intent, symbol: str) -> None:
        """Read back until it is proved what became of an intent."""
        if intent.is_final:
            return
        self.busy[intent.lot_id] = f"{intent.client_order_id} is {intent.state}: {intent.reason}"
        since, readings, pauses = self._ctx.clock.now(), list[Reading](), pauses_s()
        while not intent.is_final:
            await self._ctx.clock.sleep(next(pauses))
            began = self._ctx.clock.now()
            try:
                readings.append(await self._back.read(intent, since))
            except (Transient, BrokerRefused) as error:
                self._ctx.log.info("stop.unread", intent=intent.client_order_id, error=str(error))
                continue
            since, readings = began, readings[-KEPT_READINGS:]
            intent = settle(intent, readings)
        await self._conclude(intent, symbol)

    async def _conclude(self, intent: Intent, symbol: str) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            is_new = await store.keep_outcome(conn, intent, now)
            if is_new:
                await self._record_end(conn, intent, now)
                await record(conn, self._slug, list(_moved(intent, symbol, now)))
            flags = {intent.lot_id: str(Flag.OK)} if is_new and intent.state is MoveState.MOVED else {}
            flagged = await audit.flag_lots(conn, self._slug, flags)
        if is_new:
            await tell_flags(self._ctx.db, self._slug, flagged)
            await self._tell(intent, symbol)

    async def _record_end(self, conn: psycopg.AsyncConnection, intent: Intent, at: datetime) -> None:
        has_moved = intent.state is MoveState.MOVED
        await audit.record_end(
            conn, self._slug, intent.client_order_id, at=at, flag=Flag.OK if has_moved else Flag.NOTHING,
            reason=REASONS[intent.state], detail=intent.reason, new_order_id=intent.new_order_id,
            error=intent.reason if intent.state is MoveState.REJECTED else None,
        )  # fmt: skip

    async def _tell(self, intent: Intent, symbol: str) -> None:
        move, ctx = intent.move, self._ctx
        facts = {"symbol": symbol, "lot": intent.lot_id, "old_stop": str(move.old_stop),
                 "new_stop": str(move.stop_price), "intent": intent.client_order_id}  # fmt: skip
        if intent.state is MoveState.MOVED:
            ctx.log.info("stop.moved", **facts, order=intent.new_order_id)
            await announce(ctx.db, self._slug)
        else:
            ctx.log.warning("stop.not_moved", **facts, state=intent.state.value, reason=intent.reason)
        await tell_end(ctx.db, self._slug, intent.lot_id, has_moved=intent.state is MoveState.MOVED)

    async def _keep_back(self, decision: Decision, reason: Reason, detail: str) -> None:
        self._ctx.log.debug("stop.kept_back", symbol=decision.lot.symbol, reason=reason.value, detail=detail)
        entry = entry_of(kept_back(decision, reason, detail), at=self._ctx.clock.now())
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            await audit.record(conn, self._slug, [entry], within=self._within)

    @contextmanager
    def _busy(self, lot_id: str, what: str) -> Iterator[None]:
        self.busy[lot_id] = what
        try:
            yield
        finally:
            self.busy.pop(lot_id, None)


def _moved(intent: Intent, symbol: str, at: datetime) -> Iterator[StopMoved]:
    move = intent.move
    if intent.state is MoveState.MOVED:
        yield StopMoved(
            at=at, lot_id=intent.lot_id, symbol=symbol, side=move.side, old_stop=move.old_stop,
            new_stop=move.stop_price, new_order_id=intent.new_order_id or "",
        )  # fmt: skip
