"""A byte proxy that makes a good network bad: toxics at work between a client and a server.

Owns the sockets it accepted and the bytes in flight; it never looks inside them, and never loses a byte
that no toxic told it to lose.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.abc
from anyio import TASK_STATUS_IGNORED
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .toxics import (
    TOXIC,
    AnyToxic,
    Bandwidth,
    Direction,
    Down,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

Address = tuple[str, int] | str
"""(host, port) of a TCP socket, or the path of a unix socket."""

CHUNK_BYTES = 65_536
CHUNKS_IN_FLIGHT = 64  # bounds the memory one direction of a connection can hold while it is delayed
OPEN_WAIT_S = 5.0  # a server that does not even accept counts as absent
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on with zero seconds: close() sends RST, not FIN


@dataclass(frozen=True)
class End:
    """One side of a connection.

    asyncio's streams, not anyio's: those of unix sockets lose a race between cancellation and arriving bytes.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self, *, hard: bool = False) -> None:
        """End this side: with RST at once, or with FIN after what was written."""
        if hard:
            reset(self.writer.transport)
        else:
            self.writer.close()


@dataclass(eq=False)
class Link:
    """One client connection with its partner to the server, and what the toxics drew and counted for it."""

    client: End
    server: End
    scope: anyio.CancelScope
    draws: dict[str, float] = field(default_factory=dict)
    passed_bytes: dict[str, int] = field(default_factory=dict)

    def cut(self, *, hard: bool = True) -> None:
        """End both sides at once."""
        self.client.close(hard=hard)
        self.server.close(hard=hard)
        self.scope.cancel()


