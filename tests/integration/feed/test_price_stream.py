"""The subscription over real sockets: nothing stalls it, nothing grows, every fault of a publisher is counted."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import httpx
import pytest
import structlog.testing
from coldharbour_plugins.simulator.broker import SimulatedBroker
from fakes.ingest import simulated
from fakes.pricing import Publisher, publishing, trade_message

from coldharbour.clock import SystemClock
from coldharbour.errors import BadConfig
from coldharbour.feed import prices as price_book
from coldharbour.feed.prices import Prices
from coldharbour.feed.watch import Watch
from coldharbour.feed.zmq import QUEUE_MESSAGES, SLICE, subscribed_prices
from coldharbour.sections import FeedSettings

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024  # of ru_maxrss, which counts in KiB


@asynccontextmanager
async def subscribed(publisher: Publisher, max_silence_s: float = 15) -> AsyncIterator[Prices]:
    """Lend the prices of a publisher that knows of its subscriber."""
    settings = FeedSettings(endpoint=publisher.endpoint, max_silence_s=max_silence_s)
    async with subscribed_prices(settings, SystemClock()) as prices:
        await publisher.until_subscribed()
        yield prices


async def until(watch: Watch, holds: Callable[[], bool]) -> None:
    """Return when something holds; it is looked at after every move of what the watch follows."""
    with anyio.fail_after(60):
        while not holds():
            await watch.wait()
            watch.take()


async def becomes(holds: Callable[[], bool]) -> None:
    """Return when something holds that no move tells of."""
    with anyio.fail_after(60):
        while True:
            if holds():
                return
            await anyio.sleep(0.01)


async def test_a_trade_becomes_the_last_price() -> None:
    async with publishing() as publisher, subscribed(publisher) as prices:
        with prices.watch() as watch:
            watch.follow(["KO"])
            await publisher.open_at("KO", 62.1)
            await until(watch, lambda: prices.last("KO") is not None)

        last = prices.last("KO")
    assert last is not None
    assert str(last.price) == "62.1"


async def test_what_is_no_trade_does_not_stop_the_stream() -> None:
    async with publishing() as publisher, subscribed(publisher) as prices:
        with prices.watch() as watch:
            watch.follow(["KO"])
            await publisher.send([b"", b"\xc1", b"AAPL", b"\x80", trade_message("KO", "much")])
            await publisher.send([trade_message("KO", float("nan")), trade_message("KO", 62, conditions=["M"])])
            await publisher.open_at("KO", 62.1)
            await until(watch, lambda: prices.last("KO") is not None)

        counts = prices.counts
    assert (counts.malformed, counts.invalid, counts.excluded, counts.taken) == (5, 1, 1, 1)


async def test_a_publisher_that_is_restarted_is_heard_again_and_the_hole_is_known() -> None:
    async with publishing() as publisher:
        endpoint = publisher.endpoint
    hearings = []
    async with subscribed_prices(FeedSettings(endpoint=endpoint), SystemClock()) as prices:
        with prices.watch() as watch:
            watch.follow(["KO"])
            for price in (62.1, 62.2):
                async with publishing(endpoint) as publisher:
                    with anyio.fail_after(60):
                        await publisher.until_subscribed()
                        while _price(prices) != str(price):  # who joins late misses a trade, and needs two
                            await publisher.open_at("KO", price)
                            with anyio.move_on_after(0.5):
                                await watch.wait()
                            watch.take()
                    hearings.append(prices.hearing_since)
                await becomes(lambda: prices.hearing_since is None)  # what comes now, nobody hears

    assert None not in hearings
    assert hearings[0] != hearings[1]


async def test_what_a_lost_connection_left_behind_is_no_sign_of_life() -> None:
    storm = [trade_message(f"S{number % 500}", 50) for number in range(8 * SLICE)]
    async with publishing() as publisher, subscribed(publisher) as prices:
        with prices.watch() as watch:
            watch.follow(["S0"])
            await publisher.send(storm)
            publisher.socket.close(linger=60_000)  # all of it arrives, and then nobody is there

            await becomes(lambda: seen(prices) == len(storm))
            await becomes(lambda: prices.hearing_since is None)


def _price(prices: Prices) -> str | None:
    last = prices.last("KO")
    return str(last.price) if last else None


async def test_a_storm_is_taken_whole_and_leaves_the_loop_its_breath_and_the_memory_as_it_was() -> None:
    ticks = 8 * QUEUE_MESSAGES
    storm = [trade_message(f"S{number % 500}", 50 + number % 9 / 100) for number in range(10_000)]
    breaths = 0

    async def breathe() -> None:
        nonlocal breaths
        while True:
            await anyio.lowlevel.checkpoint()
            breaths += 1

    async with publishing() as publisher, subscribed(publisher) as prices, anyio.create_task_group() as tasks:
        with prices.watch() as watch:
            watch.follow([f"S{number}" for number in range(500)])
            await publisher.send(storm)
            await until(watch, lambda: seen(prices) == len(storm))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            tasks.start_soon(breathe)
            for sent in range(2 * len(storm), ticks + 1, len(storm)):
                await publisher.send(storm)
                await until(watch, lambda expected=sent: seen(prices) == expected)  # type: ignore[misc]
            tasks.cancel_scope.cancel()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert breaths > ticks / SLICE
    assert grown < 30 * MEBIBYTE


def seen(prices: Prices) -> int:
    return prices.counts.taken + prices.counts.rejected


async def test_a_silence_is_told_once_and_so_is_its_end() -> None:
    with structlog.testing.capture_logs() as lines:
        async with publishing() as publisher, subscribed(publisher, max_silence_s=0.05) as prices:
            with prices.watch() as watch:
                watch.follow(["KO"])
                await becomes(lambda: bool(lines))
                await publisher.open_at("KO", 62.1)
                await until(watch, lambda: prices.last("KO") is not None)

    told = [line["event"] for line in lines if line["event"].startswith("feed.")]
    assert told[:2] == ["feed.silent", "feed.recovered"]


async def test_an_endpoint_that_is_none_is_refused_with_its_key() -> None:
    with pytest.raises(BadConfig, match=r"\[feed\] endpoint nowhere"):
        async with subscribed_prices(FeedSettings(endpoint="nowhere"), SystemClock()):
            raise AssertionError("it was taken")


class TestFaultsOfTheSimulator:
    """Every fault that the simulated publisher knows: the true price stands, and the fault is counted."""

    TICKS = 400

    @pytest.fixture
    async def stream(self) -> AsyncIterator[tuple[SimulatedBroker, Prices, str]]:
        async with simulated("paper") as (broker, address):
            settings = FeedSettings(endpoint=address.price_endpoint, max_silence_s=1)
            async with subscribed_prices(settings, SystemClock()) as prices:
                with prices.watch() as watch:
                    watch.follow(["AAPL"])
                    await until(watch, lambda: prices.last("AAPL") is not None)
                yield broker, prices, address.url

    async def through(self, stream: tuple[SimulatedBroker, Prices, str], **faults: object) -> price_book.Counts:
        """Let the stream run under faults for a while; every price on the way is checked against the true one."""
        broker, prices, url = stream
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.put("/sim/faults", json=faults)
            answer.raise_for_status()
        before = seen(prices)
        with prices.watch() as watch, anyio.fail_after(60):
            watch.follow(broker.market.symbols)
            while seen(prices) < before + self.TICKS:
                await watch.wait()
                for move in watch.take():
                    true = broker.market.price(move.last.symbol)
                    assert abs(move.last.price / true - 1) < 0.1, move
        return prices.counts

    async def test_bad_prices_never_stand(self, stream: tuple[SimulatedBroker, Prices, str]) -> None:
        broker, prices, _ = stream
        with prices.watch() as watch:
            watch.follow(broker.market.symbols)  # a first price has nothing to be judged by
            await until(watch, lambda: all(map(prices.last, broker.market.symbols)))

        counts = await self.through(stream, price_bad_rate=0.1)

        assert counts.invalid > 0
        assert counts.unconfirmed > 0

    async def test_malformed_messages_are_skipped(self, stream: tuple[SimulatedBroker, Prices, str]) -> None:
        counts = await self.through(stream, price_malformed_rate=0.5)

        assert counts.malformed > 50

    async def test_excluded_trades_at_ten_times_the_price_never_stand(
        self, stream: tuple[SimulatedBroker, Prices, str]
    ) -> None:
        counts = await self.through(stream, price_excluded_rate=0.5)

        assert counts.excluded > 50

    async def test_trades_with_an_old_stamp_never_replace_newer_ones(
        self, stream: tuple[SimulatedBroker, Prices, str]
    ) -> None:
        counts = await self.through(stream, price_stale_rate=0.5)

        assert counts.late > 50

    async def test_a_mute_publisher_is_noticed(self, stream: tuple[SimulatedBroker, Prices, str]) -> None:
        _, prices, url = stream
        async with httpx.AsyncClient(base_url=url) as client:
            (await client.put("/sim/faults", json={"price_mute": True})).raise_for_status()

        await becomes(lambda: prices.is_silent)
