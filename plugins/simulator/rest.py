"""The trading API: paths, arguments and statuses of Alpaca's REST v2; owns no rule of trading."""

from __future__ import annotations

from datetime import date
from typing import Any

import structlog
from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException, SerializationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from .account import SimulatedAccount
from .broker import SimulatedBroker
from .query import Query
from .refusals import Refused, invalid, not_found

JSON = dict[str, object]
Account = NamedDependency[SimulatedAccount]
Arguments = NamedDependency[Query]
Broker = NamedDependency[SimulatedBroker]
AnyRequest = Request[Any, Any, Any]

log = structlog.get_logger(__name__)


@get("/v2/account", sync_to_thread=False)
def account_row(account: Account) -> JSON:
    return account.account()


@get("/v2/account/portfolio/history", sync_to_thread=False)
def portfolio_history(account: Account, arguments: Arguments) -> JSON:
    return account.portfolio_history(
        period=arguments.text("period"),
        timeframe=arguments.text("timeframe"),
        start=arguments.moment("start"),
        end=arguments.moment("end") or arguments.moment("date_end"),
    )


@get("/v2/account/activities", sync_to_thread=False)
def activities(account: Account, arguments: Arguments) -> list[JSON]:
    if arguments.text("category") and arguments.text("activity_types"):
        raise invalid("only one of category or activity_types is accepted")
    return _activities(account, arguments, arguments.csv("activity_types"))


@get("/v2/account/activities/{kind:str}", sync_to_thread=False)
def activities_of_one_kind(account: Account, arguments: Arguments, kind: FromPath[str]) -> list[JSON]:
    return _activities(account, arguments, [kind.upper()])


def _activities(account: Account, arguments: Arguments, types: list[str]) -> list[JSON]:
    return account.activities(
        types=types,
        category=arguments.text("category"),
        on=arguments.day("date"),
        after=arguments.moment("after"),
        until=arguments.moment("until"),
        direction=arguments.choice("direction", "desc", "asc"),
        page_size=arguments.integer("page_size", 100, most=100),
        page_token=arguments.text("page_token"),
        order_id=arguments.text("order_id"),
    )


@get("/v2/orders", sync_to_thread=False)
def orders(account: Account, arguments: Arguments) -> list[JSON]:
    return account.orders(
        status=arguments.choice("status", "open", "closed", "all"),
        limit=arguments.integer("limit", 50, most=500),
        after=arguments.moment("after"),
        until=arguments.moment("until"),
        direction=arguments.choice("direction", "desc", "asc"),
        nested=arguments.flag("nested"),
        symbols=arguments.csv("symbols"),
        side=arguments.text("side"),
        before_order_id=arguments.text("before_order_id"),
        after_order_id=arguments.text("after_order_id"),
    )


@post("/v2/orders", status_code=200)
async def place(account: Account, request: AnyRequest) -> JSON:
    return account.place(await _body(request))


@delete("/v2/orders", status_code=207, sync_to_thread=False)
def cancel_all(account: Account) -> list[JSON]:
    return account.cancel_all()


@get("/v2/orders:by_client_order_id", sync_to_thread=False)
def order_by_client_id(account: Account, arguments: Arguments) -> JSON:
    return account.order_by_client_id(arguments.text("client_order_id") or "")


@get("/v2/orders/{order_id:str}", sync_to_thread=False)
def order(account: Account, arguments: Arguments, order_id: FromPath[str]) -> JSON:
    return account.order(order_id, nested=arguments.flag("nested"))


@patch("/v2/orders/{order_id:str}")
async def replace(account: Account, order_id: FromPath[str], request: AnyRequest) -> JSON:
    return account.replace(order_id, await _body(request))


@delete("/v2/orders/{order_id:str}", sync_to_thread=False)
def cancel(account: Account, order_id: FromPath[str]) -> None:
    account.cancel(order_id)


@get("/v2/positions", sync_to_thread=False)
def positions(account: Account) -> list[JSON]:
    return account.positions()


@delete("/v2/positions", status_code=207, sync_to_thread=False)
def close_all_positions(account: Account, arguments: Arguments) -> list[JSON]:
    return account.close_all_positions(cancel_orders=arguments.flag("cancel_orders"))


@get("/v2/positions/{symbol:str}", sync_to_thread=False)
def position(account: Account, symbol: FromPath[str]) -> JSON:
    return account.position(symbol)


@delete("/v2/positions/{symbol:str}", status_code=200, sync_to_thread=False)
def close_position(account: Account, arguments: Arguments, symbol: FromPath[str]) -> JSON:
    qty, percentage = arguments.number("qty"), arguments.number("percentage")
    return account.close_position(symbol, qty=qty, percentage=percentage)


@get("/v2/clock", sync_to_thread=False)
def clock(broker: Broker) -> JSON:
    return broker.clock_row()


@get("/v2/calendar", sync_to_thread=False)
def calendar(broker: Broker, arguments: Arguments) -> list[JSON]:
    start, end = arguments.day("start"), arguments.day("end")
    return broker.calendar(start or date(1970, 1, 1), end or date(2029, 12, 31))


@get("/v2/assets", sync_to_thread=False)
def assets(broker: Broker, arguments: Arguments) -> list[JSON]:
    exchange, status = arguments.text("exchange"), arguments.text("status", "active")
    rows = [asset.row() for asset in broker.market.assets.values()]
    return [row for row in rows if row["status"] == status and exchange in {None, row["exchange"]}]


@get("/v2/assets/{symbol:str}", sync_to_thread=False)
def asset(broker: Broker, symbol: FromPath[str]) -> JSON:
    found = broker.market.asset(symbol)
    if found is None:
        raise not_found(f"asset not found for {symbol}")
    return found.row()


TRADING: list[HTTPRouteHandler] = [
    account_row, portfolio_history, activities, activities_of_one_kind, orders, place, cancel_all,
    order_by_client_id, order, replace, cancel, positions, close_all_positions, position, close_position,
    clock, calendar, assets, asset,
]  # fmt: skip


async def _body(request: AnyRequest) -> JSON:
    """Return the JSON object of a request. Raises Refused (400) for anything else."""
    try:
        body = await request.json()
    except SerializationException:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, 40010000, "request body format is invalid")
    return body


def provide_account(request: AnyRequest) -> SimulatedAccount:
    """Return the account whose keys the request carried."""
    account: Account = request.scope["state"]["account"]
    return account


def provide_arguments(request: AnyRequest) -> Query:
    """Return the request's arguments."""
    return Query(request.query_params)


def render_refusal(_: AnyRequest, refused: Refused) -> Response[JSON]:
    """Return Alpaca's error JSON for what the broker will not do."""
    return Response(refused.body(), status_code=refused.status)


def render_http_error(_: AnyRequest, error: HTTPException) -> Response[JSON]:
    """Return Alpaca's error JSON for a path or method that does not exist."""
    status = error.status_code
    return Response({"code": status * 100_000 + 10_000, "message": error.detail.lower()}, status_code=status)


def render_bug(request: AnyRequest, error: Exception) -> Response[JSON]:
    """Return Alpaca's 500, and put the traceback where the operator sees it."""
    log.error("simulator.bug", method=request.method, path=request.url.path, exc_info=error)
    return Response({"code": 50010000, "message": "internal server error"}, status_code=500)
