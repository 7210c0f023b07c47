"""Stops that a person asked to move: takes an account's requests and settles each with what became of it.

The person's word takes the place of the trigger; every other rule decides as always, in the keeper.
"""

from __future__ import annotations

import anyio

from coldharbour import requests
from coldharbour.db import Subscription
from coldharbour.errors import NeedsOperator, Transient
from coldharbour.requests import Action, Outcome
from coldharbour.risk import store as audit
from coldharbour.risk.keeper import StopKeeper
from coldharbour.risk.model import Reason

WORKER = "breakeven"
POLL_S = 2.0
FAILED = frozenset({Reason.REJECTED, Reason.NOT_MOVED})


class AskedMoves:
    """The requests for the stops of one keeper."""

    def __init__(self, keeper: StopKeeper) -> None:
        self._keeper, self._ctx = keeper, keeper.ctx
        self._woken = anyio.Event()

    async def follow(self, notes: Subscription) -> None:
        """Hear that something was asked."""
        async for _ in notes:
            self._woken.set()

    async def run(self) -> None:
        """Answer what was asked when woken and every POLL_S seconds, for ever."""
        while True:
            await self._answer()
            with anyio.move_on_after(POLL_S):
                await self._woken.wait()
            self._woken = anyio.Event()

    async def _answer(self) -> None:
        db, slug, clock = self._ctx.db, self._keeper.slug, self._ctx.clock
        async with db.transaction() as conn:
            taken = await requests.take(conn, slug, WORKER, [Action.BREAKEVEN], clock.now())
        for request in taken:
            outcome, detail = Outcome.FAILED, "the worker ended meanwhile: see the audit for what became of it"
            try:
                outcome, detail = await self._move(request.parameters.get("lot", ""))
            except (Transient, NeedsOperator) as error:
                outcome, detail = Outcome.FAILED, str(error)
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    async with db.transaction() as conn:
                        await requests.settle(conn, request, outcome, detail, now=clock.now())
                    await requests.announce(db, slug)

    async def _move(self, parent_id: str) -> tuple[Outcome, str]:
        """Move a lot's stop if every rule allows it; return what the audit says of it."""
        decision = await self._keeper.move_asked(parent_id)
        if decision is None:
            return Outcome.REFUSED, "there is no such lot with a stop of its own in regular hours"
        if decision.action is None:
            return Outcome.REFUSED, decision.detail
        async with self._ctx.db.transaction() as conn:
            [row] = await audit.audit_page(conn, self._keeper.slug, None, 1, parent_id)
        if row.reason == Reason.MOVED:
            return Outcome.DONE, row.detail
        return Outcome.FAILED if row.reason in FAILED else Outcome.REFUSED, row.detail
