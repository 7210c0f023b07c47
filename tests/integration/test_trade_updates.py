"""The stream against a real websocket server: nothing is dropped, and every end has a reason."""

from __future__ import annotations

import http
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

import anyio
import pytest
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from coldharbour.broker import (
    Broker,
    Frame,
    KeysRefused,
    StreamLost,
    TradeUpdates,
    open_trade_updates,
    stream_url,
)
from coldharbour.clock import SystemClock, VirtualClock
from coldharbour.errors import NeedsOperator, Transient

pytestmark = pytest.mark.anyio

SECRET = "s3cret-of-the-test"
AUTHORIZED = {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
LISTENING = {"stream": "listening", "data": {"streams": ["trade_updates"]}}
Talk = Callable[[ServerConnection], Awaitable[None]]
Gate = Callable[[ServerConnection, Request], Response | None]


def update(number: int = 1, *, event: str = "new") -> bytes:
    stamp = "2026-10-08T15:10:18.0941Z"
    order = {"id": f"o{number}", "status": "new", "created_at": stamp, "updated_at": stamp, "symbol": "KO"}
    frame = {"stream": "trade_updates", "data": {"event": event, "timestamp": stamp, "order": order}}
    return json.dumps(frame).encode()


async def say(peer: ServerConnection, *frames: dict[str, Any] | bytes | str) -> None:
    for frame in frames:
        await peer.send(json.dumps(frame).encode() if isinstance(frame, dict) else frame)


async def greet(peer: ServerConnection, *before_listening: bytes) -> None:
    """The broker's side of the handshake, in binary frames as the paper host sends them."""
    hello = json.loads(await peer.recv())
    assert hello == {"action": "authenticate", "data": {"key_id": "PKTEST", "secret_key": SECRET}}
    await say(peer, AUTHORIZED)
    assert json.loads(await peer.recv()) == {"action": "listen", "data": {"streams": ["trade_updates"]}}
    await say(peer, *before_listening, LISTENING)


def greets_and_sends(*frames: dict[str, Any] | bytes | str) -> Talk:
    async def talk(peer: ServerConnection) -> None:
        await greet(peer)
        await say(peer, *frames)

    return talk


@asynccontextmanager
async def broker_at(talk: Talk, gate: Gate | None = None) -> AsyncIterator[str]:
    """A broker that greets nobody by itself; `talk` ends, and the connection is closed with it."""

    async def handle(peer: ServerConnection) -> None:
        try:
            await talk(peer)
        except ConnectionClosed:
            return  # the client left first, which some of the tests want

    quiet = logging.getLogger("test.server")
    async with serve(handle, "127.0.0.1", 0, process_request=gate, logger=quiet, close_timeout=0.1) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/stream"


def listening(url: str, **limits: float) -> AbstractAsyncContextManager[TradeUpdates]:
    return open_trade_updates(url, "PKTEST", SecretStr(SECRET), clock=SystemClock(), slug="paper", **limits)


async def until_lost(updates: TradeUpdates) -> tuple[list[Frame], StreamLost]:
    frames: list[Frame] = []
    try:
        async for frame in updates:
            frames.append(frame)  # noqa: PERF401 - what came before the loss is the point
    except StreamLost as lost:
        return frames, lost
    raise AssertionError("a stream ends by being lost")


async def why_refused(url: str, **limits: float) -> StreamLost:
    with anyio.fail_after(10), pytest.raises(StreamLost) as caught:
        async with listening(url, **limits):
            pytest.fail("the handshake must not succeed")
    return caught.value


async def test_binary_and_text_frames_arrive_in_order_with_their_exact_bytes() -> None:
    pretty = update(2).replace(b": ", b" :  ")

    talk = greets_and_sends(update(1), pretty.decode(), update(3, event="partial_fill"))

    async with broker_at(talk) as url, listening(url) as updates:
        frames, lost = await until_lost(updates)

    assert [frame.raw for frame in frames] == [update(1), pretty, update(3, event="partial_fill")]
    assert [frame.update and frame.update.order.id for frame in frames] == ["o1", "o2", "o3"]
    assert {frame.connection for frame in frames} == {updates.connection}
    assert lost.reason == "closed"
    assert isinstance(lost, Transient)


async def test_an_unreadable_frame_is_handed_on_and_the_stream_continues() -> None:
    broken: list[dict[str, Any] | bytes | str] = [
        update(1)[:-9],
        b"\xff\xfe",
        "not json",
        b"[]",
        b'{"stream":"trade_updates"}',
        b'{"data":1}',
    ]

    async with broker_at(greets_and_sends(*broken, update(2))) as url, listening(url) as updates:
        frames, _ = await until_lost(updates)

    raws = [frame.encode() if isinstance(frame, str) else frame for frame in broken]
    assert [frame.raw for frame in frames] == [*raws, update(2)]
    assert all(frame.problem and frame.update is None for frame in frames[:-1])
    assert frames[-1].update is not None
    assert frames[-1].problem is None


async def test_an_unknown_event_is_an_update_like_any_other() -> None:
    async with broker_at(greets_and_sends(update(1, event="quantum_leap"))) as url, listening(url) as updates:
        frames, _ = await until_lost(updates)

    assert frames[0].update is not None
    assert frames[0].update.event == "quantum_leap"


async def test_frames_of_other_streams_are_handed_on_without_an_update_or_a_problem() -> None:
    other: list[bytes | dict[str, Any]] = [
        {"stream": "account_updates", "data": {"id": "a"}},
        LISTENING,
        b"\x01",
    ]

    async with broker_at(greets_and_sends(*other)) as url, listening(url) as updates:
        frames, _ = await until_lost(updates)

    assert [(frame.update, frame.problem) for frame in frames] == [(None, None)] * 3


async def test_what_came_before_the_brokers_error_frame_is_delivered_first() -> None:
    fatal = {"action": "error", "data": {"error_message": "internal server error"}}

    async with broker_at(greets_and_sends(update(1), fatal, update(2))) as url, listening(url) as updates:
        frames, lost = await until_lost(updates)

    assert [frame.raw for frame in frames] == [update(1)]
    assert lost.reason == "error_frame"
    assert "internal server error" in lost.detail


async def test_events_that_overtake_the_listening_reply_are_not_lost() -> None:
    async def talk(peer: ServerConnection) -> None:
        await greet(peer, update(1), update(2))
        await say(peer, update(3))

    async with broker_at(talk) as url, listening(url) as updates:
        frames, _ = await until_lost(updates)

    assert [frame.update and frame.update.order.id for frame in frames] == ["o1", "o2", "o3"]


async def test_a_batch_holds_what_is_already_here_and_waits_for_no_more() -> None:
    sent, read_one = anyio.Event(), anyio.Event()

    async def talk(peer: ServerConnection) -> None:
        await greet(peer)
        await say(peer, update(0))
        await read_one.wait()
        await say(peer, *(update(number) for number in range(1, 8)))
        sent.set()
        await peer.wait_closed()

    async with broker_at(talk) as url, listening(url) as updates:
        batches = updates.batches(max_size=5)
        with anyio.fail_after(5):
            first = await anext(batches)
            read_one.set()
            await sent.wait()
            rest = list(await anext(batches))
            while len(rest) < 7:
                more = await anext(batches)
                assert len(more) <= 5
                rest.extend(more)

    assert [frame.raw for frame in first] == [update(0)]
    assert [frame.raw for frame in rest] == [update(number) for number in range(1, 8)]


async def test_frames_that_wait_are_stamped_with_the_moment_of_their_arrival() -> None:
    clock = VirtualClock(datetime(2026, 10, 8, 16, tzinfo=UTC))
    arrived = clock.now()

    async def talk(peer: ServerConnection) -> None:
        await greet(peer)
        await say(peer, update(1), update(2))
        await peer.wait_closed()

    async with (
        broker_at(talk) as url,
        open_trade_updates(url, "PKTEST", SecretStr(SECRET), clock=clock) as updates,
    ):
        frames = aiter(updates)
        await anext(frames)
        await anyio.wait_all_tasks_blocked()
        clock.advance(60)
        second = await anext(frames)

    assert second.received_at == arrived


async def test_a_thousand_frames_in_a_burst_all_arrive() -> None:
    async with (
        broker_at(greets_and_sends(*(update(n) for n in range(1000)))) as url,
        listening(url) as updates,
    ):
        sizes: list[int] = []

        async def count() -> None:
            async for batch in updates.batches():
                sizes.append(len(batch))  # noqa: PERF401 - the loss ends the loop

        with pytest.raises(StreamLost):
            await count()

    assert sum(sizes) == 1000
    assert max(sizes) <= 500


async def test_refused_keys_need_the_operator() -> None:
    async def talk(peer: ServerConnection) -> None:
        await peer.recv()
        message = "access key verification failed"
        await say(peer, {"stream": "authorization", "data": {"status": "unauthorized", "message": message}})
        await peer.wait_closed()

    async with broker_at(talk) as url:
        with pytest.raises(KeysRefused, match="access key verification failed") as caught:
            async with listening(url):
                pytest.fail("the handshake must not succeed")

    assert isinstance(caught.value, NeedsOperator)
    assert "ALPACA_SECRET_KEY_PAPER" in caught.value.hint


async def test_too_many_connections_are_worth_another_try() -> None:
    async def talk(peer: ServerConnection) -> None:
        await peer.recv()
        await say(peer, {"stream": "authorization", "data": {"status": "exceeded"}})

    async with broker_at(talk) as url:
        lost = await why_refused(url)

    assert (lost.reason, "exceeded" in lost.detail) == ("refused", True)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_upgrade_that_is_refused_for_now_is_worth_another_try(status: int) -> None:
    def gate(peer: ServerConnection, _: Request) -> Response:
        answer = peer.respond(http.HTTPStatus(status), "not now")
        answer.headers["Retry-After"] = "17"
        return answer

    async with broker_at(greets_and_sends(), gate) as url:
        lost = await why_refused(url)

    assert (lost.reason, lost.retry_after_s) == ("refused", 17)


async def test_an_upgrade_that_is_refused_for_its_keys_needs_the_operator() -> None:
    def gate(peer: ServerConnection, _: Request) -> Response:
        return peer.respond(http.HTTPStatus.UNAUTHORIZED, "unauthorized.")

    async with broker_at(greets_and_sends(), gate) as url:
        with pytest.raises(KeysRefused):
            async with listening(url):
                pytest.fail("the handshake must not succeed")


async def test_a_redirect_never_carries_the_keys_to_another_host() -> None:
    visitors: list[str] = []

    async def talk(peer: ServerConnection) -> None:
        visitors.append(str(await peer.recv()))

    async with broker_at(talk) as elsewhere:

        def gate(peer: ServerConnection, _: Request) -> Response:
            answer = peer.respond(http.HTTPStatus.FOUND, "")
            answer.headers["Location"] = elsewhere
            return answer

        async with broker_at(talk, gate) as url:
            lost = await why_refused(url)

    assert lost.reason == "refused"
    assert visitors == []


async def test_a_mute_handshake_ends_in_time() -> None:
    async def mute(peer: ServerConnection) -> None:
        await peer.wait_closed()

    async with broker_at(mute) as url:
        lost = await why_refused(url, handshake_timeout_s=0.1)

    assert lost.reason == "handshake_timeout"


async def test_a_broker_that_never_confirms_the_subscription_is_not_listened_to() -> None:
    async def talk(peer: ServerConnection) -> None:
        await peer.recv()
        await say(peer, AUTHORIZED)
        await peer.recv()
        await say(peer, {"stream": "listening", "data": {"streams": []}})
        await peer.wait_closed()

    async with broker_at(talk) as url:
        lost = await why_refused(url)

    assert (lost.reason, "trade_updates" in lost.detail) == ("refused", True)


async def test_a_broker_that_hangs_up_in_the_handshake_is_lost() -> None:
    async def hang_up(peer: ServerConnection) -> None:
        await peer.recv()

    async with broker_at(hang_up) as url:
        assert (await why_refused(url)).reason == "closed"


async def test_nobody_at_the_address_is_worth_another_try() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]

    lost = await why_refused(f"ws://127.0.0.1:{port}/stream")

    assert lost.reason == "refused"


