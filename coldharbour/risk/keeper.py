"""Keeping an account's stops at break-even: evaluates every lot, records why, and has decided moves made.

Owns when what is evaluated: all lots once an interval, one at once when its trigger is touched. How a decision is made
and how a stop is moved is decided elsewhere (`breakeven`, `holds`, `mover`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial

import anyio
import anyio.abc

from coldharbour import store as kernel_store
from coldharbour.accounts import AccountContext
from coldharbour.broker import BrokerRefused
from coldharbour.db import RESYNC, Subscription
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.events import MovesDisarmed
from coldharbour.feed.substitutes import Substitutes
from coldharbour.feed.watch import Watch
from coldharbour.risk import store as audit
from coldharbour.risk.announced import Announcements
from coldharbour.risk.audit import entry_of
from coldharbour.risk.breakeven import decide_breakeven
from coldharbour.risk.circumstances import circumstances_of
from coldharbour.risk.holds import Circumstances, Limits, held_back, kept_back
from coldharbour.risk.lots.breakouts import Breakouts
from coldharbour.risk.lots.sources import LotSources
from coldharbour.risk.lots.watched import WatchedLot, WatchedLots
from coldharbour.risk.model import BreakevenRule, Decision, MarketView, Reason
from coldharbour.risk.mover import StopMover
from coldharbour.risk.notices import tell_evaluated, tell_flags
from coldharbour.sessions import Phase, Schedule

PATIENCE_S = 20.0  # for what an earlier process left unsettled, before anything new is decided
KEPT_PATIENCE_S = 10.0  # for somebody who keeps the open trades, before they are worked out here
PRICE_PATIENCE_S = 5.0  # for the feed's first price; a single cycle has no other chance
ACTIONS_PATIENCE_S = 5.0  # for what the broker has announced; until then no stop moves
PAUSE_S = 0.01  # between two looks at what moved, so that a busy tape leaves room for others
PRUNE_EVERY_S = 6 * 3600.0
MISSED_BEATS = 2.5  # intervals after which evaluations no longer count as one stretch


class StopKeeper:
    """One account's stops. tasks: where moves are made, beside the evaluations."""

    def __init__(
        self,
        ctx: AccountContext,
        watch: Watch,
        tasks: anyio.abc.TaskGroup,
        rule: BreakevenRule,
        limits: Limits,
        *,
        interval_s: float,
        concurrency: int,
        keep_routine_days: float,
    ) -> None:
        self.ctx, self.watch, self.rule, self.limits = ctx, watch, rule, limits
        self.slug = ctx.destination.slug
        self.lots = WatchedLots()
        self.sources = LotSources(ctx, Breakouts(ctx.market_db, rule.trigger_r))
        self._within = timedelta(seconds=MISSED_BEATS * interval_s)
        self.mover = StopMover(ctx, rule, within=self._within, concurrency=concurrency)
        self._announced = Announcements(ctx.broker, ctx.clock)
        self._substitutes = Substitutes(ctx.prices, ctx.market_db, ctx.broker)
        self._interval_s, self._keep = interval_s, timedelta(days=keep_routine_days)
        self._tasks = tasks
        self._moving = 0
        self._rested = anyio.Event()
        self._flags: dict[str, str] = {}  # as they stand on the open trades by our own hand
        self._alarmed: set[str] = set()
        self._weighed: set[str] = set()  # lots whose move is decided and has not begun
        self._lots_changed = self._is_due = True
        self._behind = anyio.Event()
        self._pruned_s: float | None = None

    async def begin(self) -> None:
        """Settle what an earlier process left, then read the lots: the start, and the recovery."""
        await self._read_sessions()
        left = await self.mover.recover()
        for recorded in left:
            self._start(partial(self.mover.settle_recovered, recorded))
        await self._until(self._is_settled, PATIENCE_S)
        await self._until(self.sources.is_kept, KEPT_PATIENCE_S)
        await self.read_lots()
        await self._seed_prices()
        await self._until(self._is_priced, PRICE_PATIENCE_S)
        await self._until(self._are_actions_known, ACTIONS_PATIENCE_S)

    async def run(self) -> None:
        """Evaluate all lots once an interval, and each at once when its trigger is touched: that waits for no table.

        A touched lot is judged as it was read last. Whatever changed since, the last look finds at the broker.
        """
        for work in (self._beat, self._keep_up):
            self._tasks.start_soon(work)
        while True:
            await self.watch.wait()
            await self._evaluate_resting(self.lots.move(self.watch.take()))
            await self.ctx.clock.sleep(PAUSE_S)

    async def _beat(self) -> None:
        while True:
            self._is_due = True
            self._behind.set()
            await self.ctx.clock.sleep(self._interval_s)

    async def _keep_up(self) -> None:
        """Make the cycles, and in between read and evaluate lots that changed."""
        while True:
            await self._behind.wait()
            self._behind = anyio.Event()
            if self._is_due:
                self._is_due = False
                await self.cycle()
            elif self._lots_changed:
                await self._evaluate_resting(await self.read_lots())
            await self.ctx.clock.sleep(PAUSE_S)

    def _note_change(self) -> None:
        self._lots_changed = True
        self._behind.set()

    async def follow(self, notes: Subscription) -> None:
        """Hear that lots changed."""
        async for note in notes:
            if note is RESYNC or note.payload.startswith(('{"op":"lot"', '{"op":"delete"', '{"op":"resync"')):
                self._note_change()

    async def cycle(self) -> None:
        """Read everything anew and evaluate every lot."""
        await self._read_sessions()
        await self.read_lots()
        await self._seed_prices()
        await self.evaluate(self.lots)
        await self._prune()

    async def until_settled(self) -> None:
        """Wait until no move is under way."""
        while self._moving:
            await self._rested.wait()

    async def read_lots(self) -> list[WatchedLot]:
        """Read the lots; return those that are new or changed. Without an answer they stay as they are."""
        self._lots_changed = False
        try:
            loaded = await self.sources.load()
        except BrokerRefused as error:
            if isinstance(error, NeedsOperator):
                raise
            raise Transient(f"the broker does not show the account's history: {error}") from error
        changed = self.lots.take_over(loaded)
        self._flags = {each.lot.parent_id: flag for each in self.lots if (flag := self._flags.get(each.lot.parent_id))}
        self.watch.follow(self.lots.symbols)
        if not await self._are_actions_known():
            self._tasks.start_soon(self._learn_actions)
        return changed

    async def evaluate(self, lots: Iterable[WatchedLot]) -> None:
        """Decide about lots, start the moves that are decided, and record why nothing is done about the others."""
        if self.ctx.phase() is not Phase.REGULAR:
            return
        at_rest = [watched for watched in lots if watched.lot.parent_id not in self._weighed]
        decided = [(watched, self._decide(watched)) for watched in at_rest]
        acting = {decision.lot.parent_id for _, decision in decided if decision.action}
        if acting:
            self._weighed |= acting
            around = await self._circumstances()
            decided = [(watched, held_back(decision, self.limits, around)) for watched, decision in decided]
            self._alarm([decision for _, decision in decided])
        for watched, decision in decided:
            watched.decided(decision)
            if decision.action is not None:
                self._start(partial(self._move, watched, decision))
            else:
                self._weighed.discard(decision.lot.parent_id)
        await self._record([decision for _, decision in decided if decision.action is None])

    async def _evaluate_resting(self, lots: Iterable[WatchedLot]) -> None:
        await self.evaluate([each for each in lots if each.lot.parent_id not in self.mover.busy])

    async def move_asked(self, parent_id: str) -> Decision | None:
        """Decide about one lot as a person asked, and see its move through; None without such a lot and a stop."""
        await self.read_lots()
        watched = next((each for each in self.lots if each.lot.parent_id == parent_id), None)
        if watched is None or self.ctx.phase() is not Phase.REGULAR:
            return None
        decision = self._decide(watched, is_asked=True)
        if decision.action is not None:
            decision = held_back(decision, self.limits, await self._circumstances())
        if decision.action is None:
            await self._record([decision])
        else:
            await self._move(watched, decision)
        return decision

    def _market(self, watched: WatchedLot) -> MarketView:
        prices = self.ctx.prices
        silent_s = None if prices.heard_at is None else prices.silent_s
        return watched.market(prices.last(watched.lot.symbol), silent_s, self.ctx.clock.now())

    def _decide(self, watched: WatchedLot, *, is_asked: bool = False) -> Decision:
        decision = decide_breakeven(watched.lot, self._market(watched), self.rule, is_asked=is_asked)
        if watched.loaded.foreign:
            return kept_back(decision, Reason.FOREIGN_STOP, watched.loaded.foreign)
        if what := self.mover.busy.get(watched.lot.parent_id):  # what the tables say of its stop may be too early
            return kept_back(decision, Reason.UNSETTLED, what)
        return decision

    async def _move(self, watched: WatchedLot, decision: Decision) -> None:
        self._weighed.discard(decision.lot.parent_id)  # from here on the mover knows
        await self.mover.move(decision, partial(self._market, watched))
        self._note_change()

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        self._moving += 1

        async def do() -> None:
            try:
                await work()
            finally:
                self._moving -= 1
                if not self._moving:
                    self._rested.set()
                    self._rested = anyio.Event()

        self._tasks.start_soon(do)

    async def _circumstances(self) -> Circumstances:
        return await circumstances_of(self.ctx, self._announced, self.lots.symbols, self.watch.sessions)

    def _alarm(self, decisions: Sequence[Decision]) -> None:
        """Tell once that moves are held back because too many failed."""
        found = {
            "" if decision.reason is Reason.ACCOUNT_DISARMED else decision.lot.symbol: decision
            for decision in decisions
            if decision.reason in (Reason.ACCOUNT_DISARMED, Reason.SYMBOL_DISARMED)
        }
        for symbol in found.keys() - self._alarmed:
            reason = found[symbol].detail
            self.ctx.log.error("breakeven.disarmed", symbol=symbol or "all", reason=reason)
            self.ctx.emit(MovesDisarmed(at=self.ctx.clock.now(), symbol=symbol, reason=reason))
        acting = {decision.lot.symbol for decision in decisions if decision.action is not None}
        self._alarmed = (self._alarmed | found.keys()) - acting - ({""} if acting else set())

    async def _record(self, decisions: Sequence[Decision]) -> None:
        if not decisions:
            return
        flags = {decision.lot.parent_id: str(decision.flag) for decision in decisions}
        news = {parent_id: flag for parent_id, flag in flags.items() if self._flags.get(parent_id) != flag}
        async with self.ctx.db.transaction() as conn:
            if self.ctx.lease is not None:
                await self.ctx.lease.check(conn)
            await audit.record(conn, self.slug, [entry_of(decision) for decision in decisions], within=self._within)
            flagged = await audit.flag_lots(conn, self.slug, news)
        self._flags |= news
        await tell_flags(self.ctx.db, self.slug, flagged)
        await tell_evaluated(self.ctx.db, self.slug)

    async def _read_sessions(self) -> None:
        async with self.ctx.db.transaction() as conn:
            self.watch.sessions = Schedule(await kernel_store.sessions_of(conn, self.ctx.destination.market))

    async def _seed_prices(self) -> None:
        """Look elsewhere for the prices of symbols that the stream does not tell of, or that seem not to trade."""
        oldest = timedelta(seconds=min(self.rule.max_price_age_s, self.rule.max_quiet_s))
        await self._substitutes.seed(list(self.lots.symbols), self.ctx.clock.now(), oldest)

    async def _is_priced(self) -> bool:
        prices = self.ctx.prices
        return prices.heard_at is not None and all(prices.last(symbol) for symbol in self.lots.symbols)

    async def _learn_actions(self) -> None:
        """Ask what is announced, and decide anew with what is learned."""
        if await self._announced.learn(self.lots.symbols):
            self._is_due = True
            self._behind.set()

    async def _are_actions_known(self) -> bool:
        return self._announced.is_known(self.lots.symbols)

    async def _is_settled(self) -> bool:
        return not self.mover.busy

    async def _until(self, is_so: Callable[[], Awaitable[bool]], patience_s: float) -> None:
        """Wait until something is so, but not for ever."""
        deadline_s = self.ctx.clock.monotonic() + patience_s
        while not await is_so() and self.ctx.clock.monotonic() < deadline_s:
            self.ctx.alive()
            await self.ctx.clock.sleep(0.1)

    async def _prune(self) -> None:
        now_s = self.ctx.clock.monotonic()
        if self._pruned_s is None or now_s - self._pruned_s > PRUNE_EVERY_S:
            async with self.ctx.db.transaction() as conn:
                await audit.prune_routine(conn, self.slug, self.ctx.clock.now() - self._keep)
            self._pruned_s = now_s
