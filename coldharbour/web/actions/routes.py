"""The routes of operator actions: a preview, a confirmed request, and what became of it; only where they are on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Request, Response, Router, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.params import FromPath
from psycopg import AsyncConnection

from coldharbour import requests
from coldharbour import store as kernel_store
from coldharbour.db import notify
from coldharbour.events import LossLimitReset
from coldharbour.journal import record
from coldharbour.registry import Assignment
from coldharbour.requests import Action, Outcome
from coldharbour.requests.store import RequestRow, request_by_id
from coldharbour.risk.losses import store as losses
from coldharbour.web.access.door import Door
from coldharbour.web.access.login import html, seen
from coldharbour.web.access.visitor import Visitor
from coldharbour.web.actions import store
from coldharbour.web.actions.previews import (
    BREAKEVEN_WORKER,
    Preview,
    breakeven_preview,
    reset_preview,
    worker_preview,
)
from coldharbour.web.board import Board
from coldharbour.web.contexts import Account, worker_views

Asking = Request[Visitor, Any, State]

log = structlog.get_logger(__name__)


@get("/{slug:str}/actions/{action:str}", include_in_schema=False)
async def preview_page(request: Asking, state: State, slug: FromPath[str], action: FromPath[str]) -> Response[str]:
    """Return what an action would do, with the button that confirms it."""
    account = _account(state, slug)
    async with state.board.ctx.db.transaction() as conn:
        preview = await _preview(conn, state.board, account, _known(action), request.query_params)
    return _page(request, state, account, preview)


@post("/{slug:str}/actions/{action:str}", include_in_schema=False)
async def confirm(request: Asking, state: State, slug: FromPath[str], action: FromPath[str]) -> Response[str]:
    """Put a confirmed action on record, and show what becomes of it; ask again if it is not what was seen."""
    board: Board = state.board
    account, form = _account(state, slug), await request.form()
    async with board.ctx.db.transaction() as conn:
        preview = await _preview(conn, board, account, _known(action), request.query_params)
        is_as_seen = form.get("seen") == preview.version
        asked = await _ask(conn, board, slug, preview, request.user) if is_as_seen and not preview.obstacle else None
    if asked is None:
        return _page(request, state, account, preview, has_changed=not is_as_seen, status=409)
    await requests.announce(board.ctx.db, slug)
    if preview.action is Action.RESET_LATCH:
        await notify(board.ctx.db, f"risk_channel_{slug}", "{}")
    log.info("operator.asked", destination=slug, worker=asked.worker, action=asked.action, by=request.user.name)
    return seen(f"/{slug}/requests/{asked.id}")


@get("/{slug:str}/requests/{number:int}", include_in_schema=False)
async def request_page(state: State, slug: FromPath[str], number: FromPath[int]) -> Response[str]:
    """Return what became of a request; the page looks again by itself until that is known."""
    account, ctx = _account(state, slug), state.board.ctx
    async with ctx.db.transaction() as conn:
        row = await request_by_id(conn, slug, number)
    if row is None:
        raise NotFoundException
    is_overdue = row.outcome is None and row.taken_at is None and row.expires_at <= ctx.clock.now()
    return html(state.board.fragments.page("pages/request.html", account=account, row=row, is_overdue=is_overdue))


router = Router("/", route_handlers=[preview_page, confirm, request_page])


async def _preview(
    conn: AsyncConnection, board: Board, account: Account, action: Action, query: Mapping[str, str]
) -> Preview:
    if action is Action.RESET_LATCH:
        return reset_preview([latch for latch in await losses.latches(conn) if latch.destination == account.slug])
    if action is Action.BREAKEVEN:
        lot = await store.open_lot(conn, account.slug, query.get("lot", ""))
        if lot is None:
            raise NotFoundException
        worker = _assigned(board, account.slug, BREAKEVEN_WORKER)
        return breakeven_preview(account, lot, getattr(worker.settings, "min_gap", None) if worker else None)
    assignment = _assigned(board, account.slug, query.get("worker", ""))
    if assignment is None:
        raise NotFoundException
    spec = assignment.worker.spec
    expected, now = [(spec.kind, assignment.worker.service)], board.ctx.clock.now()
    [view] = worker_views(await kernel_store.worker_rows(conn), expected, account.slug, now)
    return worker_preview(action, spec, view)


async def _ask(conn: AsyncConnection, board: Board, slug: str, preview: Preview, visitor: Visitor) -> RequestRow:
    now = board.ctx.clock.now()
    asked = await requests.ask(
        conn, destination=slug, worker=preview.worker, action=preview.action, parameters=preview.parameters,
        asked_by=visitor.name, now=now,
    )  # fmt: skip
    if preview.action is Action.RESET_LATCH:  # the table is all there is to change, so nobody need take it first
        gone = await losses.reset_latch(conn, slug, visitor.name, now)
        await requests.settle(conn, asked, Outcome.DONE, f"{len(gone)} limits were reset", now=now)
        reset = LossLimitReset(at=now, stages=", ".join(latch.stage for latch in gone), by=visitor.name)
        await record(conn, slug, [reset])
    return asked


def _page(
    request: Asking, state: State, account: Account, preview: Preview, *, has_changed: bool = False, status: int = 200
) -> Response[str]:
    door: Door = state.door
    query = request.url.query
    page = state.board.fragments.page(
        "pages/action.html", account=account, preview=preview, has_changed=has_changed,
        address=f"{request.url.path}?{query}" if query else request.url.path,
        token=door.forms.token(request.user.session),
    )  # fmt: skip
    return html(page, status)


def _account(state: State, slug: str) -> Account:
    """Return an account whose actions are on."""
    board: Board = state.board
    if not state.door.web.actions:
        raise PermissionDeniedException("actions are off: [web] actions = true turns them on")
    if slug not in board.accounts:
        raise NotFoundException
    return board.accounts[slug]


def _known(action: str) -> Action:
    try:
        return Action(action)
    except ValueError:
        raise NotFoundException from None


def _assigned(board: Board, slug: str, kind: str) -> Assignment | None:
    assignments = board.ctx.registry.assignments
    return next((each for each in assignments if (each.slug, each.worker.spec.kind) == (slug, kind)), None)
