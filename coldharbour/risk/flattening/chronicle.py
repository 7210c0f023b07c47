"""The record of a flatten while it goes on: its begin, its states, its end, each with its events; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from psycopg import AsyncConnection

from coldharbour.accounts import AccountContext, Lease
from coldharbour.db import notify
from coldharbour.events import Event, FlattenBegun, FlattenBlocked, FlattenEnded
from coldharbour.journal import announce, record
from coldharbour.risk import store as audit
from coldharbour.risk.flattening import store
from coldharbour.risk.flattening.decision import client_order_id, has_news
from coldharbour.risk.flattening.model import Finish, Request, RequestState, Run, Sight, Step, Target, TargetState
from coldharbour.risk.flattening.proof import recovered, settled
from coldharbour.risk.grid import plain
from coldharbour.risk.losses.model import Latch
from coldharbour.risk.model import Flag, Reason

LEFT = "left"


class Chronicle:
    """Writes the record of one account's flattens, under the lease."""

    def __init__(self, ctx: AccountContext, lease: Lease) -> None:
        self._ctx, self._lease, self._slug = ctx, lease, ctx.destination.slug

    async def hold_up(self, latch: Latch, why: str) -> None:
        """Tell once of a latched limit that a flatten does not begin."""
        blocked = FlattenBlocked(at=self._ctx.clock.now(), symbol="", reason=f"not begun: {why}")
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            if await store.was_held_up(conn, self._slug, latch.latched_at):
                return
            await record(conn, self._slug, [blocked])
        self._ctx.log.error("flatten.blocked", reason=blocked.reason)
        await announce(self._ctx.db, self._slug)

    async def begin(self, run: Run, targets: Sequence[Target]) -> bool:
        """Put a flatten on record; False if its limit was reset meanwhile. A dry run is over with that."""
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            await store.take_stops_turn(conn, self._slug)
            if not await store.stands(conn, run):
                return False
            await store.insert_run(conn, run, targets)
            await record(conn, self._slug, _begin_events(run, targets))
        self._ctx.log.warning("flatten.begun", targets=_held(targets), dry_run=run.is_dry_run)
        await self._show()
        return True

    async def read(self, run: Run) -> tuple[list[Target], list[Request]]:
        """Return the open targets and their requests; what an earlier process left planned is perhaps sent."""
        now = self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            targets, requests = await store.targets_of(conn, run), await store.requests_of(conn, run)
            if left := [each for each in requests if each.state is RequestState.PLANNED]:
                await self._lease.check(conn)
                for request in left:
                    await store.save_request(conn, run, recovered(request, now), now)
                requests = await store.requests_of(conn, run)
        targets = [each for each in targets if each.state is TargetState.OPEN]
        symbols = {each.symbol for each in targets}
        return targets, [each for each in requests if each.symbol in symbols]

    async def settle(self, run: Run, requests: Sequence[Request], sight: Sight) -> list[Request]:
        """Return the requests as a look at the broker proves them, and write what changed by it."""
        now = self._ctx.clock.now()
        found = [settled(request, sight, now) for request in requests]
        if changed := [new for old, new in zip(requests, found, strict=True) if new != old]:
            async with self._ctx.db.transaction() as conn:
                await self._lease.check(conn)
                for request in changed:
                    await store.save_request(conn, run, request, now)
        return found

    async def note(
        self, run: Run, targets: Sequence[Target], steps: Iterable[Step], alarm_after: timedelta
    ) -> list[Target]:
        """Write where targets stand by the steps decided, and tell of one that is left or held up; return them all."""
        now, by_symbol = self._ctx.clock.now(), {step.symbol: step for step in steps}
        is_late = now - run.begun_at >= alarm_after
        noted = [_noted(each, by_symbol[each.symbol], now, is_late=is_late) for each in targets]
        if changed := [new for old, new in zip(targets, noted, strict=True) if new != old]:
            alarms = [
                FlattenBlocked(at=now, symbol=new.symbol, reason=new.detail)
                for old, new in zip(targets, noted, strict=True)
                if new.alarmed_at != old.alarmed_at
            ]
            async with self._ctx.db.transaction() as conn:
                await self._lease.check(conn)
                await store.save_targets(conn, run, changed)
                for each in changed:
                    await self._audit_end(conn, run, each, now)
                await record(conn, self._slug, alarms)
            for alarm in alarms:
                self._ctx.log.error("flatten.blocked", symbol=alarm.symbol, reason=alarm.reason)
        if has_news(targets, noted):  # it wakes ourselves too
            await self._show()
        return noted

    async def end(self, run: Run) -> None:
        """Note that nothing more is done."""
        now = self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            await self._lease.check(conn)
            await store.end_run(conn, run, now)
            event = _end_event(run, await store.targets_of(conn, run), now)
            await record(conn, self._slug, [event])
        say = self._ctx.log.error if event.outcome == LEFT else self._ctx.log.info
        say("flatten.ended", outcome=event.outcome, detail=event.detail)
        await self._show()

    async def _audit_end(self, conn: AsyncConnection, run: Run, target: Target, now: datetime) -> None:
        if target.state is not TargetState.OPEN:
            is_closed = target.state is TargetState.CLOSED
            await audit.record_end(
                conn, self._slug, client_order_id(run, target.symbol), at=now, flag=Flag.NOTHING,
                reason=Reason.FLATTENED if is_closed else Reason.NOT_FLATTENED, detail=target.detail,
                new_order_id=None, error=None,
            )  # fmt: skip

    async def _show(self) -> None:
        await announce(self._ctx.db, self._slug)
        await notify(self._ctx.db, f"risk_channel_{self._slug}", "{}")


def _noted(target: Target, step: Step, now: datetime, *, is_late: bool) -> Target:
    """Return where a target stands by a step; alarmed once it is left, or when it is open for too long."""
    state = step.state if isinstance(step, Finish) else TargetState.OPEN
    is_news = (state, step.reason) != (target.state, target.detail)
    is_alarm = state is TargetState.LEFT or (is_late and state is TargetState.OPEN)
    return replace(
        target, state=state, detail=step.reason, changed_at=now if is_news else target.changed_at,
        alarmed_at=now if is_alarm and target.alarmed_at is None else target.alarmed_at,
    )  # fmt: skip


def _held(targets: Sequence[Target]) -> str:
    return ", ".join(f"{each.symbol} {plain(each.qty)} {each.side.lower()}" for each in targets) or "nothing"


def _begin_events(run: Run, targets: Sequence[Target]) -> list[Event]:
    begun = FlattenBegun(
        at=run.begun_at, limit_of=run.latched_for or "all accounts", targets=_held(targets), is_dry_run=run.is_dry_run
    )
    return [begun, _end_event(run, targets, run.begun_at)] if run.is_dry_run else [begun]


def _end_event(run: Run, targets: Sequence[Target], at: datetime) -> FlattenEnded:
    left = [each for each in targets if each.state is TargetState.LEFT]
    detail = "; ".join(f"{each.symbol}: {each.detail}" for each in (left or targets)) or "nothing was held"
    return FlattenEnded(at=at, outcome="dry run" if run.is_dry_run else LEFT if left else "done", detail=detail)
