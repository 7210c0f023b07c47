"""The routes of logging in and out with a password; plain forms that need no script."""

from __future__ import annotations

import secrets
from typing import Any

import structlog
from litestar import MediaType, Request, Response, Router, get, post
from litestar.datastructures import State

from coldharbour.web.access.door import FORM, SESSION, Asked, Door
from coldharbour.web.access.visitor import Visitor
from coldharbour.web.board import Board
from coldharbour.web.guard import asked_of

UNKNOWN = "(unknown)"  # all names that nobody has wait together, so that guessing them fills no memory

log = structlog.get_logger(__name__)


@get("/login", include_in_schema=False, sync_to_thread=False)
def login_page(request: Request[Visitor | None, Any, State], state: State) -> Response[str]:
    """Return the form; whoever is in already goes on to where they wanted."""
    door: Door = state.door
    after = safe_path(request.query_params.get("next", "/"))
    if door.auth.mode != "password" or request.user is not None:
        return seen(after)
    asked = asked_of(request.scope)
    stranger = asked.cookies.get(door.cookie_name(FORM, asked.host)) or secrets.token_urlsafe(16)
    page = _form(state, f"stranger {stranger}", after)
    page.headers["set-cookie"] = door.set_cookie(FORM, asked.host, stranger)
    return page


@post("/login", include_in_schema=False)
async def log_in(request: Request[Visitor | None, Any, State], state: State) -> Response[str]:
    """Begin a login under a new id, or say why not."""
    door: Door = state.door
    if door.auth.mode != "password":
        return seen("/")
    asked, form = asked_of(request.scope), await request.form()
    user, after = str(form.get("user", "")).strip().lower(), safe_path(str(form.get("next", "/")))
    session = door.form_session(asked, request.user)
    wait_s = _count_attempt(door, asked, user)
    if wait_s > 0:
        problem = f"Too many attempts have failed. Try again in {wait_s:.0f} s."
        return _form(state, session, after, problem, status=429, wait_s=wait_s)
    if not await door.passwords.match(user, str(form.get("password", ""))):
        log.warning("login.failed", user=user if door.passwords.knows(user) else UNKNOWN, address=door.address(asked))
        return _form(state, session, after, "This name and password do not fit together.", status=401)
    door.by_account.succeeded([user])
    door.by_address.succeeded([door.address(asked)])
    if request.user is not None:
        await door.sessions.end(request.user.session)
    cookie = await door.sessions.begin(user)
    log.info("login.done", user=user, address=door.address(asked))
    answer = seen(after)
    answer.headers["set-cookie"] = door.set_cookie(SESSION, asked.host, cookie)
    return answer


@get("/logout", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def logout_page(request: Request[Visitor, Any, State], state: State) -> Response[str]:
    """Return the page that asks whether to log out."""
    door: Door = state.door
    if door.auth.mode != "password":
        return seen("/")
    return html(state.board.fragments.page(
        "pages/logout.html", visitor=request.user, token=door.forms.token(request.user.session)
    ))  # fmt: skip


@post("/logout", include_in_schema=False)
async def log_out(request: Request[Visitor, Any, State], state: State) -> Response[str]:
    """End the login, and every stream that was opened under it."""
    door: Door = state.door
    if door.auth.mode == "password":
        await door.sessions.end(request.user.session)
        log.info("login.ended", user=request.user.name)
    answer = seen("/login")
    answer.headers["set-cookie"] = door.set_cookie(SESSION, asked_of(request.scope).host, "")
    return answer


router = Router("/", route_handlers=[login_page, log_in, logout_page, log_out])


def safe_path(path: str) -> str:
    """Return a path of these pages as it is, and "/" for whatever a browser would take for another site's address."""
    is_ours = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    return path if is_ours else "/"


def seen(path: str) -> Response[str]:
    """Return the answer that sends the browser to a path of these pages."""
    return Response("", status_code=303, headers={"location": path}, media_type=MediaType.TEXT)


def html(page: str, status: int = 200) -> Response[str]:
    """Return a page."""
    return Response(page, status_code=status, media_type=MediaType.HTML)


def _count_attempt(door: Door, asked: Asked, user: str) -> float:
    """Count an attempt as failed until it succeeds; return the seconds to wait if it comes too early."""
    now_s, address = door.clock.monotonic(), door.address(asked)
    account = user if door.passwords.knows(user) else UNKNOWN
    wait_s = max(door.by_account.wait_s(account, now_s), door.by_address.wait_s(address, now_s))
    if wait_s == 0:
        door.by_account.failed(account, now_s)
        door.by_address.failed(address, now_s)
    return wait_s


def _form(
    state: State, session: str, after: str, problem: str = "", *, status: int = 200, wait_s: float = 0
) -> Response[str]:
    board: Board = state.board
    door: Door = state.door
    page = board.fragments.page("pages/login.html", token=door.forms.token(session), after=after, problem=problem)
    answer = html(page, status)
    if wait_s:
        answer.headers["retry-after"] = f"{wait_s:.0f}"
    return answer