async def test_a_silent_half_open_connection_is_noticed_by_our_own_ping() -> None:
    noticed = anyio.Event()

    async def freeze(peer: ServerConnection) -> None:
        await greet(peer)
        peer.transport.pause_reading()  # no pong leaves any more, and the socket stays open
        await noticed.wait()
        peer.transport.abort()

    async with broker_at(freeze) as url:
        with anyio.fail_after(5):
            async with listening(url, ping_interval_s=0.1, ping_timeout_s=0.1) as updates:
                _, lost = await until_lost(updates)
        noticed.set()

    assert lost.reason == "ping_timeout"


async def test_a_connection_cut_in_the_middle_of_a_frame_yields_no_half_frame() -> None:
    async def cut(peer: ServerConnection) -> None:
        await greet(peer)
        await say(peer, update(1))
        head = bytes([0x82, 126]) + len(update(2)).to_bytes(2, "big")
        peer.transport.write(head + update(2)[:20])
        await anyio.lowlevel.checkpoint()
        peer.transport.close()

    async with broker_at(cut) as url, listening(url) as updates:
        frames, lost = await until_lost(updates)

    assert [frame.raw for frame in frames] == [update(1)]
    assert lost.reason == "closed"


async def test_a_callers_own_error_leaves_the_block_as_it_was_raised() -> None:
    async def write_and_fail(url: str) -> None:
        async with listening(url) as updates:
            async for _ in updates:
                raise LookupError("the writer failed")

    async with broker_at(greets_and_sends(update(1))) as url:
        with pytest.raises(LookupError, match="the writer failed"):
            await write_and_fail(url)