class ByteProxy:
    """Forwards one listening address to `upstream`; toxics act on open connections from the next byte on."""

    def __init__(self, upstream: Address, *, seed: int = 0) -> None:
        self.upstream = upstream
        self.address: Address = ""
        self._random = random.Random(f"{seed}/proxy")
        self._toxics: dict[str, AnyToxic] = {}
        self._links: set[Link] = set()
        self._changed = anyio.Event()

    @property
    def port(self) -> int:
        """The TCP port that clients connect to; 0 for a unix socket."""
        return self.address[1] if isinstance(self.address, tuple) else 0

    @property
    def connections(self) -> int:
        """How many connections are open through the proxy."""
        return len(self._links)

    @property
    def toxics(self) -> Sequence[AnyToxic]:
        """The toxics at work, in the order they were added."""
        return tuple(self._toxics.values())

    def add(self, kind: str, **attributes: object) -> AnyToxic:
        """Put a toxic to work, replacing one of the same name.

        Raises pydantic.ValidationError for an unknown kind or attribute, naming what is known.
        """
        toxic = TOXIC.validate_python({"kind": kind, **attributes})
        toxic = toxic.model_copy(update={"name": toxic.name or f"{toxic.kind}_{toxic.direction}"})
        self._toxics[toxic.name] = toxic
        for link in self._links:  # a toxic added anew draws and counts anew
            link.draws.pop(toxic.name, None)
            link.passed_bytes.pop(toxic.name, None)
        self._wake()
        return toxic

    def remove(self, name: str) -> None:
        """Take one toxic away; raises KeyError if there is none of that name."""
        del self._toxics[name]
        self._wake()

    def clear(self) -> None:
        """Take all toxics away; what a `timeout` held back flows on."""
        self._toxics.clear()
        self._wake()

    def cut(self) -> int:
        """Reset every open connection now and return how many there were."""
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    async def serve(
        self,
        listen: Address = ("127.0.0.1", 0),
        *,
        task_status: anyio.abc.TaskStatus[Address] = TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and forward until cancelled; the started value is the real address.

        Raises OSError if the address cannot be listened on.
        """
        while True:
            async with anyio.create_task_group() as links:

                def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    links.start_soon(self._forward, End(reader, writer))

                async with await _listen(listen, accept) as listener:
                    if isinstance(listen, tuple):
                        listen = (listen[0], listener.sockets[0].getsockname()[1])
                    self.address = listen
                    task_status.started(listen)
                    task_status = TASK_STATUS_IGNORED
                    await self._until(down=True)
                    listener.close()
                    self.cut()  # only now: who is cut and dials again must find the port closed
                    links.cancel_scope.cancel()
            await self._until(down=False)

    async def _forward(self, client: End) -> None:
        try:
            with anyio.fail_after(OPEN_WAIT_S):
                server = await _connect(self.upstream)
        except OSError:  # TimeoutError is one: nobody there, and the client is to see just that
            client.close()
            return
        with anyio.CancelScope() as scope:
            link = Link(client, server, scope)
            self._links.add(link)
            try:
                await self._run(link)
            finally:
                self._links.discard(link)
                client.close()
                server.close()

    async def _run(self, link: Link) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, link)
            async with anyio.create_task_group() as pumps:
                pumps.start_soon(self._pump, link, "downstream", link.server, link.client)
                pumps.start_soon(self._pump, link, "upstream", link.client, link.server)
            tasks.cancel_scope.cancel()

    async def _pump(self, link: Link, direction: Direction, source: End, sink: End) -> None:
        # Reading and writing are two tasks, so that latency delays the bytes without thinning the line.
        send, receive = anyio.create_memory_object_stream[tuple[float, bytes]](CHUNKS_IN_FLIGHT)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, link, direction, source.reader, send)
                await self._write(link, direction, sink.writer, receive)
        except* OSError:
            link.cut()  # one side was reset: so is the other

    async def _read(
        self,
        link: Link,
        direction: Direction,
        source: asyncio.StreamReader,
        send: MemoryObjectSendStream[tuple[float, bytes]],
    ) -> None:
        async with send:
            while chunk := await source.read(CHUNK_BYTES):
                try:
                    await send.send((anyio.current_time() + self._delay_s(link, direction), chunk))
                except anyio.BrokenResourceError:
                    return  # the other side was reset while this chunk waited for its turn

    async def _write(
        self,
        link: Link,
        direction: Direction,
        sink: asyncio.StreamWriter,
        receive: MemoryObjectReceiveStream[tuple[float, bytes]],
    ) -> None:
        async with receive:
            async for due, chunk in receive:
                await anyio.sleep_until(due)
                for piece, pause_s in self._shape(link, direction, chunk):
                    await self._pass_hole(link, direction)
                    sink.write(piece)
                    await sink.drain()
                    await anyio.sleep(pause_s)
                if self._is_spent(link, direction):
                    link.cut(hard=False)
        await self._pass_hole(link, direction)
        await anyio.sleep(sum(t.delay_s for t in self._active(link, direction) if isinstance(t, SlowClose)))
        sink.write_eof()

    def _active(self, link: Link, direction: Direction | None = None) -> Iterator[AnyToxic]:
        for toxic in tuple(self._toxics.values()):
            if direction in {None, toxic.direction}:
                luck = link.draws.setdefault(toxic.name, self._random.random())
                if luck < toxic.probability:
                    yield toxic

    def _delay_s(self, link: Link, direction: Direction) -> float:
        return sum(
            max(0.0, toxic.delay_s + self._random.uniform(-toxic.jitter_s, toxic.jitter_s))
            for toxic in self._active(link, direction)
            if isinstance(toxic, Latency)
        )

    def _shape(self, link: Link, direction: Direction, chunk: bytes) -> Iterator[tuple[bytes, float]]:
        """Cut one chunk into the pieces the toxics allow, each with the pause in seconds that follows it."""
        active = tuple(self._active(link, direction))
        for toxic in active:
            if isinstance(toxic, LimitData):
                passed = link.passed_bytes.get(toxic.name, 0)
                chunk = chunk[: max(toxic.limit_bytes - passed, 0)]
                link.passed_bytes[toxic.name] = passed + len(chunk)
        slicer = next((t for t in active if isinstance(t, Slicer)), None)
        rates = [t.bytes_per_s for t in active if isinstance(t, Bandwidth)]
        for piece in self._slices(slicer, chunk):
            pause_s = slicer.gap_s if slicer else 0.0
            yield piece, pause_s + (len(piece) / min(rates) if rates else 0.0)

    def _slices(self, slicer: Slicer | None, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            spread = slicer.variation_bytes if slicer else 0
            size = len(chunk) if slicer is None else slicer.size_bytes + self._random.randint(-spread, spread)
            yield chunk[: max(size, 1)]
            chunk = chunk[max(size, 1) :]

    def _is_spent(self, link: Link, direction: Direction) -> bool:
        return any(
            isinstance(toxic, LimitData) and link.passed_bytes.get(toxic.name, 0) >= toxic.limit_bytes
            for toxic in self._active(link, direction)
        )

    async def _pass_hole(self, link: Link, direction: Direction) -> None:
        while any(isinstance(toxic, Timeout) for toxic in self._active(link, direction)):
            await self._changed.wait()

    async def _watch(self, link: Link) -> None:
        """End the connection when a toxic with a deadline says so; a change of toxics restarts the wait."""
        while True:
            changed = self._changed
            resets = [t.after_s for t in self._active(link) if isinstance(t, ResetPeer)]
            closes = [t.after_s for t in self._active(link) if isinstance(t, Timeout) and t.after_s > 0]
            with anyio.move_on_after(min([*resets, *closes, math.inf])):
                await changed.wait()
            if not changed.is_set():
                link.cut(hard=bool(resets))
                return

    def _is_down(self) -> bool:
        return any(isinstance(toxic, Down) for toxic in self._toxics.values())

    async def _until(self, *, down: bool) -> None:
        while self._is_down() != down:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@asynccontextmanager
async def byte_proxy(
    upstream: Address, *, listen: Address = ("127.0.0.1", 0), seed: int = 0
) -> AsyncIterator[ByteProxy]:
    """Run a proxy to `upstream` for the length of the block; `proxy.port` is where to connect.

    >>> async with byte_proxy(("127.0.0.1", 5432)) as proxy:  # doctest: +SKIP
    ...     proxy.add("timeout", direction="downstream")  # from now on the server seems frozen
    """
    proxy = ByteProxy(upstream, seed=seed)
    async with anyio.create_task_group() as tasks:
        await tasks.start(proxy.serve, listen)
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()


def reset(transport: asyncio.WriteTransport) -> None:
    """Close a TCP connection with RST; any other transport just abruptly."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()


async def _listen(
    address: Address, accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]
) -> asyncio.Server:
    if isinstance(address, str):
        await anyio.Path(address).unlink(missing_ok=True)
        return await asyncio.start_unix_server(accept, address)
    return await asyncio.start_server(accept, *address)


async def _connect(address: Address) -> End:
    if isinstance(address, str):
        return End(*await asyncio.open_unix_connection(address))
    return End(*await asyncio.open_connection(*address))
