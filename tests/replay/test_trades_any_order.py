"""However a history reaches the lake, followed live or read whole: open and closed trades end as the same rows."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from fakes.history import Evidence, chunks, history
from fakes.lake import SLUG, Json, frame, open_lake
from fakes.trades import CLOSED, OPEN
from psycopg.rows import dict_row

from coldharbour.broker import translate
from coldharbour.clock import SystemClock
from coldharbour.lake.writer import Lake
from coldharbour.live.closed_trades import ClosedTrades
from coldharbour.live.following import FollowedBook
from coldharbour.live.open_trades import OpenTrades

pytestmark = pytest.mark.anyio

Piece = Callable[[], Coroutine[Any, Any, object]]


class Followers:
    """Both tables of one account, kept by one book."""

    def __init__(self, lake: Lake) -> None:
        self.followed = FollowedBook(lake.db, SLUG, "us_equity", SystemClock())
        self.open = OpenTrades(lake.db, self.followed)
        self.closed = ClosedTrades(lake.db, self.followed, lambda event: None)

    async def begin(self) -> None:
        """Read everything, and make the tables what it says."""
        await self.followed.load()
        await self.open.write_all()
        await self.closed.write_all()

    async def follow(self) -> None:
        """Move the tables on to what the lake holds now."""
        touched = await self.followed.catch_up()
        await self.open.write(touched)
        await self.closed.write()


def pieces(lake: Lake, seen: Evidence, chance: Random) -> list[Piece]:
    """Return everything that was to be seen, cut by chance, some of it twice, in any order."""

    def hear(raws: list[bytes]) -> Piece:
        return lambda: lake.write_frames([frame(raw) for raw in raws])

    def read_orders(raws: list[bytes]) -> Piece:
        return lambda: lake.write_orders([translate.order(raw) for raw in raws])

    def read_activities(raws: list[bytes]) -> Piece:
        return lambda: lake.write_activities([translate.activity(raw) for raw in raws])

    told = [hear(part) for part in chunks(seen.frames, chance.randint(1, 4))]
    told += [read_orders(page) for page in seen.orders] + [read_activities(page) for page in seen.activities]
    told += chance.sample(told, len(told) // 4)
    chance.shuffle(told)
    told += [read_orders(page) for page in chunks(seen.final_orders, 10)]
    return told + [read_activities(page) for page in chunks(seen.final_activities, 20)]


async def tables(lake: Lake) -> tuple[list[Json], list[Json]]:
    """Return what follows from the ledger in both tables."""
    async with lake.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
        open_rows = await (await cursor.execute(OPEN, [SLUG])).fetchall()
        closed_rows = await (await cursor.execute(CLOSED, [SLUG])).fetchall()
    return open_rows, closed_rows


async def forget(lake: Lake) -> None:
    """Empty both tables."""
    async with lake.db.transaction() as conn:
        await conn.execute("delete from accounts.open_trades")
        await conn.execute("delete from accounts.closed_trades")


@pytest.mark.parametrize("seed", range(6))
async def test_trades_that_were_followed_live_are_those_that_are_made_from_the_whole(
    database_url: str, seed: int
) -> None:
    chance = Random(seed)
    async with open_lake(database_url) as lake:
        live = Followers(lake)
        await live.begin()
        for piece in pieces(lake, history(seed, steps=30), chance):
            await piece()
            if chance.random() < 0.5:
                await live.follow()
        await live.follow()
        followed = await tables(lake)

        await forget(lake)
        await Followers(lake).begin()

        assert await tables(lake) == followed
        assert followed[0] + followed[1]