async def test_a_cancelled_reader_closes_its_connection() -> None:
    gone = anyio.Event()

    async def talk(peer: ServerConnection) -> None:
        await greet(peer)
        await say(peer, update(1))
        await peer.wait_closed()
        gone.set()

    async with broker_at(talk) as url:
        with anyio.CancelScope() as scope:
            async with listening(url) as updates:
                async for _ in updates:
                    scope.cancel()
        with anyio.fail_after(5):
            await gone.wait()

    assert scope.cancelled_caught


async def test_nothing_logs_the_secret_even_at_the_lowest_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async with broker_at(greets_and_sends(update(1))) as url, listening(url) as updates:
        _, lost = await until_lost(updates)

    ours = [record for record in caplog.records if record.name != "test.server"]
    assert SECRET not in "".join(record.getMessage() for record in ours) + repr(lost) + repr(vars(updates))


async def test_a_broker_opens_the_stream_of_its_own_host() -> None:
    async with broker_at(greets_and_sends(update(1))) as url:
        host = url.replace("ws:", "http:").removesuffix("/stream")
        broker = Broker(
            base_url=host,
            data_url=host,
            key_id="PKTEST",
            secret=SecretStr(SECRET),
            clock=SystemClock(),
            random=Random(7),
            slug="paper",
        )
        async with broker, broker.trade_updates() as updates:
            frames, _ = await until_lost(updates)

    assert [frame.raw for frame in frames] == [update(1)]


def test_the_streams_address_follows_the_hosts() -> None:
    assert stream_url("https://api.alpaca.markets") == "wss://api.alpaca.markets/stream"
    assert stream_url("http://127.0.0.1:8099/") == "ws://127.0.0.1:8099/stream"
    with pytest.raises(ValueError, match="address"):
        stream_url("ftp://api.alpaca.markets")
