"""The routes below /{slug}/api: what an account's tables say, as JSON; reads, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from litestar import Response, Router, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter
from psycopg import AsyncConnection
from psycopg.errors import UndefinedTable

from coldharbour import store as kernel_store
from coldharbour.errors import Transient
from coldharbour.metrics import store as metrics_store
from coldharbour.metrics.documents import LATEST
from coldharbour.risk import store as risk_store
from coldharbour.risk.audit import AuditRow
from coldharbour.web.api import store
from coldharbour.web.api.answers import Asked, Cache, answer, documented, tag_of, tagged, unavailable
from coldharbour.web.api.model import ClosedTrade, EquityDay, Gap, Intraday, IntradayMeta, Position, Worker
from coldharbour.web.api.parameters import (
    START,
    WINDOW,
    begin_of,
    check_start,
    check_text,
    cursor_of,
    days_of,
    read_cursor,
    window_begin,
)
from coldharbour.web.board import Board
from coldharbour.web.contexts import Account, WorkerView, worker_views

PAGE = 300
LONGEST_PAGE = 1_000
LARGEST_ID = 2**63 - 1


def account_of(slug: FromPath[str], state: State) -> Account:
    """Return the account of a slug. Raises NotFoundException."""
    board: Board = state.board
    if slug not in board.accounts:
        raise NotFoundException("no such account is configured here")
    return board.accounts[slug]


@asynccontextmanager
async def one_moment(state: State) -> AsyncIterator[AsyncConnection]:
    """Lend a connection that sees all tables as of one moment. Raises Transient."""
    board: Board = state.board
    async with board.ctx.db.transaction(one_snapshot=True) as conn:
        yield conn


async def _read_once(
    request: Asked,
    state: State,
    account: Account,
    table: str,
    read: Callable[[AsyncConnection, str], Awaitable[object]],
) -> Response[bytes]:
    """Answer with what `read` returns of a table, from the cache as long as no row of it changed."""
    cache: Cache = state.cache
    async with one_moment(state) as conn:
        version = await store.version(conn, table, account.slug)
        content = await cache.get(f"{table} {account.slug}", version, lambda: read(conn, account.slug))
    return tagged(request, content, tag_of(content))


@get("/positions", responses=documented(list[Position], "The open lots, by symbol and age."))
async def positions(request: Asked, state: State, account: NamedDependency[Account]) -> Response[bytes]:
    """Return the open positions, one element per lot."""
    async with one_moment(state) as conn:
        return answer(request, await store.positions(conn, account.slug))


@get("/positions_cached", responses=documented(list[Position], "As /positions."))
async def positions_cached(request: Asked, state: State, account: NamedDependency[Account]) -> Response[bytes]:
    """Return the same as /positions, read once for all who ask until a row changes: made for frequent polling."""
    return await _read_once(request, state, account, "open_trades", store.positions)


@get("/closed", responses=documented(list[ClosedTrade], "Closed trades, newest exit first.", errors=(400, 404, 503)))
async def closed(
    request: Asked,
    state: State,
    account: NamedDependency[Account],
    limit: Annotated[int, QueryParameter(ge=1, le=LONGEST_PAGE, description="How many at most.")] = PAGE,
    after: Annotated[str | None, QueryParameter(description="Where to go on, from a Link header.")] = None,
) -> Response[bytes]:
    """Return a page of closed trades. While there are more, `Link: <...>; rel="next"` is the address of the next page.

    A page begins behind the last trade of the one before: trades that arrive in the meantime shift nothing.
    """
    key = None if after is None else read_cursor(after)
    async with one_moment(state) as conn:
        trades = await store.closed_trades(conn, account.slug, limit + 1, key)
    links = {}
    if len(trades) > limit:
        last = trades[limit - 1]
        place = cursor_of((last.exit_time, last.entry_lot_id, last.exit_order_id))
        links = {"next": f"/{account.slug}/api/closed?{urlencode({'limit': limit, 'after': place})}"}
    return answer(request, trades[:limit], links=links)


@get("/closed_cached", responses=documented(list[ClosedTrade], f"The newest {PAGE} closed trades."))
async def closed_cached(request: Asked, state: State, account: NamedDependency[Account]) -> Response[bytes]:
    """Return the first page of /closed, read once for all who ask until a row changes: made for frequent polling."""
    return await _read_once(request, state, account, "closed_trades", partial(store.closed_trades, limit=PAGE))


@get("/equity", responses=documented(list[EquityDay], "The sessions, oldest first.", errors=(400, 404, 503)))
async def equity(
    request: Asked,
    state: State,
    account: NamedDependency[Account],
    window: Annotated[
        str,
        QueryParameter(
            pattern=WINDOW,
            description="`all`; `first_trade`: from the session of the first fill on; `<N>d`: the last N calendar "
            "days up to the newest session.",
        ),
    ] = "all",
) -> Response[bytes]:
    """Return the account at each session's close."""
    days = days_of(window)
    async with one_moment(state) as conn:
        since = None
        if window == "first_trade":
            since = await store.first_trading_day(conn, account.slug)
            if since is None:
                return answer(request, [])
        elif days is not None and (newest := await store.newest_day(conn, account.slug)):
            since = window_begin(newest, days)
        return answer(request, await store.equity_days(conn, account.slug, since))


