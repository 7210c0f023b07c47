"""One round of an account's flatten: begin it, look, settle what was asked, decide, ask, and end it.

Owns the order of the steps. Everything that a round must know of the ones before stands in the tables, so start and
recovery are one path. What is decided stands in `decision`, what is proved in `proof`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from coldharbour.accounts import AccountContext
from coldharbour.broker import BrokerRefused, BrokerUnavailable, Position
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.live.model import ZERO, Side
from coldharbour.risk.flattening import store
from coldharbour.risk.flattening.asking import Asker
from coldharbour.risk.flattening.chronicle import Chronicle
from coldharbour.risk.flattening.decision import decide, has_news, why_not_begin, would
from coldharbour.risk.flattening.looking import Lookout
from coldharbour.risk.flattening.model import Cancel, Close, Request, Rules, Run, Step, Target, TargetState, Wait
from coldharbour.risk.flattening.surroundings import Surroundings
from coldharbour.risk.losses import store as losses
from coldharbour.risk.losses.model import Latch, Stage

SOON_S, LATER_S = 0.3, 2.0  # to the next round, while something happens and while something is waited for


class Flattener:
    """Flattens one account when a latched limit says so."""

    def __init__(self, ctx: AccountContext, rules: Rules) -> None:
        if ctx.lease is None:
            raise ValueError("positions are closed under a lease alone: the worker must be exclusive")
        self._ctx, self._rules, self._slug = ctx, rules, ctx.destination.slug
        self._lookout = Lookout(ctx.db, ctx.broker, self._slug)
        self._surroundings = Surroundings(ctx, rules)
        self._chronicle = Chronicle(ctx, ctx.lease)
        self._asker = Asker(ctx, ctx.lease, self._surroundings.why_not)

    async def attend(self) -> float | None:
        """Do what is to be done now; return the seconds to the next round, None while nothing is to be done."""
        run = await self._run()
        if run is None:
            return None
        try:
            return await self._round(run)
        except (Transient, BrokerRefused) as error:
            why = self._no_answer(error)
            targets, _ = await self._chronicle.read(run)
            waits = [Wait(each.symbol, why) for each in targets]
            await self._chronicle.note(run, targets, waits, self._rules.alarm_after)
            return LATER_S

    async def _run(self) -> Run | None:
        """Return the flatten that is under way, begun just now if a limit asks for it."""
        now = self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            newest = await store.newest_run(conn, self._slug)
            if newest is not None and newest.ended_at is None:
                return newest
            latch = _unserved(await losses.latches_on(conn, self._slug), newest)
            if latch is None:
                return None
            watches = await losses.watches(conn, [latch.destination])
            session = await self._surroundings.session(conn)
        watch = watches[0] if watches else None
        why_not = why_not_begin(latch, watch, session, now, self._rules.max_minute_age)
        if not why_not:
            try:
                return await self._begin(latch, now)
            except (BrokerUnavailable, BrokerRefused) as error:
                why_not = self._no_answer(error)
        is_of_today = session is not None and session.session_date == latch.session_date
        if is_of_today and now - latch.latched_at >= self._rules.alarm_after:
            await self._chronicle.hold_up(latch, why_not)
        return None

    async def _begin(self, latch: Latch, now: datetime) -> Run | None:
        """Put on record what is held now and is to be closed; a dry run says what it would do, and is over."""
        run = Run(
            destination=self._slug, latched_for=latch.destination, session_date=latch.session_date,
            latched_at=latch.latched_at, is_dry_run=self._rules.is_dry_run, begun_at=now,
        )  # fmt: skip
        held = await self._lookout.positions()
        targets = [_target(position, now) for position in held.values() if position.qty != ZERO]
        if not run.is_dry_run:
            return run if await self._chronicle.begin(run, targets) else None
        if (imagined := await self._imagined(run, targets)) is not None:
            await self._chronicle.begin(replace(run, ended_at=now), imagined)
        return None

    async def _imagined(self, run: Run, targets: Sequence[Target]) -> list[Target] | None:
        """Return what would become of each target; None while a process that has just begun lacks prices."""
        sight = await self._lookout.look([each.symbol for each in targets], [])
        scenes, around = await self._surroundings.scenes(run, targets, [], sight)
        is_early = around.now - run.latched_at < self._rules.alarm_after
        if is_early and self._surroundings.lacks_price(each.symbol for each in targets):
            return None
        around = replace(around, kept_back="")
        return [
            replace(scene.target, state=TargetState.WOULD_CLOSE, detail=would(scene, around)) for scene in scenes
        ]  # fmt: skip

    async def _round(self, run: Run) -> float | None:
        targets, requests = await self._chronicle.read(run)
        sight = await self._lookout.look([each.symbol for each in targets], requests)
        requests = await self._chronicle.settle(run, requests, sight)
        scenes, around = await self._surroundings.scenes(run, targets, requests, sight)
        steps = [step for scene in scenes for step in decide(scene, around)]
        noted = await self._chronicle.note(run, targets, steps, self._rules.alarm_after)
        has_asked = await self._ask(run, steps, requests)
        if all(each.state is not TargetState.OPEN for each in noted):
            await self._chronicle.end(run)
            return None
        return SOON_S if has_asked or has_news(targets, noted) else LATER_S

    async def _ask(self, run: Run, steps: Sequence[Step], requests: list[Request]) -> bool:
        """Send what was decided; a close only if a last look shows the same position, all of it free."""
        has_asked = False
        for step in steps:
            self._ctx.alive()
            if isinstance(step, Cancel) or (isinstance(step, Close) and await self._is_still_held(step)):
                has_asked = await self._asker.ask(run, step, requests) is not None or has_asked
        return has_asked

    async def _is_still_held(self, step: Close) -> bool:
        """Return whether a last look shows what is to be closed; one that is not answered keeps back this one alone."""
        try:
            position = await self._lookout.position(step.symbol)
        except (BrokerUnavailable, BrokerRefused) as error:
            self._no_answer(error, symbol=step.symbol)
            return False
        if position is None:
            return False
        self._surroundings.learn(position)
        side, free = "sell" if position.signed_qty > ZERO else "buy", position.qty_available
        is_same = (side, abs(position.qty)) == (step.side, step.qty)
        return is_same and (free is None or abs(free) >= step.qty)

    def _no_answer(self, error: Transient | BrokerRefused, **facts: str) -> str:
        """Log that nothing could be seen, and return that in words. Raises it again if only a person can help."""
        if isinstance(error, NeedsOperator):
            raise error
        self._ctx.log.warning("flatten.unanswered", error=str(error), **facts)
        return f"no answer: {error}"


def _unserved(latched: Sequence[Latch], newest: Run | None) -> Latch | None:
    """Return the newest latched limit after which no flatten has begun; one flatten serves all that came before."""
    served_until = max(newest.begun_at, newest.latched_at) if newest else None
    waiting = [
        latch
        for latch in latched
        if latch.stage is Stage.FLATTEN and (served_until is None or latch.latched_at > served_until)
    ]
    return max(waiting, key=lambda latch: latch.latched_at, default=None)


def _target(position: Position, now: datetime) -> Target:
    side = Side.SHORT if position.signed_qty < ZERO else Side.LONG
    return Target(symbol=position.symbol, side=side, qty=abs(position.qty), changed_at=now)
