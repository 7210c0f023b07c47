"""The routes that people and browsers ask for: the overview, the dashboards, their parts, streams and static files."""

from __future__ import annotations

from datetime import date
from typing import Any

from litestar import MediaType, Request, Response, asgi, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.handlers import ASGIRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.types import Receive, Scope, Send

from coldharbour.web.assets import ASK_AGAIN, FOR_EVER, Assets
from coldharbour.web.board import OVERVIEW, Board
from coldharbour.web.contexts import Account

BROWSE_LIMIT_S = 5.0
MOST_PAGES = 1_000_000  # of a panel; no table is longer


@get("/", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def overview(state: State) -> str:
    """Return the page of all accounts as they are now; its stream keeps it current."""
    board: Board = state.board
    return board.fragments.overview(board.accounts.values(), board.parts[OVERVIEW])


@get("/{slug:str}", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def dashboard(state: State, slug: FromPath[str]) -> str:
    """Return the page of one account as it is now; its stream keeps it current."""
    board: Board = state.board
    return board.fragments.dashboard(_account(board, slug), board.panels, board.parts[slug])


@get("/stream/partials", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def overview_partials(state: State) -> str:
    """Return every part of the overview, for a page that polls."""
    board: Board = state.board
    return board.fragments.everything(board.parts[OVERVIEW])


@get("/{slug:str}/partials", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def partials(state: State, slug: FromPath[str]) -> str:
    """Return every part of an account's page, for a page that polls."""
    board: Board = state.board
    return board.fragments.everything(board.parts[_account(board, slug).slug])


@get("/{slug:str}/partials/{part:str}", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def partial(state: State, slug: FromPath[str], part: FromPath[str]) -> str:
    """Return one part of an account's page as it is now: a panel by its key, or another part by its name."""
    board: Board = state.board
    parts = board.parts[_account(board, slug).slug]
    for name in (f"panel-{part}-{slug}", f"{part}-{slug}"):
        if name in parts:
            return parts[name]
    raise NotFoundException


@get("/{slug:str}/panels/{key:str}", include_in_schema=False, media_type=MediaType.HTML)
async def panel_page(
    state: State, slug: FromPath[str], key: FromPath[str], page: FromQuery[int] = 1, day: FromQuery[date | None] = None
) -> str:
    """Return a page of everything that a panel has, or has of one day; the dashboard shows the newest."""
    board: Board = state.board
    account = _account(board, slug)
    panel = next((panel for panel in board.panels if panel.key == key), None)
    if panel is None or panel.browse is None or not 1 <= page <= MOST_PAGES:
        raise NotFoundException
    async with board.ctx.db.transaction(timeout_s=BROWSE_LIMIT_S) as conn:
        context = await panel.browse(conn, slug, page, day)
    return board.fragments.panel_page(account, panel, board.fragments.panel(panel, slug, context), board.parts[slug])


def _account(board: Board, slug: str) -> Account:
    if slug not in board.accounts:
        raise NotFoundException
    return board.accounts[slug]


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


def stream_of(board: Board, page: str) -> ASGIRouteHandler:
    """Return the route of a page's server-sent events: everything first, and then what changes."""

    @asgi(f"/{page}/stream/events" if page else "/stream/events", copy_scope=True)
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await board.streams.serve(page, scope, receive, send)

    return stream


ROUTES = (overview, overview_partials, dashboard, partials, partial, panel_page, static)
