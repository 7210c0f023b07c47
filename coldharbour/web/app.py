"""The web worker: binds the address, serves the pages in this process, and ends within a second.

Owns the server's life; the board owns what it shows, the door who may see it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from anyio.abc import TaskStatus
from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from pydantic import BaseModel

from coldharbour.access import access_problems
from coldharbour.accounts import SystemContext
from coldharbour.errors import BadConfig, NeedsOperator
from coldharbour.sections import WebSettings
from coldharbour.web import pages, probes
from coldharbour.web.access import login
from coldharbour.web.access.door import Door, open_door
from coldharbour.web.actions import routes as actions
from coldharbour.web.api import routes as api
from coldharbour.web.api.answers import Cache
from coldharbour.web.api.model import DESCRIPTION
from coldharbour.web.assets import Assets, load_assets
from coldharbour.web.board import Board
from coldharbour.web.events import SEND_LIMIT_S, Streams
from coldharbour.web.fragments import Fragments
from coldharbour.web.guard import Application, Guard
from coldharbour.web.lineage import page as lineage
from coldharbour.web.listings import downloads
from coldharbour.web.listings.downloads import Downloads

LAST_WORDS_S = 0.3  # at the end, what an open connection may take to receive the rest
BACKSTOP_S = 1


async def serve_web(
    ctx: SystemContext, _cfg: BaseModel, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve the pages at [web] host and port until cancelled.

    Raises BadConfig for an address that anybody could read or missing scripts, NeedsOperator for a port in use.
    """
    configuration, web = ctx.configuration, ctx.configuration.settings.web
    if problems := [*access_problems(configuration.file, web)]:
        raise BadConfig(problems)
    with bound_socket(web) as listening:
        assets = load_assets()
        streams = Streams(web.max_streams)
        fragments = Fragments(
            assets, actions=web.actions, login=web.auth.mode == "password", polls=web.disable_sse,
            cycles={kind for kind, worker in ctx.registry.workers.items() if worker.spec.every},
        )  # fmt: skip
        board = Board(ctx, fragments, streams)
        server = Server(create_app(board, assets, open_door(configuration, ctx.db, ctx.clock)), streams)
        async with anyio.create_task_group() as tasks:
            await tasks.start(board.run)
            tasks.start_soon(server.run_shielded, listening)
            try:
                await server.ready.wait()
                ctx.log.info("web.ready", url=url_of(listening))
                task_status.started()
                await anyio.sleep_forever()
            finally:
                server.should_exit = True


def create_app(board: Board, assets: Assets, door: Door) -> Application:
    """Return the whole application (ASGI), its door outermost."""
    streams = [pages.stream_of(board, page) for page in board.pages]
    application = Litestar(
        route_handlers=[
            *pages.ROUTES, *streams,
            probes.healthz, probes.readyz, probes.metrics,
            api.router, downloads.router, login.router, actions.router, lineage.trade,
        ],
        state=State(
            {
                "board": board,
                "assets": assets,
                "cache": Cache(),
                "downloads": Downloads(board.ctx.db.conninfo),
                "door": door,
            }
        ),
        openapi_config=OpenAPIConfig(
            title="Cold Harbour",
            version="1",
            description=DESCRIPTION,
            use_handler_docstrings=True,
            path="/schema",
            render_plugins=[JsonRenderPlugin(path="/")],
        ),
        logging_config=None,
    )  # fmt: skip
    return Guard(application, door)


class Server(uvicorn.Server):
    """uvicorn inside a worker: no signals of its own, and open streams do not hold up its end."""

    def __init__(self, application: Application, streams: Streams) -> None:
        self.ready = anyio.Event()
        self._streams = streams
        super().__init__(
            uvicorn.Config(
                application,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=BACKSTOP_S,
            )
        )

    async def run_shielded(self, listening: socket.socket) -> None:
        """Serve until `should_exit`; cancelling does not interrupt the orderly end."""
        with anyio.CancelScope(shield=True):
            await self.serve([listening])

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the kernel, which ends its workers by cancelling them."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the connections; one that takes nothing any more is cut."""
        self._streams.close()
        cutting = asyncio.get_running_loop().call_later(LAST_WORDS_S, self._cut)
        await super().shutdown(sockets)
        cutting.cancel()

    def _cut(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


@contextmanager
def bound_socket(web: WebSettings) -> Iterator[socket.socket]:
    """Bind the configured address, and close it after the block.

    Raises NeedsOperator if the port is taken or may not be bound.
    """
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:  # or asyncio leaves Nagle on
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: what a dead or frozen browser does not take is not kept
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_LIMIT_S * 1000))
        try:
            listening.bind((web.host, web.port))
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound ({error.strerror})"
            raise NeedsOperator(
                f"web.port: port {web.port} of {web.host} {what}",
                hint="end the program that holds it, or set another port there (the environment variable PORT wins)",
            ) from error
        listening.setblocking(False)
        yield listening


def url_of(listening: socket.socket) -> str:
    """Return the address of the pages as a browser wants it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
