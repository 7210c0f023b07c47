"""The streams of the pages: one SSE connection per open page, every frame encoded once for all that show it.

Owns the newest frame of each part of each page and who listens; never reads a table. A client that falls
behind loses old states of a part, never its newest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import anyio
import msgspec
import structlog

from coldharbour.web.guard import Receive, Scope, Send

HEARTBEAT_S = 10.0  # a comment when nothing else was sent, so that proxies and dead connections show
SEND_LIMIT_S = 5.0  # a client that takes nothing for so long is let go
HEARTBEAT = b": hb\n\n"

log = structlog.get_logger(__name__)


class Full(Exception):
    """As many pages are open as the installation serves at once."""


def html_frame(part: str, html: str) -> bytes:
    """Frame the new HTML of the element with the id `part`; the page morphs it into place.

    Lines end in LF: a CRLF that is split over two packets ends the event early in the browser's parser.
    """
    return message(f'<hx-partial hx-target="#{part}" hx-swap="outerMorph">{html}</hx-partial>')


def json_frame(event: str, value: object) -> bytes:
    """Frame a named event whose data is JSON; the page's own script listens for it."""
    return message(msgspec.json.encode(value).decode(), event)


def message(text: str, event: str = "") -> bytes:
    """Return one server-sent event."""
    name = f"event: {event}\n" if event else ""
    return (name + "".join(f"data: {line}\n" for line in text.replace("\r", "").split("\n")) + "\n").encode()


@dataclass(eq=False)
class Client:
    """One open page: the frames it has not been sent yet, the newest of each part."""

    pending: dict[str, bytes]
    woken: anyio.Event = field(default_factory=anyio.Event)
    ended: bool = False

    def wake(self) -> None:
        self.woken.set()
        self.woken = anyio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what is pending as one piece, or a heartbeat when it is silent, until ended."""
        while not self.ended:
            if self.pending:
                chunk = b"".join(self.pending.values())
                self.pending.clear()
                yield chunk
                continue
            with anyio.move_on_after(HEARTBEAT_S) as silence:
                await self.woken.wait()
            if silence.cancelled_caught:
                yield HEARTBEAT


class Streams:
    """Every open page, and what a new one is sent first. A page is named by its account, "" is the overview."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sent = self.dropped = self.refused = self.slow = 0
        self._newest: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._clients: defaultdict[str, set[Client]] = defaultdict(set)
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def publish(self, pages: Iterable[str], part: str, frame: bytes) -> None:
        """Give these pages the new state of a part; the state they already have is not sent again."""
        for page in pages:
            if self._newest[page].get(part) == frame:
                continue
            self._newest[page][part] = frame
            for client in self._clients[page]:
                self.dropped += client.pending.pop(part, None) is not None
                client.pending[part] = frame
                client.wake()

    @contextmanager
    def connect(self, page: str) -> Iterator[Client]:
        """Add a page, which starts with the newest state of every part. Raises Full."""
        if self._closed or len(self) >= self.limit:
            self.refused += 1
            raise Full
        client = Client(dict(self._newest[page]))
        self._clients[page].add(client)
        try:
            yield client
        finally:
            self._clients[page].discard(client)

    def snapshot(self, page: str) -> bytes:
        """Return the newest state of every part of a page, as a new stream would begin."""
        return b"".join(self._newest[page].values())

    def close(self) -> None:
        """End every stream, and let none begin."""
        self._closed = True
        for client in chain.from_iterable(self._clients.values()):
            client.ended = True
            client.wake()

    async def serve(self, page: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI) with a page's stream, until the page goes or the server ends."""
        try:
            with self.connect(page) as client:
                await _start(send, 200, b"text/event-stream", (b"x-accel-buffering", b"no"))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                    await self._pump(client, send, scope)
                    tasks.cancel_scope.cancel()
        except Full:
            await _start(send, 503, b"text/plain; charset=utf-8", (b"retry-after", b"5"))
            await send({"type": "http.response.body", "body": b"too many open pages: close one"})

    async def _pump(self, client: Client, send: Send, scope: Scope) -> None:
        try:
            async for chunk in client.chunks():
                with anyio.fail_after(SEND_LIMIT_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.sent += 1
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            self.slow += 1
            log.warning("web.slow_client", client=str(scope.get("client")), limit_s=SEND_LIMIT_S)


async def _start(send: Send, status: int, content_type: bytes, header: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type), header]})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
