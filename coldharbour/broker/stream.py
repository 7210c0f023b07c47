"""The trade_updates websocket: connected, authenticated and listening, then every frame as it came.

Owns one connection from handshake to loss. Never reconnects and never drops a frame: what it cannot read is
handed on as bytes with the problem named. Source: Alpaca API, trade_updates.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import anyio
import msgspec
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from coldharbour.broker.address import is_loopback, user_agent
from coldharbour.broker.budget import retry_after_s
from coldharbour.broker.model import TradeUpdate
from coldharbour.broker.refusals import KeysRefused, refusal
from coldharbour.broker.translate import Malformed, trade_update
from coldharbour.clock import Clock
from coldharbour.errors import Transient

STREAM: Final = "trade_updates"
MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
BUFFERED_FRAMES: Final = 4096
CLOSE_S: Final = 1.0
HEARTBEAT: Final = b"\x01"
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# The library prints whole frames at DEBUG, and the first frame holds the secret.
_QUIET: Final = logging.getLogger(f"{__name__}.websocket")
_QUIET.setLevel(logging.INFO)


class StreamLost(Transient):
    """The stream is not there, or not any more; what was missed must be read from REST.

    reason: refused, handshake_timeout, ping_timeout, error_frame, or closed.
    """

    def __init__(self, reason: str, detail: str, *, retry_after_s: float | None = None) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"trade_updates lost ({reason}): {detail}", retry_after_s=retry_after_s)


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One frame as it came. update: its event, None for other streams and for what cannot be read.

    received_at: when it left the socket. connection: names the connection it came over. problem: why the
    frame cannot be read, None for every readable one.
    """

    received_at: datetime
    connection: str
    raw: bytes
    update: TradeUpdate | None = None
    problem: str | None = None


class _Head(msgspec.Struct):
    """What tells one kind of frame from another."""

    stream: str | None = None
    action: str | None = None


class _Reply(msgspec.Struct):
    """A control frame of the handshake."""

    data: dict[str, Any]
    stream: str | None = None


