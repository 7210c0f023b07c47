"""How far prices went while a trade was held, from the account's own tables and the broker's bars."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fakes.accounting import THURSDAY, WEDNESDAY, WEEK, fill, shares
from fakes.counting_house import SLUG, new_york, open_counting_house

from coldharbour.live.closed_trades import ClosedTrades
from coldharbour.live.following import FollowedBook
from coldharbour.live.measuring import Measuring

pytestmark = pytest.mark.anyio

FOUND = "select entry_price, exit_price, high_px, low_px from accounts.closed_trades"


async def test_a_trade_is_measured_anew_when_a_split_that_it_was_held_over_is_told(database_url: str) -> None:
    """100 shares bought at 100 on Wednesday became 400 by Thursday, which the broker tells after they were sold."""
    async with open_counting_house(database_url, WEEK, new_york(THURSDAY, "12:00")) as house:
        house.past.minute(new_york(WEDNESDAY, "15:40"), KO="110")
        house.past.minute(new_york(WEDNESDAY, "15:50"), KO="98")
        house.past.minute(new_york(THURSDAY, "10:00"), KO="25.25")
        house.past.minute(new_york(THURSDAY, "10:10"), KO="27")
        await house.record(fill(WEDNESDAY, "buy", "100", "KO", "100", at="19:30:00"))
        await house.record(fill(THURSDAY, "sell", "400", "KO", "26.5", at="15:00:00"))
        followed = FollowedBook(house.db, SLUG, "us_equity", house.clock)
        archive, measuring = ClosedTrades(house.db, followed, house.ctx.emit), Measuring(house.ctx)
        await followed.load()
        await archive.write_all()
        await measuring.measure(10)
        [raw] = await house.select(FOUND)

        await house.record(shares(THURSDAY, "SPLIT", "300", "KO"))
        await followed.catch_up()
        await archive.write()
        await measuring.measure(10)
        [restated] = await house.select(FOUND)

    assert [*raw.values()] == [100, Decimal("26.5"), 110, 25.25]
    assert [*restated.values()] == [25, Decimal("26.5"), Decimal("27.5"), Decimal("24.5")]
    assert {told["adjustment"] for path, told in house.past.asked if path.endswith("/bars")} == {"raw"}
