"""What surrounds a REST answer: keys, rate limit, request id and injected faults; it decides no answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import anyio
import anyio.abc
import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from coldharbour.clock import Clock, SystemClock

from .broker import SimulatedAccount, SimulatedBroker
from .connections import Connections
from .faults import FaultBoard, Switches

WINDOW_S = 60.0
PAGE_TOKENS = {"page_token", "after_order_id", "before_order_id"}
CODES = {500: 50010000, 502: 50210000, 503: 50310000, 504: 50410000}
TEXTS = {500: "internal server error", 502: "bad gateway", 503: "unavailable", 504: "request timed out"}
HTML = "<html>\r\n<head><title>{0} {1}</title></head>\r\n<body><h1>{0} {1}</h1></body>\r\n</html>"


@dataclass(frozen=True)
class Request:
    """One request, read whole, so that it can be done later or twice."""

    scope: Scope
    body: bytes

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])  # type: ignore[typeddict-item]  # this layer sees no websocket

    @property
    def path(self) -> str:
        """The path, without arguments."""
        return self.scope["path"]

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """The query string's pairs."""
        return parse_qsl(self.scope["query_string"].decode(), keep_blank_values=True)

    def without_page_token(self) -> Request:
        """Return the request for the first page."""
        kept = [(name, value) for name, value in self.arguments if name not in PAGE_TOKENS]
        scope: Any = {**self.scope, "query_string": urlencode(kept).encode()}
        return replace(self, scope=scope)


