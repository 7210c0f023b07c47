"""The streams of the pages: one SSE connection per open page, every frame encoded once for all that show it.

Owns the newest frame of each part of each page and who listens; never reads a table. A client that falls
behind loses old states of a part, never its newest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import anyio
import msgspec
import structlog

from coldharbour.hookspecs import Cells
from coldharbour.web.guard import Receive, Scope, Send

HEARTBEAT_S = 10.0  # a comment when nothing else was sent, so that proxies and dead connections show
SEND_LIMIT_S = 5.0  # a client that takes nothing for so long is let go
HEARTBEAT = b": hb\n\n"

log = structlog.get_logger(__name__)


class Full(Exception):
    """As many pages are open as the installation serves at once."""


def html_frame(part: str, html: str) -> bytes:
    """Frame the new HTML of the element with the id `part`.

    Lines end in LF: a CRLF that is split over two packets ends the event early in the browser's parser.
    """
    return message(partial(part, html))


def partial(part: str, html: str, swap: str = "outerMorph") -> str:
    """Return HTML that the page morphs into the place of the element with the id `part`, or puts beside it."""
    return f'<hx-partial hx-target="#{part}" hx-swap="{swap}">{html}</hx-partial>'


def json_frame(event: str, value: object) -> bytes:
    """Frame a named event whose data is JSON; the page's own script listens for it."""
    return message(msgspec.json.encode(value).decode(), event)


def message(text: str, event: str = "") -> bytes:
    """Return one server-sent event."""
    name = f"event: {event}\n" if event else ""
    return (name + "".join(f"data: {line}\n" for line in text.replace("\r", "").split("\n")) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Change:
    """What makes the newest state of a part out of the one before it. rows: the elements that it replaces."""

    html: str
    rows: Collection[str]


class Patch:
    """Cells of a part, and the frame that carries them, which is encoded once and only if somebody takes it."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The named event that brings the cells to a page."""
        if self._frame is None:
            self._frame = json_frame("px", self.cells)
        return self._frame

    def under(self, newer: Cells) -> Patch:
        """Return these cells with newer ones over them."""
        merged = dict(self.cells)
        for row, cells in newer.items():
            merged[row] = {**merged.get(row, {}), **cells}
        return Patch(merged)

    def without(self, rows: Collection[str]) -> Patch:
        """Return these cells but for those of some rows."""
        return Patch({row: cells for row, cells in self.cells.items() if row not in rows})


@dataclass(eq=False)
class Client:
    """One open page: what it has not been sent yet, the newest of each part, and of each cell within a part."""

    pending: dict[str, bytes]
    cells: dict[str, Patch]
    woken: anyio.Event = field(default_factory=anyio.Event)
    ended: bool = False
    sending_since: float | None = None  # by the loop's clock; None while nothing is on its way

    def wake(self) -> None:
        self.woken.set()

    def put(self, part: str, frame: bytes, change: Change | None = None) -> bool:
        """Take a part's new state, which has its newest cells in it; say whether an older one was not sent yet.

        change: what is enough for a page that has the state before it.
        """
        cells = self.cells.pop(part, None)
        is_late = self.pending.pop(part, None) is not None
        if change is None or is_late:
            self.pending[part] = frame
        else:
            if change.html:
                self.pending[part] = message(change.html)
            if cells is not None:
                self.cells[part] = cells.without(change.rows)
        self.wake()
        return is_late

    def patch(self, part: str, patch: Patch) -> None:
        """Take new cells of a part; those that were not sent yet are replaced."""
        waiting = self.cells.get(part)
        self.cells[part] = patch if waiting is None else waiting.under(patch.cells)
        self.wake()

    def take(self) -> bytes:
        """Return everything that is waiting, the parts before their cells."""
        chunk = b"".join([*self.pending.values(), *(patch.frame for patch in self.cells.values())])
        self.pending.clear()
        self.cells.clear()
        return chunk

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what is pending as one piece, or a heartbeat when it is silent, until ended."""
        while not self.ended:
            if self.pending or self.cells:
                yield self.take()
                continue
            self.woken = anyio.Event()
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
        self._cells: defaultdict[str, dict[str, Patch]] = defaultdict(dict)  # newer than the parts that they stand in
        self._clients: defaultdict[str, set[Client]] = defaultdict(set)
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def publish(self, pages: Iterable[str], part: str, frame: bytes, change: Change | None = None) -> None:
        """Give these pages the new state of a part; the state they already have is not sent again.

        change: what is enough for those that have the state before it.
        """
        for page in pages:
            if self._newest[page].get(part) == frame and not (change and change.html):
                continue
            self._newest[page][part] = frame
            self._cells[page].pop(part, None)
            for client in self._clients[page]:
                self.dropped += client.put(part, frame, change)

    def patch(self, page: str, part: str, cells: Cells) -> None:
        """Give a page new cells of a part; each cell's newest state is what counts."""
        patch, known = Patch(cells), self._cells[page].get(part)
        self._cells[page][part] = patch if known is None else known.under(cells)
        for client in self._clients[page]:
            client.patch(part, patch)

    @contextmanager
    def connect(self, page: str) -> Iterator[Client]:
        """Add a page, which starts with the newest state of every part. Raises Full."""
        if self._closed or len(self) >= self.limit:
            self.refused += 1
            raise Full
        client = Client(dict(self._newest[page]), dict(self._cells[page]))
        self._clients[page].add(client)
        try:
            yield client
        finally:
            self._clients[page].discard(client)

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
                    tasks.start_soon(self._watch, client, tasks.cancel_scope)
                    await self._pump(client, send)
                    tasks.cancel_scope.cancel()
        except Full:
            await _start(send, 503, b"text/plain; charset=utf-8", (b"retry-after", b"5"))
            await send({"type": "http.response.body", "body": b"too many open pages: close one"})

    async def _pump(self, client: Client, send: Send) -> None:
        async for chunk in client.chunks():
            client.sending_since = anyio.current_time()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            client.sending_since = None
            self.sent += 1
        await send({"type": "http.response.body", "body": b""})

    async def _watch(self, client: Client, scope: anyio.CancelScope) -> None:
        """Let a client go that takes nothing; looking now and then is cheaper than a limit on every send."""
        while True:
            await anyio.sleep(SEND_LIMIT_S / 4)
            if client.sending_since is not None and anyio.current_time() - client.sending_since > SEND_LIMIT_S:
                break
        self.slow += 1
        log.warning("web.slow_client", limit_s=SEND_LIMIT_S)
        scope.cancel()


async def _start(send: Send, status: int, content_type: bytes, header: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type), header]})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
