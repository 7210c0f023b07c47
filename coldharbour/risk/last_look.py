"""The last look before a stop is moved: position, leg and market as they are now; judges nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import anyio

from coldharbour.accounts import AccountContext
from coldharbour.broker import Position, Priority
from coldharbour.live.model import ZERO
from coldharbour.risk.clearance import Scene
from coldharbour.risk.model import Leg, MarketView, StopMove
from coldharbour.sessions import Phase

POSITIONS_S = 1.0  # how long an answer about all positions is fresh

A = TypeVar("A")
B = TypeVar("B")
MarketNow = Callable[[], MarketView]


class LastLook:
    """Looks at one account. Moves that are made together share one answer about all positions."""

    def __init__(self, ctx: AccountContext) -> None:
        self._ctx, self._turn = ctx, anyio.Lock()
        self._positions: dict[str, Position] = {}
        self._asked_s: float | None = None

    async def look(self, symbol: str, move: StopMove, market_now: MarketNow) -> Scene:
        """Read position and leg, both at once; the market's price is compared with the broker's own, a second source.

        Raises Transient and BrokerRefused.
        """
        position, order = await _both(
            partial(self._position, symbol),
            partial(self._ctx.broker.order, move.order_id, nested=False, priority=Priority.WRITE),
        )
        market = market_now()
        if position is not None and position.current_price is not None:
            market = replace(market, last_trade=position.current_price)
        return Scene(
            leg=Leg.of(order),
            position_qty=ZERO if position is None else position.signed_qty,
            market=market,
            session_open=self._ctx.phase() is Phase.REGULAR,
        )

    def again(self, scene: Scene, market_now: MarketNow) -> Scene:
        """Return the same scene with the market and the session as they are now."""
        market = replace(market_now(), last_trade=scene.market.last_trade)
        return replace(scene, market=market, session_open=self._ctx.phase() is Phase.REGULAR)

    async def _position(self, symbol: str) -> Position | None:
        async with self._turn:
            now_s = self._ctx.clock.monotonic()
            if self._asked_s is None or now_s - self._asked_s > POSITIONS_S:
                positions = await self._ctx.broker.positions(priority=Priority.WRITE)
                self._positions, self._asked_s = {position.symbol: position for position in positions}, now_s
            return self._positions.get(symbol)


async def _both(first: Callable[[], Awaitable[A]], second: Callable[[], Awaitable[B]]) -> tuple[A, B]:
    """Return what two reads find that are made at the same time. Raises what the one that failed first raised."""
    found: list[A] = []

    async def read_first() -> None:
        found.append(await first())

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_first)
            other = await second()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return found[0], other