class _Connect(connect):
    """A connection that follows no redirect: the next frame would hand the keys to another host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class TradeUpdates:
    """The frames of one listening connection, in the order of their arrival; for one reader."""

    def __init__(self, socket: ClientConnection, clock: Clock) -> None:
        self.connection = str(uuid4())
        self._socket, self._clock = socket, clock
        self._arrived, self._frames = anyio.create_memory_object_stream[Frame](BUFFERED_FRAMES)
        self._reader: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """Yield frame after frame. Raises StreamLost after the last one."""
        async for batch in self.batches(max_size=1):
            yield batch[0]

    async def batches(self, *, max_size: int = 500) -> AsyncIterator[tuple[Frame, ...]]:
        """Yield every frame that is already here, at most `max_size` at once, never waiting to fill one.

        Raises StreamLost after the last frame.
        """
        while True:
            try:
                first = await self._frames.receive()
            except anyio.EndOfStream:
                break
            yield (first, *self.drain(max_size=max_size - 1))
        if self._reader is not None:
            await self._reader  # raises what ended it

    def drain(self, *, max_size: int = 500) -> tuple[Frame, ...]:
        """Return the frames that are already here, at most `max_size`, possibly none."""
        frames: list[Frame] = []
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            while len(frames) < max_size:
                frames.append(self._frames.receive_nowait())
        return tuple(frames)

    @asynccontextmanager
    async def _reading(self, early: Sequence[bytes]) -> AsyncIterator[None]:
        """Read the socket in the background, so that arrival is stamped and pongs are seen in any case.

        A plain task, since a task group would wrap the caller's own errors in a group.
        """
        self._reader = asyncio.create_task(self._read(early))
        try:
            yield
        finally:
            self._reader.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._reader])
            if not self._reader.cancelled():
                self._reader.exception()  # seen by the reader of the frames, or of no interest to anyone now
            self._frames.close()

    async def _read(self, early: Sequence[bytes]) -> None:
        with self._arrived:
            for raw in early:
                await self._arrived.send(self._frame(raw))
            try:
                while True:
                    await self._arrived.send(self._frame(await self._socket.recv(decode=False)))
            except ConnectionClosed as exc:
                raise _closed(exc) from exc

    def _frame(self, raw: bytes) -> Frame:
        """Return what a frame holds; a frame that cannot be read is one with a problem."""
        update, problem = None, None
        try:
            if _is_for_us(raw):
                update = trade_update(raw)
        except Malformed as exc:
            problem = exc.reason
        return Frame(
            received_at=self._clock.now(),
            connection=self.connection,
            raw=raw,
            update=update,
            problem=problem,
        )


@asynccontextmanager
async def open_trade_updates(
    url: str,
    key_id: str,
    secret: SecretStr,
    *,
    clock: Clock,
    slug: str = "<slug>",
    ping_interval_s: float = 10,
    ping_timeout_s: float = 10,
    handshake_timeout_s: float = 5,
) -> AsyncIterator[TradeUpdates]:
    """Connect, authenticate, listen, and hand over the frames; inside the block nothing new is missed.

    handshake_timeout_s bounds all of it. A silent connection is lost after at most ping_interval_s plus
    ping_timeout_s, the attempt to close it included; so is one whose frames nobody takes, once the buffer is
    full. slug names the account in the hint about refused keys. Raises StreamLost (Transient) or KeysRefused
    (NeedsOperator).
    """
    deadline = anyio.current_time() + handshake_timeout_s
    close_s = min(CLOSE_S, ping_timeout_s / 10)
    with _handshake(deadline, slug, clock):
        socket = await _Connect(
            url,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            ping_interval=ping_interval_s,
            ping_timeout=ping_timeout_s - close_s,
            close_timeout=close_s,
            open_timeout=None,
            user_agent_header=user_agent(),
            proxy=None if is_loopback(url) else True,
            logger=_QUIET,
        )
    try:
        with _handshake(deadline, slug, clock):
            early = await _listen(socket, key_id, secret, slug)
        updates = TradeUpdates(socket, clock)
        async with updates._reading(early):
            yield updates
    finally:
        with anyio.move_on_after(5, shield=True):
            await socket.close()


async def _listen(socket: ClientConnection, key_id: str, secret: SecretStr, slug: str) -> list[bytes]:
    """Authenticate and subscribe; return the frames that came before the broker confirmed."""
    early: list[bytes] = []
    keys = {"key_id": key_id, "secret_key": secret.get_secret_value()}
    await _say(socket, "authenticate", keys)
    await _answered(socket, "authorization", slug, early)
    await _say(socket, "listen", {"streams": [STREAM]})
    listening = await _answered(socket, "listening", slug, early)
    if STREAM not in (listening.get("streams") or ()):
        raise StreamLost("refused", f"the broker listens to {listening.get('streams')}, not to {STREAM}")
    return early


async def _say(socket: ClientConnection, action: str, body: dict[str, Any]) -> None:
    await socket.send(msgspec.json.encode({"action": action, "data": body}).decode())


async def _answered(socket: ClientConnection, wanted: str, slug: str, early: list[bytes]) -> dict[str, Any]:
    """Return the data of the control frame that is waited for; other frames are kept in `early`."""
    while True:
        raw = await socket.recv(decode=False)
        reply = _control(raw)
        if reply is None or reply.stream not in {wanted, "authorization"}:
            early.append(raw)
            continue
        if reply.stream == "authorization":
            _check_authorized(reply.data, slug)
        if reply.stream == wanted:
            return reply.data


def _check_authorized(data: dict[str, Any], slug: str) -> None:
    status = data.get("status")
    if status == "unauthorized":
        raise KeysRefused(slug, status=401, message=str(data.get("message") or status))
    if status != "authorized":
        raise StreamLost("refused", f"authorization says {status!r}")


def _control(raw: bytes) -> _Reply | None:
    """Return a control frame, None for any other. Raises StreamLost for the broker's error frame."""
    try:
        _is_for_us(raw)
        return msgspec.json.decode(raw, type=_Reply)
    except (Malformed, *UNREADABLE):
        return None


def _is_for_us(raw: bytes) -> bool:
    """Whether a frame is of our stream. Raises Malformed, and StreamLost for the broker's error frame."""
    if raw == HEARTBEAT:
        return False
    try:
        head = msgspec.json.decode(raw, type=_Head)
    except UNREADABLE as exc:
        raise Malformed(raw, str(exc)) from exc
    if head.stream is None and head.action == "error":
        raise StreamLost("error_frame", raw[:300].decode("utf-8", "replace"))
    if head.stream is None:
        raise Malformed(raw, "names no stream")
    return head.stream == STREAM


@contextmanager
def _handshake(deadline: float, slug: str, clock: Clock) -> Iterator[None]:
    """Bound one part of the handshake by the common deadline, and translate what ends it."""
    try:
        with anyio.fail_after(deadline - anyio.current_time()):
            yield
    except TimeoutError as exc:
        raise StreamLost("handshake_timeout", "the broker did not finish the handshake in time") from exc
    except InvalidStatus as exc:
        raise _not_upgraded(exc, slug, clock.now()) from exc
    except ConnectionClosed as exc:
        raise _closed(exc) from exc
    except (OSError, InvalidHandshake) as exc:
        raise StreamLost("refused", str(exc) or type(exc).__name__) from exc


def _not_upgraded(exc: InvalidStatus, slug: str, now: datetime) -> StreamLost | KeysRefused:
    answer = exc.response
    error = refusal(status=answer.status_code, body=bytes(answer.body or b""), slug=slug)
    if isinstance(error, KeysRefused):
        return error
    return StreamLost("refused", str(error), retry_after_s=retry_after_s(answer.headers, now))


def _closed(exc: ConnectionClosed) -> StreamLost:
    silent = exc.rcvd is None and exc.sent is not None and exc.sent.reason == "keepalive ping timeout"
    return StreamLost("ping_timeout" if silent else "closed", str(exc))