@get("/equity_intraday", responses=documented(Intraday, "The newest session's minutes.", errors=(400, 404, 503)))
async def equity_intraday(
    request: Asked,
    state: State,
    account: NamedDependency[Account],
    start: Annotated[
        str,
        QueryParameter(
            pattern=START,
            description="`pre`: the whole session; `rth`: from the regular open on; an hour of New York, 0 to 23.",
        ),
    ] = "pre",
) -> Response[bytes]:
    """Return the newest session minute by minute, and what it is measured from."""
    check_start(start)
    async with one_moment(state) as conn:
        newest = await store.newest_session(conn, account.slug)
        if newest is None:
            return answer(request, Intraday(series=[], meta=IntradayMeta()))
        sessions = await kernel_store.sessions_of(conn, account.market)
        since = begin_of(start, newest.session_date, sessions)
        series = await store.minutes(conn, account.slug, newest.session_date, since)
    session = next((one for one in sessions if one.session_date == newest.session_date), None)
    meta = IntradayMeta(
        session_date=newest.session_date,
        open_utc=session.open_utc if session else None,
        close_utc=session.close_utc if session else None,
        baseline_deposit=newest.baseline,
        session_flows=newest.flows,
        live_deposit=newest.live,
    )
    return answer(request, Intraday(series=series, meta=meta))


@get(
    "/metrics",
    responses=documented(dict[str, float | int | str | None], "Each figure by its name; {} before the first."),
)
async def metrics(request: Asked, state: State, account: NamedDependency[Account]) -> Response[bytes]:
    """Return the key figures."""
    async with one_moment(state) as conn:
        return answer(request, await metrics_store.document(conn, account.slug, LATEST) or {})


@get("/audit", responses=documented(list[AuditRow], "Decisions about stops, newest first.", errors=(400, 404, 503)))
async def audit(
    *,
    request: Asked,
    state: State,
    account: NamedDependency[Account],
    limit: Annotated[int, QueryParameter(ge=1, le=LONGEST_PAGE, description="How many at most.")] = PAGE,
    before: Annotated[
        int | None, QueryParameter(ge=1, le=LARGEST_ID, description="Only what was decided before the one of this id.")
    ] = None,
    parent_id: Annotated[str | None, QueryParameter(description="Only what was decided about this lot.")] = None,
) -> Response[bytes]:
    """Return a page of what was decided about stops and why, and what came of it.

    One row spans evaluations that found the same. While there are more, `Link: <...>; rel="next"` is the address of
    the next page.
    """
    check_text("parent_id", parent_id)
    async with one_moment(state) as conn:
        rows = await risk_store.audit_page(conn, account.slug, before, limit + 1, parent_id)
    links = {}
    if len(rows) > limit:
        place = {"limit": limit, "before": rows[limit - 1].id} | ({"parent_id": parent_id} if parent_id else {})
        links = {"next": f"/{account.slug}/api/audit?{urlencode(place)}"}
    return answer(request, rows[:limit], links=links)


@get("/gaps", responses=documented(list[Gap], f"The newest {PAGE} blind times, newest first."))
async def gaps(request: Asked, state: State, account: NamedDependency[Account]) -> Response[bytes]:
    """Return when the order stream was not heard, and what was fetched to make up for it."""
    async with one_moment(state) as conn:
        return answer(request, await store.gaps(conn, account.slug, PAGE))


@get("/workers", responses=documented(list[Worker], "The account's workers, then the installation's."))
async def workers(request: Asked, state: State, account: NamedDependency[Account]) -> Response[bytes]:
    """Return how every worker does that should run for this account or for the whole installation."""
    board: Board = state.board
    async with one_moment(state) as conn:
        rows = await kernel_store.worker_rows(conn)
    now = board.ctx.clock.now()
    found = [
        _worker(slug, view)
        for slug in (account.slug, "")
        for view in worker_views(rows, board.expected(slug), slug, now)
    ]
    return answer(request, found)


def _worker(slug: str, view: WorkerView) -> Worker:
    return Worker(
        destination=slug,
        kind=view.kind,
        service=view.service,
        state=view.state,
        detail=view.detail,
        since=view.since,
        last_success=view.last_success,
        last_error=view.last_error or None,
        restarts=view.restarts,
        lag_s=view.lag_s,
        updated_at=view.updated_at,
    )


router = Router(
    path="/{slug:str}/api",
    route_handlers=[
        positions, positions_cached, closed, closed_cached, equity, equity_intraday, metrics, audit, gaps, workers,
    ],
    dependencies={"account": Provide(account_of, sync_to_thread=False)},
    exception_handlers={Transient: unavailable, UndefinedTable: unavailable},
    tags=["account"],
)  # fmt: skip
