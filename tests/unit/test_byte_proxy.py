"""What the byte proxy does to the bytes of an innocent echo server, toxic by toxic."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import pydantic
import pytest
from coldharbour_plugins.simulator.proxy import CHUNK_BYTES, RESET_ON_CLOSE, Address, ByteProxy, byte_proxy

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def echo(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        try:
            async for chunk in stream:
                await stream.send(chunk)
            await stream.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # a toxic cut the line: that is what these tests are about


@asynccontextmanager
async def proxied_echo() -> AsyncIterator[ByteProxy]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            async with byte_proxy(("127.0.0.1", port), seed=1) as proxy:
                yield proxy
            tasks.cancel_scope.cancel()


async def connect(proxy: ByteProxy) -> anyio.abc.SocketStream:
    return await anyio.connect_tcp("127.0.0.1", proxy.port)


async def read(stream: anyio.abc.SocketStream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += await stream.receive(size - len(received))
    return received


async def test_without_toxics_every_byte_passes_both_ways_and_so_does_the_end() -> None:
    payload = bytes(range(256)) * 4_000
    async with proxied_echo() as proxy, await connect(proxy) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.send, payload)

        echoed = await read(client, len(payload))
        await client.send_eof()

        assert echoed == payload
        with pytest.raises(anyio.EndOfStream):
            await client.receive()


async def test_latency_delays_without_losing_or_reordering() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as client:
        proxy.add("latency", delay_s=0.15)
        began = anyio.current_time()

        await client.send(b"slow")

        assert await read(client, 4) == b"slow"
        assert anyio.current_time() - began >= 0.15


async def test_a_silent_timeout_holds_the_bytes_until_it_is_removed() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as client:
        proxy.add("timeout", after_s=0)
        await client.send(b"into the dark")

        with anyio.move_on_after(0.1) as silence:
            await client.receive()
        proxy.remove("timeout_downstream")

        assert silence.cancelled_caught
        assert await read(client, 13) == b"into the dark"


async def test_a_timeout_with_a_limit_closes_the_connection() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as client:
        proxy.add("timeout", after_s=0.05)

        with pytest.raises(anyio.EndOfStream):
            await client.receive()


async def test_reset_peer_resets_and_cut_resets_all_connections_at_once() -> None:
    async with proxied_echo() as proxy:
        async with await connect(proxy) as first:
            await first.send(b"x")
            await read(first, 1)
            proxy.add("reset_peer")
            with pytest.raises(anyio.BrokenResourceError):
                await first.receive()
        proxy.clear()

        async with await connect(proxy) as second:
            await second.send(b"x")
            await read(second, 1)
            assert proxy.cut() == 1
            with pytest.raises(anyio.BrokenResourceError):
                await second.receive()


async def test_down_refuses_connections_and_clear_brings_the_same_port_back() -> None:
    async with proxied_echo() as proxy:
        port = proxy.port
        async with await connect(proxy) as client:
            await client.send(b"x")
            await read(client, 1)
            proxy.add("down")
            with pytest.raises(anyio.BrokenResourceError):
                await client.receive()
        with pytest.raises(OSError, match="connect"):
            await connect(proxy)

        proxy.clear()

        async with await _retry_connect(proxy) as client:
            await client.send(b"back")
            assert await read(client, 4) == b"back"
        assert proxy.port == port


async def _retry_connect(proxy: ByteProxy) -> anyio.abc.SocketStream:
    with anyio.fail_after(2):
        while True:
            try:
                return await connect(proxy)
            except OSError:
                await anyio.sleep(0.01)  # the port opens in the proxy's own task


@pytest.mark.parametrize("limit", [0, 1, 7, 4_096])
async def test_limit_data_passes_exactly_that_many_bytes_and_closes(limit: int) -> None:
    async with proxied_echo() as proxy, await connect(proxy) as client:
        proxy.add("limit_data", limit_bytes=limit)
        await client.send(b"y" * 10_000)

        received = await read(client, limit)

        assert received == b"y" * limit
        with pytest.raises(anyio.EndOfStream):
            await client.receive()


async def test_the_slicer_delivers_crumbs_and_bandwidth_bounds_the_rate() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as client:
        proxy.add("slicer", size_bytes=10, gap_s=0.001)
        await client.send(b"z" * 50)
        first = await client.receive()
        await read(client, 50 - len(first))
        proxy.clear()
        proxy.add("bandwidth", bytes_per_s=10_000)
        proxy.add("slicer", size_bytes=500)
        began = anyio.current_time()
        await client.send(b"z" * 2_000)
        await read(client, 2_000)

        assert len(first) < 50
        assert anyio.current_time() - began >= 0.14  # the pause follows a piece: the last one costs nothing


async def test_slow_close_announces_the_end_late() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as client:
        proxy.add("slow_close", delay_s=0.1)
        began = anyio.current_time()
        await client.send_eof()

        with pytest.raises(anyio.EndOfStream):
            await client.receive()

        assert anyio.current_time() - began >= 0.1


async def test_a_toxic_of_no_probability_harms_nobody() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as client:
        proxy.add("timeout", name="never", probability=0)

        await client.send(b"abcdef")

        assert await read(client, 6) == b"abcdef"


async def test_an_upstream_limit_lets_the_server_see_only_those_bytes(tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    async with (
        await anyio.create_unix_listener(path) as listener,
        byte_proxy(path) as proxy,
        await connect(proxy) as client,
        await listener.accept() as server,
    ):
        proxy.add("limit_data", direction="upstream", limit_bytes=3)

        await client.send(b"abcdef")

        assert await server.receive() == b"abc"
        with pytest.raises(anyio.EndOfStream):
            await server.receive()


async def test_an_unknown_toxic_is_refused_by_a_message_that_names_the_eight() -> None:
    async with proxied_echo() as proxy:
        with pytest.raises(pydantic.ValidationError, match=r"latency.*down.*bandwidth.*slow_close.*timeout"):
            proxy.add("gremlins")


async def test_unix_sockets_work_on_both_sides(tmp_path: Path) -> None:
    behind, before = str(tmp_path / "behind"), str(tmp_path / "before")
    async with await anyio.create_unix_listener(behind) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        listen: Address = before
        async with byte_proxy(behind, listen=listen), await anyio.connect_unix(before) as client:
            await client.send(b"local")

            assert await client.receive() == b"local"
        tasks.cancel_scope.cancel()


async def test_a_dead_upstream_closes_the_client_instead_of_hanging_it() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
    async with byte_proxy(("127.0.0.1", port)) as proxy, await connect(proxy) as client:
        with anyio.fail_after(2), pytest.raises(anyio.EndOfStream):
            await client.receive()


async def test_a_client_that_dies_while_much_is_under_way_harms_no_other() -> None:
    stuck = anyio.Event()

    async def pour(stream: anyio.abc.SocketStream) -> None:
        with suppress(anyio.BrokenResourceError):  # the line is cut in the end
            async with stream:
                while True:
                    with anyio.move_on_after(0.1) as patience:
                        await stream.send(bytes(CHUNK_BYTES))
                    if patience.cancelled_caught:  # the proxy and all buffers are full
                        stuck.set()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, pour)
        port = listener.extra_attributes[anyio.abc.SocketAttribute.local_port]()
        async with byte_proxy(("127.0.0.1", port)) as proxy:
            dying = await connect(proxy)
            await stuck.wait()

            end = dying.extra_attributes[anyio.abc.SocketAttribute.raw_socket]()
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            await anyio.aclose_forcefully(dying)

            async with await connect(proxy) as other:
                assert await read(other, 100) == bytes(100)
        tasks.cancel_scope.cancel()
