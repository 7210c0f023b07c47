"""The `trade_updates` websocket: handshake, one seat per account, frames and their faults; invents no event.

What the faults do to a frame happens on its way to the client only: the account's truth never hears of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.abc
import msgspec
import structlog
from litestar.types import Receive, Scope, Send

from .account import SimulatedAccount
from .broker import SimulatedBroker
from .connections import Connections
from .faults import FaultBoard, Switches

QUIET_S = 0.1  # a shuffled event waits at most about this long for company

log = structlog.get_logger(__name__)


class Drop(Protocol):
    """How to cut one client's connection: in the middle of everything, or `hard` with RST."""

    def __call__(self, *, hard: bool = False) -> None: ...


class Mangler:
    """Turns one account's events into the frames that are sent, one or more or none each."""

    def __init__(self, board: FaultBoard, account: str) -> None:
        self._board = board
        self._account = account
        self._waiting: list[bytes] = []

    def feed(self, data: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the frames to send now, for an event that just happened."""
        accounts = self._board.switches.stream_accounts
        if accounts and self._account not in accounts:
            yield _frame(data)
            return
        for frame in self._altered(data):
            yield from self._shuffled(frame)

    def flush(self) -> Iterator[bytes]:
        """Yield what the shuffle still holds."""
        self._board.random("stream").shuffle(self._waiting)
        while self._waiting:
            yield self._waiting.pop()

    def _altered(self, data: Mapping[str, Any]) -> Iterator[bytes]:
        board = self._board
        if board.hits("stream_lose_rate"):
            return
        if board.hits("stream_unknown_event_rate"):
            data = {**data, "event": "teleported"}
        if board.hits("stream_unknown_status_rate"):
            data = {**data, "order": {**data["order"], "status": "levitating"}}
        if board.hits("stream_missing_field_rate"):
            lost = board.random("stream").choice(sorted(data["order"]))
            data = {**data, "order": {name: value for name, value in data["order"].items() if name != lost}}
        frame = _frame(data)
        if board.hits("stream_malformed_rate"):
            frame = frame[: len(frame) // 2]
        yield frame
        if board.hits("stream_duplicate_rate"):
            yield from [frame] * board.random("stream").randint(1, board.switches.stream_duplicate_max)
        if board.hits("stream_conflict_rate"):
            yield _frame({**data, "qty": "987654", "order": {**data["order"], "filled_qty": "987654"}})

    def _shuffled(self, frame: bytes) -> Iterator[bytes]:
        self._waiting.append(frame)
        while len(self._waiting) > self._board.switches.stream_reorder_window:
            yield self._waiting.pop(self._board.random("stream").randrange(len(self._waiting)))


class Seat:
    """One client that is logged in: a bounded queue of frames, emptied by its own task."""

    def __init__(self, account: str, drop: Drop, queue_frames: int) -> None:
        self.account = account
        self.drop = drop
        self._queue_frames = queue_frames
        self.listens = False
        self.is_mute = False
        self._sender, self.frames = anyio.create_memory_object_stream[bytes](queue_frames)

    def offer(self, frame: bytes) -> None:
        """Queue a frame; a client that is too slow is disconnected instead."""
        try:
            self._sender.send_nowait(frame)
        except anyio.WouldBlock:
            log.warning("simulator.slow_client", account=self.account, waiting=self._queue_frames)
            self.listens = False
            self.drop(hard=True)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self.listens = False  # its client left in this very moment

    def close(self) -> None:
        """End the queue and forget what is in it."""
        self.listens = False
        self._sender.close()
        self.frames.close()


class Feed:
    """One account's events on their way to its seats; encoded once, whoever listens."""

    def __init__(self, board: FaultBoard, account: SimulatedAccount) -> None:
        self.account = account.slug
        self.seats: list[Seat] = []
        self._board = board
        self._mangler = Mangler(board, account.slug)
        self._is_busy = False

    def publish(self, data: Mapping[str, Any]) -> None:
        """Send one event to everyone who listens; nothing is kept for those who come later."""
        self._is_busy = True
        if any(seat.listens for seat in self.seats):
            self._deliver(self._mangler.feed(data))

    def flush_when_quiet(self) -> None:
        """Let go of shuffled events once nothing new has come since the last call."""
        if not self._is_busy:
            self._deliver(self._mangler.flush())
        self._is_busy = False

    def _deliver(self, frames: Iterator[bytes]) -> None:
        for frame in frames:
            for seat in self.seats:
                if seat.listens and not self._mutes(seat):
                    seat.offer(frame)

    def _mutes(self, seat: Seat) -> bool:
        now = self._board.switches
        return seat.is_mute or (now.stream_mute and (not now.stream_accounts or self.account in now.stream_accounts))


class TradeUpdates:
    """The ASGI endpoint `/stream` and the feeds behind it."""

    def __init__(self, broker: SimulatedBroker, board: FaultBoard, connections: Connections) -> None:
        self._broker = broker
        self._board = board
        self._connections = connections
        self._feeds = {slug: Feed(board, account) for slug, account in broker.accounts.items()}

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Carry the accounts' events to the feeds until cancelled."""
        self._board.on_change(self._act_now)
        with ExitStack() as stack:
            for slug, account in self._broker.accounts.items():
                stack.callback(account.listen(self._feeds[slug].publish))
            task_status.started()
            while True:
                await anyio.sleep(QUIET_S)
                for feed in self._feeds.values():
                    feed.flush_when_quiet()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket, from the upgrade to its end."""
        await receive()
        status = self._board.switches.stream_refuse_status if self._board.refuses_streams() else 0
        if scope["path"].rstrip("/") != "/stream":
            await _reject(send, 404, "not found")
        elif status not in {0, 401}:
            self._board.count("stream_refuse_s")
            await _reject(send, status, "too many requests" if status == 429 else "refused")
        else:
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            try:
                await Session(self, self._board, receive, send, partial(self._connections.drop, scope)).run()
            except OSError:  # how the server reports a peer that went away in the middle of a frame
                log.debug("simulator.stream_lost")

    def log_in(self, key_id: str, secret: str, drop: Drop) -> Seat | str:
        """Return a seat at the account's feed, or the status that explains why not."""
        account = self._broker.account_for(key_id, secret)
        if account is None or self._board.refuses_streams():
            return "unauthorized"
        feed = self._feeds[account.slug]
        policy = self._board.switches.stream_second
        if feed.seats and policy == "refuse":
            return "exceeded"
        if policy == "replace":
            for other in feed.seats:
                other.drop(hard=True)
        seat = Seat(account.slug, drop, self._board.switches.stream_queue_frames)
        feed.seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give a seat back."""
        seat.close()
        self._feeds[seat.account].seats.remove(seat)

    def _act_now(self, switches: Switches) -> None:
        accounts = switches.stream_accounts or list(self._feeds)
        for seat in [seat for slug in accounts if slug in self._feeds for seat in self._feeds[slug].seats]:
            if switches.stream_drop_now:
                self._board.count("stream_drop_now")
                seat.drop(hard=True)
            if switches.stream_mute_now:
                self._board.count("stream_mute_now")
                seat.is_mute = True


class Session:
    """The conversation with one client; the server says nothing until it is spoken to."""

    def __init__(
        self,
        updates: TradeUpdates,
        board: FaultBoard,
        receive: Receive,
        send: Send,
        drop: Drop,
    ) -> None:
        self._updates = updates
        self._board = board
        self._receive = receive
        self._send = send
        self._drop = drop

    async def run(self) -> None:
        """Log in, then serve the seat until the client leaves."""
        async for request in self._requests():
            key_id, secret = _credentials(request)
            if key_id is None:
                await self._answer_login("unauthorized", str(request.get("action")))
                continue
            seat = self._updates.log_in(key_id, secret, self._drop)
            if isinstance(seat, Seat):
                await self._serve(seat)
                return
            await self._answer_login(seat, "authenticate")
            if seat == "exceeded":
                await self._send({"type": "websocket.close", "code": 1008, "reason": "connection limit"})
                return

    async def _serve(self, seat: Seat) -> None:
        try:
            await self._answer_login("authorized", "authenticate")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pour, seat)
                async for request in self._requests():
                    self._listen(seat, request)
                tasks.cancel_scope.cancel()
        finally:
            self._updates.leave(seat)

    async def _pour(self, seat: Seat) -> None:
        """Send a seat's frames, resetting the connection where a fault says so."""
        sent = 0
        async for frame in seat.frames:
            try:
                await self._send(self._message(frame))
            except OSError:  # the client went away in the middle of a frame
                log.debug("simulator.stream_lost", account=seat.account)
                return
            sent += 1
            if sent == self._board.switches.stream_drop_every:
                self._board.count("stream_drop_every")
                seat.drop()  # with an end, so that exactly this many frames arrive

    def _listen(self, seat: Seat, request: Mapping[str, Any]) -> None:
        """Each `listen` replaces the list; streams that do not exist are left out of the reply."""
        if request.get("action") != "listen":
            return
        wanted = (request.get("data") or {}).get("streams") or []
        streams = [name for name in wanted if name == "trade_updates"]
        # The reply takes its place in the queue before any event does, and nothing happens in between.
        seat.offer(msgspec.json.encode({"stream": "listening", "data": {"streams": streams}}))
        seat.listens = bool(streams)

    async def _requests(self) -> Any:
        """Yield the client's messages until it leaves; one that is no JSON object ends the conversation."""
        while (message := await self._receive())["type"] == "websocket.receive":
            try:
                request = msgspec.json.decode(message.get("bytes") or message.get("text") or "")
            except msgspec.DecodeError:
                request = None
            if not isinstance(request, dict):
                fatal = {"action": "error", "data": {"error_message": "invalid message"}}
                await self._send(self._message(msgspec.json.encode(fatal)))
                await self._send({"type": "websocket.close", "code": 1003, "reason": "invalid message"})
                return
            yield request

    async def _answer_login(self, status: str, action: str) -> None:
        data = {"status": status, "action": action}
        await self._send(self._message(msgspec.json.encode({"stream": "authorization", "data": data})))

    def _message(self, frame: bytes) -> Any:
        if self._board.switches.stream_text_frames:
            return {"type": "websocket.send", "text": frame.decode(errors="replace"), "bytes": None}
        return {"type": "websocket.send", "bytes": frame, "text": None}


def _credentials(request: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return key and secret of either form of login, None for a message that is no login."""
    if request.get("action") == "authenticate":
        data = request.get("data") or {}
        return str(data.get("key_id", "")), str(data.get("secret_key", ""))
    if request.get("action") == "auth":
        return str(request.get("key", "")), str(request.get("secret", ""))
    return None, ""


def _frame(data: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"stream": "trade_updates", "data": data})


async def _reject(send: Send, status: int, message: str) -> None:
    body = msgspec.json.encode({"message": message})
    headers = [(b"content-type", b"application/json")]
    start: Any = {"type": "websocket.http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
