"""The routes that people and browsers ask for: the overview, its stream and its static files."""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Request, Response, asgi, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.types import Receive, Scope, Send

from coldharbour.web.assets import ASK_AGAIN, FOR_EVER, Assets
from coldharbour.web.board import Board


@get("/", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def overview(state: State) -> str:
    """Return the page of all accounts as they are now; its stream keeps it current."""
    board: Board = state.board
    return board.fragments.overview(board.accounts, board.panels, board.parts)


@get("/static/{name:path}", include_in_schema=False, sync_to_thread=False)
def static(request: Request[Any, Any, State], state: State) -> Response[bytes]:
    """Return a static file; under its versioned address it may be kept for ever."""
    assets: Assets = state.assets
    asset = assets.get(request.path_params["name"].lstrip("/"))
    if asset is None:
        raise NotFoundException
    etag = f'"{asset.version}"'
    versioned = request.query_params.get("v") == asset.version
    headers = {"etag": etag, "cache-control": FOR_EVER if versioned else ASK_AGAIN}
    if request.headers.get("if-none-match") == etag:
        return Response(b"", status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.content_type, headers=headers)


@asgi("/stream/events", copy_scope=True)
async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the server-sent events of the overview, everything first and then what changes."""
    board: Board = scope["litestar_app"].state.board
    await board.streams.serve(scope, receive, send)
