"""The simulator as one process part: REST, websocket, prices and the broker's pulse in one task group.

Owns the sockets and their shutdown; what is said over them is decided elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio
import anyio.abc
import structlog
import uvicorn
from anyio import TASK_STATUS_IGNORED
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Scope, Send
from pydantic import ValidationError
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from coldharbour.errors import BadConfig
from coldharbour.sections import SimulatorSettings

from .account import SimulatedAccount
from .broker import SimulatedBroker
from .bursts import Bursts
from .connections import Connections
from .control import CONTROL, Proxies, only_this_machine, render_invalid, render_unknown_faults
from .faults import FaultBoard, UnknownFaultError
from .market_data import MARKET_DATA
from .prices import publishing_prices
from .query import Query
from .refusals import Refused
from .rest import TRADING, provide_account, provide_arguments, render_bug, render_http_error, render_refusal
from .stream import TradeUpdates
from .wire import Wire

STEP_S = 0.1
PING_S = 10.0  # a dead peer is found within twice this, and only then may its account connect again
LARGEST_MESSAGE_BYTES = 1_000_000
BACKLOG = 512

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SimulatorAddress:
    """Where a running simulator is reached."""

    host: str
    port: int
    price_endpoint: str

    @property
    def url(self) -> str:
        """Base URL of the trading and of the data API."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def stream_url(self) -> str:
        """URL of the trade_updates websocket."""
        return f"ws{self.url.removeprefix('http')}/stream"


async def serve_simulator(
    broker: SimulatedBroker,
    settings: SimulatorSettings,
    *,
    task_status: anyio.abc.TaskStatus[SimulatorAddress] = TASK_STATUS_IGNORED,
) -> None:
    """Serve the broker until cancelled; the started value says where (port 0 becomes a real one).

    Shutting down takes less than a second: websockets are closed, unanswered requests are dropped. The broker
    stays the caller's to close. Raises BadConfig if an address cannot be listened on.
    """
    board = FaultBoard(seed=settings.seed, quirks=broker.quirks)
    connections, closing = Connections(), anyio.Event()
    updates = TradeUpdates(broker, board, connections)
    with (
        publishing_prices(broker.market, board, settings.price_endpoint) as price_endpoint,
        _bind(settings) as listener,
    ):
        address = SimulatorAddress(settings.host, listener.getsockname()[1], price_endpoint)
        async with anyio.create_task_group() as tasks:
            bursts, proxies = Bursts(broker, tasks), Proxies(tasks, settings.seed, address.port)
            api = build_api(broker, board, bursts, proxies)
            wire = Wire(api, broker, board, connections, tasks, closing=closing)
            await tasks.start(updates.run)
            tasks.start_soon(_pulse, broker)
            async with Server(_compose(updates, wire, api), connections).running(listener, closing):
                log.info("simulator.ready", url=address.url, prices=address.price_endpoint)
                task_status.started(address)
                await anyio.sleep_forever()


@asynccontextmanager
async def running_simulator(broker: SimulatedBroker, settings: SimulatorSettings) -> AsyncIterator[SimulatorAddress]:
    """Serve the broker for the length of the block; for tests and programs that bring their own."""
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(serve_simulator, broker, settings)
        tasks.cancel_scope.cancel()


def build_api(broker: SimulatedBroker, board: FaultBoard, bursts: Bursts, proxies: Proxies) -> Litestar:
    """Return the Litestar app of all REST paths, the controls included."""
    given = {"broker": broker, "board": board, "bursts": bursts, "proxies": proxies}
    controls = Router("/", route_handlers=CONTROL, guards=[only_this_machine])
    return Litestar(
        [*TRADING, *MARKET_DATA, controls],
        dependencies={
            **{name: _constant(value) for name, value in given.items()},
            "account": Provide(provide_account, sync_to_thread=False),
            "arguments": Provide(provide_arguments, sync_to_thread=False),
        },
        signature_types=[SimulatedAccount, SimulatedBroker, FaultBoard, Bursts, Proxies, Query],
        exception_handlers={
            Refused: render_refusal,
            UnknownFaultError: render_unknown_faults,
            ValidationError: render_invalid,
            HTTPException: render_http_error,
            Exception: render_bug,
        },
        openapi_config=None,
        logging_config=None,
    )


class Server(uvicorn.Server):
    """uvicorn as a block: no signal handlers, ready when it says so, stopped when the block ends."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws=WebSocketsSansIOProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_max_size=LARGEST_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self.server_state = connections.state
        self._ready = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to whoever runs the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._ready.set()

    @asynccontextmanager
    async def running(self, listener: socket.socket, closing: anyio.Event) -> AsyncIterator[None]:
        """Serve for the length of the block; then `closing` is set, and what hangs lets go."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve_to_the_end, listener)
            try:
                await self._ready.wait()
                yield
            finally:
                closing.set()
                self.should_exit = True

    async def _serve_to_the_end(self, listener: socket.socket) -> None:
        with anyio.CancelScope(shield=True):  # it ends by should_exit, after its goodbyes
            await self.serve([listener])


def _compose(updates: TradeUpdates, wire: Wire, api: ASGIApp) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            await updates(scope, receive, send)
        elif scope["path"].startswith(("/v1/", "/v2/")):
            await wire(scope, receive, send)
        else:
            await api(scope, receive, send)

    return app


async def _pulse(broker: SimulatedBroker) -> None:
    while True:
        broker.step()
        await anyio.sleep(STEP_S)


def _constant(value: object) -> Provide:
    return Provide(lambda: value, use_cache=True, sync_to_thread=False)


def _bind(settings: SimulatorSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it answers wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        problem = f"[simulator] {settings.host}:{settings.port}: {error.strerror or error}"
        raise BadConfig([problem], hint="another simulator may be running, or choose another port") from error
    return listener
