"""The fence of a lease: what was allowed under it leaves at once or not at all; never asks whose the lease is."""

from __future__ import annotations

from collections.abc import Callable

from coldharbour.broker import NotSent
from coldharbour.clock import Clock

FENCE_S = 0.5  # after the lease was last seen to be ours, nothing is sent any more


def fence(clock: Clock, checked_s: float) -> Callable[[], None]:
    """Return what keeps a request back that comes too late: by then another holder may act (a frozen process thaws).

    checked_s: when the lease was last seen to be ours, by the clock's monotonic seconds. What is returned raises
    NotSent.
    """

    def may_send() -> None:
        late_s = clock.monotonic() - checked_s
        if late_s > FENCE_S:
            raise NotSent(f"the lease was checked {late_s:.1f} s ago (limit {FENCE_S:g} s)")

    return may_send
