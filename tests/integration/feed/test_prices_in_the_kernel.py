"""How workers come by prices: one subscription for a whole process, and only for those who say that they use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import anyio
import psycopg
import pytest
import zmq
from anyio.abc import TaskStatus
from fakes.harbour import PATIENCE_S, Rhythm, open_harbour
from fakes.pricing import publishing
from psycopg.conninfo import make_conninfo

from coldharbour import loader, settings
from coldharbour.accounts import AccountContext
from coldharbour.clock import Clock
from coldharbour.errors import BadConfig
from coldharbour.feed.prices import Prices
from coldharbour.hookspecs import hookimpl
from coldharbour.sections import FeedSettings

pytestmark = pytest.mark.anyio


class Reader:
    """A worker that waits for the price of KO."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.changed = anyio.Event()

    async def __call__(self, ctx: AccountContext, _cfg: Rhythm, *, task_status: TaskStatus[None]) -> None:
        with ctx.prices.watch() as watch:
            watch.follow(["KO"])
            task_status.started()
            while True:
                await watch.wait()
                for move in watch.take():
                    self.seen[ctx.destination.slug] = str(move.last.price)
                self.changed.set()
                self.changed = anyio.Event()

    async def until(self, expected: dict[str, str]) -> None:
        """Return when the accounts have seen these prices."""
        with anyio.fail_after(PATIENCE_S):
            while self.seen != expected:
                await self.changed.wait()


def feed(endpoint: str) -> str:
    return f'[feed]\nendpoint = "{endpoint}"\n'


async def test_all_accounts_of_a_process_share_one_subscription(database_url: str, tmp_path: Path) -> None:
    reader = Reader()
    async with publishing() as publisher, open_harbour(database_url, tmp_path, feed(publisher.endpoint)) as harbour:
        assignments = harbour.assign(reader, every="", uses_prices=True, to=("paper", "swing"))
        async with harbour.running(assignments):
            await publisher.until_subscribed()
            for slug in ("paper", "swing"):
                await harbour.until_state("ready", slug=slug)
            await publisher.open_at("KO", 62.1)
            await reader.until({"paper": "62.1", "swing": "62.1"})

            with pytest.raises(zmq.Again):  # nobody else subscribed
                await publisher.socket.recv(zmq.NOBLOCK)


async def test_a_worker_that_did_not_say_so_has_no_prices_and_is_told_what_to_say(
    database_url: str, tmp_path: Path
) -> None:
    async with open_harbour(database_url, tmp_path) as harbour, harbour.running(harbour.assign(Reader(), every="")):
        row = await harbour.until_state("retrying")

    assert row.last_error is not None
    assert "uses_prices=True" in row.last_error


async def test_another_plugin_may_bring_the_prices(database_url: str, tmp_path: Path) -> None:
    class Lighthouse:
        """A plugin with one price that never changes."""

        @staticmethod
        @hookimpl
        def open_prices(settings: FeedSettings, clock: Clock) -> AbstractAsyncContextManager[Prices]:
            @asynccontextmanager
            async def one_price() -> AsyncIterator[Prices]:
                prices = Prices(clock, max_silence_s=settings.max_silence_s)
                prices.seed("KO", Decimal("1.5"), clock.now())
                yield prices

            return one_price()

    reader = Reader()
    async with open_harbour(database_url, tmp_path) as harbour:
        harbour.registry.pm.register(Lighthouse())
        async with harbour.running(harbour.assign(reader, every="", uses_prices=True)):
            await reader.until({"paper": "1.5"})


async def test_the_optional_tables_are_read_from_the_second_server_where_there_is_one(
    database_url: str, postgres: str, tmp_path: Path
) -> None:
    names: dict[str, str] = {}

    async def look(ctx: AccountContext, _cfg: Rhythm) -> None:
        for name, db in (("db", ctx.db), ("market_db", ctx.market_db)):
            async with db.transaction() as conn:
                [names[name]] = await (await conn.execute("select current_database()")).fetchone() or ("",)

    elsewhere = make_conninfo(postgres, dbname="postgres")
    more = f'[database]\ntimescale_url = "{elsewhere}"\n'
    async with open_harbour(database_url, tmp_path, more) as harbour, harbour.running(harbour.assign(look)):
        await harbour.until(lambda row: row.last_success is not None)

    assert names == {"db": psycopg.conninfo.conninfo_to_dict(database_url)["dbname"], "market_db": "postgres"}


def test_a_worker_that_needs_prices_does_not_start_without_a_plugin_for_them(tmp_path: Path) -> None:
    file = tmp_path / "harbour.toml"
    file.write_text('[plugins]\ndisabled = ["feed"]\n[simulator]\n[destinations.paper]\nsimulated = true\n')

    with pytest.raises(BadConfig, match=r"no plugin has prices for .*prices.*: leave 'feed' in"):
        loader.load_plugins(settings.load(file, {}))