@dataclass(frozen=True)
class Answer:
    """One answer, ready to send; `is_cut`: only half of its body arrives."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_cut: bool = False


SILENCE = Answer(0, (), b"")
"""The answer that is never sent."""


@dataclass
class Window:
    """The requests of one account in the running minute."""

    ends_s: float
    resets_at: int
    used: int = 0


class Wire:
    """The ASGI layer in front of the trading and data API."""

    def __init__(
        self,
        app: ASGIApp,
        broker: SimulatedBroker,
        board: FaultBoard,
        connections: Connections,
        tasks: anyio.abc.TaskGroup,
        *,
        closing: anyio.Event,
        clock: Clock | None = None,
    ) -> None:
        self._app = app
        self._broker = broker
        self._board = board
        self._connections = connections
        self._tasks = tasks
        self._closing = closing
        self._clock = clock or SystemClock()  # clients wait in real seconds
        self._windows: dict[str, Window] = {}
        self._let_go = anyio.Event()
        board.on_change(self._let_held_go)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, await _read_body(receive))
        account = self._account(scope)
        slug = account.slug if account else ""
        window = self._count(slug)
        if account is None:
            answer = _error(401, 40110000, "request is not authorized")
        elif window.used > self._board.switches.rest_limit_per_min:
            answer = self._too_many()
        else:
            scope["state"]["account"] = account
            answer = await self._serve(request, slug)
        if answer is SILENCE:
            await self._hang(scope, receive)
            return
        await anyio.sleep(self._board.switches.rest_delay_s)
        answer = replace(answer, headers=answer.headers + self._headers(window))
        await self._send(request, receive, send, answer)

    def _account(self, scope: Scope) -> SimulatedAccount | None:
        headers = dict(scope["headers"])
        key, secret = headers.get(b"apca-api-key-id", b""), headers.get(b"apca-api-secret-key", b"")
        return self._broker.account_for(key.decode("latin-1"), secret.decode("latin-1"))

    async def _serve(self, request: Request, slug: str) -> Answer:
        """Have the request done, with the faults that hit; SILENCE means never answer."""
        exposed = self._board.rest_may_hit(request.method, request.path, slug)
        if exposed and self._board.switches.rest_hold:
            await self._hold()

        def hit(name: str) -> bool:
            return exposed and self._board.hits_rest(name)

        if (instead := self._instead(request, hit)) is not None:
            return instead
        if PAGE_TOKENS & {name for name, _ in request.arguments} and hit("rest_repeat_page_rate"):
            request = request.without_page_token()
        answer = self._after(await self._do(request), hit)
        if answer is SILENCE:
            return SILENCE
        return replace(answer, is_cut=len(answer.body) > 1 and hit("rest_cut_rate"))

    def _instead(self, request: Request, hit: Callable[[str], bool]) -> Answer | None:
        """Return what is answered without doing the request now; None to go on and do it."""
        if hit("rest_429_rate"):
            return self._too_many()
        if hit("rest_error_rate"):
            return self._error()
        if hit("rest_late_effect_rate"):
            self._tasks.start_soon(self._do_later, request)
            return self._error()
        return SILENCE if hit("rest_hang_rate") else None

    def _after(self, answer: Answer, hit: Callable[[str], bool]) -> Answer:
        """Return what becomes of an answer once the request is done."""
        if hit("rest_error_after_effect_rate"):
            return self._error()
        if hit("rest_hang_after_effect_rate"):
            return SILENCE
        if answer.status == 200 and hit("rest_wrong_json_rate"):
            return _with_json(answer, {"unexpected": "shape"} if answer.body[:1] == b"[" else [42])
        if _is_page(answer) and hit("rest_partial_page_rate"):
            return _with_json(answer, _half(msgspec.json.decode(answer.body)))
        return answer

    async def _do(self, request: Request) -> Answer:
        """Have the API answer, and keep the answer instead of sending it."""
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def keep(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self._app(request.scope, receive, keep)
        return Answer(start["status"], tuple(start["headers"]), b"".join(parts))

    async def _do_later(self, request: Request) -> None:
        await anyio.sleep(self._board.switches.rest_late_effect_s)
        await self._do(request)

    def _let_held_go(self, switches: Switches) -> None:
        if not switches.rest_hold:
            self._let_go.set()
            self._let_go = anyio.Event()

    async def _hold(self) -> None:
        """Wait until requests are let go, whether or not the client still waits."""
        self._board.count("rest_hold")
        async with anyio.create_task_group() as tasks:
            for event in (self._let_go, self._closing):
                tasks.start_soon(_until_set, event, tasks.cancel_scope)

    async def _hang(self, scope: Scope, receive: Receive) -> None:
        """Say nothing until the client gives up or the simulator stops."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
            await self._closing.wait()
            self._connections.drop(scope)

    async def _send(self, request: Request, receive: Receive, send: Send, answer: Answer) -> None:
        body = answer.body[: len(answer.body) // 2] if answer.is_cut else answer.body
        await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
        await send({"type": "http.response.body", "body": body, "more_body": answer.is_cut})
        if answer.is_cut:
            self._connections.drop(request.scope)
            await _until_gone(receive)

    def _count(self, slug: str) -> Window:
        now_s = self._clock.monotonic()
        window = self._windows.get(slug)
        if window is None or window.ends_s <= now_s:
            resets_at = int(self._clock.now().timestamp() + WINDOW_S)
            window = self._windows[slug] = Window(now_s + WINDOW_S, resets_at)
        window.used += 1
        return window

    def _headers(self, window: Window) -> tuple[tuple[bytes, bytes], ...]:
        limit = self._board.switches.rest_limit_per_min
        return (
            (b"x-request-id", uuid.uuid4().hex.encode()),
            (b"x-ratelimit-limit", str(limit).encode()),
            (b"x-ratelimit-remaining", str(max(limit - window.used, 0)).encode()),
            (b"x-ratelimit-reset", str(window.resets_at).encode()),
        )

    def _too_many(self) -> Answer:
        answer = _error(429, 42910000, "rate limit exceeded")
        wait_s = self._board.switches.rest_retry_after_s
        if wait_s is None:
            return answer
        return replace(answer, headers=(*answer.headers, (b"retry-after", f"{wait_s:g}".encode())))

    def _error(self) -> Answer:
        switches = self._board.switches
        status = switches.rest_error_status
        if switches.rest_error_html:
            page = HTML.format(status, TEXTS[status].title()).encode()
            return _answer(status, b"text/html", page)
        return _error(status, CODES[status], TEXTS[status])


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message["body"]
        if not message["more_body"]:
            return body


async def _until_set(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _until_gone(receive: Receive, scope: anyio.CancelScope | None = None) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    if scope is not None:
        scope.cancel()


def _answer(status: int, kind: bytes, body: bytes) -> Answer:
    return Answer(status, ((b"content-type", kind), (b"content-length", str(len(body)).encode())), body)


def _error(status: int, code: int, message: str) -> Answer:
    return _answer(status, b"application/json", msgspec.json.encode({"code": code, "message": message}))


def _with_json(answer: Answer, value: object) -> Answer:
    return _answer(answer.status, b"application/json", msgspec.json.encode(value))


def _is_page(answer: Answer) -> bool:
    return answer.status == 200 and (answer.body[:1] == b"[" or b'"next_page_token"' in answer.body)


def _half(value: object) -> object:
    """Return a list without its second half; of a map of lists, each list so; all else untouched."""
    if isinstance(value, list):
        return value[: len(value) // 2]
    if isinstance(value, Mapping):
        return {key: _half(item) if isinstance(item, list | dict) else item for key, item in value.items()}
    return value
