"""A clock that runs faster than the one it is set by; the simulated market lives by it."""

from __future__ import annotations

from datetime import datetime, timedelta

from coldharbour.clock import Clock


class PacedClock:
    """Shows the base clock's time at its making, and `speed` seconds for each second since."""

    def __init__(self, base: Clock, speed: float) -> None:
        self._base, self._speed = base, speed
        self._began, self._began_s = base.now(), base.monotonic()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=(self._base.monotonic() - self._began_s) * self._speed)

    def monotonic(self) -> float:
        return self._began_s + (self._base.monotonic() - self._began_s) * self._speed

    async def sleep(self, delay_s: float) -> None:
        await self._base.sleep(delay_s / self._speed)
