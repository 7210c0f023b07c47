"""What changed while the stream was blind is in the lake before its gap is called healed, however well it hides."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from coldharbour_plugins.simulator.account import SimulatedAccount
from fakes.ingest import Station, becomes, recorded, simulated

from coldharbour.clock import SystemClock

pytestmark = pytest.mark.anyio

SLUG = "paper"
BRACKET = {
    "symbol": "KO", "qty": "10", "side": "buy", "type": "market", "time_in_force": "gtc", "order_class": "bracket",
    "take_profit": {"limit_price": "500"}, "stop_loss": {"stop_price": "1"},
}  # fmt: skip
WITH_STOP_ONLY = {
    "symbol": "KO", "qty": "10", "side": "buy", "type": "market", "time_in_force": "gtc", "order_class": "oto",
    "stop_loss": {"stop_price": "1"},
}  # fmt: skip


class TenDaysAgo(SystemClock):
    """The broker's time: ten days behind until it catches up."""

    ago = timedelta(days=10)

    def now(self) -> datetime:
        return super().now() - self.ago


async def filled(account: SimulatedAccount, request: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Place an order with exits, wait until its entry is filled, and return its legs by type."""
    placed = account.place(dict(request))
    await becomes(account, placed["id"], "filled")
    legs = account.order(str(placed["id"]), nested=True)["legs"]
    assert isinstance(legs, list)
    return {str(leg["type"]): leg for leg in legs}


async def all_gaps_healed(station: Station) -> None:
    async def healed() -> bool:
        gaps = await station.gaps()
        return bool(gaps) and all(gap["healed_at"] for gap in gaps)

    await station.until(healed)


async def test_legs_that_changed_under_an_old_parent_are_found_with_the_gap(database_url: str, tmp_path: Path) -> None:
    clock = TenDaysAgo()
    async with simulated(SLUG, clock=clock) as (broker, address):
        account = broker.accounts[SLUG]
        async with recorded(database_url, tmp_path, [(account, address)]) as [station]:
            await station.until_ready()
            edited, dropped = await filled(account, BRACKET), await filled(account, BRACKET)
            lone = await filled(account, WITH_STOP_ONLY)
            await station.until_complete()

        clock.ago = timedelta(0)
        first = account.replace(str(edited["stop"]["id"]), {"stop_price": "2"})
        await becomes(account, edited["stop"]["id"], "replaced")
        account.replace(str(first["id"]), {"stop_price": "3"})
        account.cancel(str(dropped["limit"]["id"]))
        account.cancel(str(lone["stop"]["id"]))
        await becomes(account, first["id"], "replaced")

        async with recorded(database_url, tmp_path, [(account, address)], kinds=("stream",)) as [station]:
            await all_gaps_healed(station)

            assert await station.counts() == station.truth()
