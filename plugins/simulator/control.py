"""The operator's side of the simulator under `/sim`: truth, faults, bookings, prices, proxies; trades nothing.

It asks for no key, so it answers only to this machine, and never to a web page that came in under another
name or without a JSON body.
"""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import anyio.abc
from litestar import Request, Response, delete, get, patch, post, put
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import FromPath
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coldharbour.money import to_decimal

from .account import SimulatedAccount
from .activities import activity_json
from .announcements import Announcement
from .bookings import Booking, SplitOrder
from .broker import SimulatedBroker
from .bursts import BurstOrder, Bursts
from .faults import FaultBoard, UnknownFaultError
from .proxy import Address, ByteProxy
from .refusals import Refused, not_found

JSON = dict[str, object]
Board = NamedDependency[FaultBoard]
Broker = NamedDependency[SimulatedBroker]
AnyRequest = Request[Any, Any, Any]


class ProxyOrder(BaseModel):
    """A request for a byte proxy; only to servers on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("broker", min_length=1, description="Handle of the proxy.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on at 127.0.0.1; 0 = any.")
    upstream_port: int | None = Field(None, gt=0, le=65535, description="TCP port behind; null = our own.")
    upstream_path: str | None = Field(None, description="Unix socket behind, instead of a port.")


@dataclass
class Proxies:
    """The byte proxies of this simulator, by name."""

    tasks: anyio.abc.TaskGroup
    seed: int
    own_port: int
    running: dict[str, tuple[ByteProxy, anyio.CancelScope]] = field(default_factory=dict)

    async def open(self, order: ProxyOrder) -> ByteProxy:
        """Start a proxy, replacing one of the same name. Raises Refused (422) if its port is taken."""
        self.close(order.name)
        upstream: Address = order.upstream_path or ("127.0.0.1", order.upstream_port or self.own_port)
        proxy, scope = ByteProxy(upstream, seed=self.seed), anyio.CancelScope()

        async def serve(*, task_status: anyio.abc.TaskStatus[Address]) -> None:
            with scope:
                await proxy.serve(("127.0.0.1", order.port), task_status=task_status)

        try:
            await self.tasks.start(serve)
        except OSError as error:
            raise Refused(422, None, f"cannot listen on port {order.port}: {error}") from error
        self.running[order.name] = (proxy, scope)
        return proxy

    def find(self, name: str) -> ByteProxy:
        """Return a proxy. Raises Refused (404)."""
        if name not in self.running:
            raise not_found(f"no proxy {name}; there are {', '.join(self.running) or 'none'}")
        return self.running[name][0]

    def close(self, name: str) -> None:
        """Stop a proxy and its connections, if it runs."""
        if name in self.running:
            self.running.pop(name)[1].cancel()


@get("/sim/truth", sync_to_thread=False)
def truth(broker: Broker) -> JSON:
    accounts = {slug: account.truth() for slug, account in broker.accounts.items()}
    return {"accounts": accounts, "total": _total(list(accounts.values()))}


@get("/sim/truth/{slug:str}", sync_to_thread=False)
def true_details(broker: Broker, slug: FromPath[str]) -> JSON:
    """Show what one account earned by exit, and what it had at each minute's end."""
    return _account(broker, slug).details()


@post("/sim/bookings")
async def add_booking(broker: Broker, request: AnyRequest) -> JSON:
    """Book money or shares that come or go: `{"account": "alpha", "type": "CSD", "amount": "1000"}`."""
    body = await _object(request)
    return _account(broker, body.pop("account", None)).book(Booking.model_validate(body))


@post("/sim/splits")
async def split_stock(broker: Broker, request: AnyRequest) -> JSON:
    """Split a stock for every account: `{"symbol": "AAPL", "ratio": "2"}`."""
    booked = broker.split(SplitOrder.model_validate(await _object(request)))
    return {slug: activity_json(activity) for slug, activity in booked.items()}


@post("/sim/announcements")
async def announce(broker: Broker, request: AnyRequest) -> JSON:
    """Announce a corporate action, which then does not happen: `{"symbol": "AAPL", "day": "2026-10-09"}`."""
    announcement = Announcement.model_validate(await _object(request))
    broker.announced.append(announcement)
    return announcement.row()


@get("/sim/faults", sync_to_thread=False)
def faults(board: Board) -> JSON:
    return {"faults": board.listing()}


@patch("/sim/faults")
async def change_faults(board: Board, request: AnyRequest) -> JSON:
    board.change(await _object(request))
    return {"faults": board.listing()}


@put("/sim/faults")
async def set_faults(board: Board, request: AnyRequest) -> JSON:
    board.change(await _object(request), reset=True)
    return {"faults": board.listing()}


@get("/sim/burst", sync_to_thread=False)
def bursts_so_far(bursts: NamedDependency[Bursts]) -> JSON:
    return {"bursts": [asdict(job) for job in bursts.jobs]}


@post("/sim/burst", status_code=202)
async def burst(bursts: NamedDependency[Bursts], request: AnyRequest) -> JSON:
    return asdict(bursts.start(BurstOrder.model_validate(await _object(request))))


@get("/sim/trader", sync_to_thread=False)
def trader(broker: Broker) -> JSON:
    return {"on": broker.trading}


@put("/sim/trader")
async def switch_trader(broker: Broker, request: AnyRequest) -> JSON:
    wanted = (await _object(request)).get("on")
    if not isinstance(wanted, bool):
        raise Refused(422, None, 'send {"on": true} or {"on": false}')
    broker.trading = wanted
    return {"on": broker.trading}


@get("/sim/prices", sync_to_thread=False)
def prices(broker: Broker) -> JSON:
    return {symbol: str(broker.market.price(symbol)) for symbol in broker.market.symbols}


@put("/sim/prices")
async def pin_prices(broker: Broker, request: AnyRequest) -> JSON:
    """Hold prices where the body says, `{"AAPL": "187.5"}`; null lets one go."""
    pins = {symbol: _price(symbol, value) for symbol, value in (await _object(request)).items()}
    unknown = pins.keys() - broker.market.assets.keys()
    if unknown:
        raise not_found(f"asset not found for {', '.join(sorted(unknown))}")
    for symbol, price in pins.items():
        broker.market.pin(symbol, price)
    return {symbol: None if price is None else str(price) for symbol, price in pins.items()}


@get("/sim/proxy", sync_to_thread=False)
def proxy_list(proxies: NamedDependency[Proxies]) -> JSON:
    return {"proxies": {name: _proxy_row(proxy) for name, (proxy, _) in proxies.running.items()}}


@post("/sim/proxy")
async def open_proxy(proxies: NamedDependency[Proxies], request: AnyRequest) -> JSON:
    return _proxy_row(await proxies.open(ProxyOrder.model_validate(await _object(request))))


@delete("/sim/proxy/{name:str}", sync_to_thread=False)
def close_proxy(proxies: NamedDependency[Proxies], name: FromPath[str]) -> None:
    proxies.find(name)
    proxies.close(name)


@post("/sim/proxy/{name:str}/cut", status_code=200)
async def cut_proxy(proxies: NamedDependency[Proxies], name: FromPath[str]) -> JSON:
    return {"cut": proxies.find(name).cut()}


@post("/sim/proxy/{name:str}/toxics")
async def add_toxic(proxies: NamedDependency[Proxies], name: FromPath[str], request: AnyRequest) -> JSON:
    body = await _object(request)
    return proxies.find(name).add(str(body.pop("kind", "")), **body).model_dump()


@delete("/sim/proxy/{name:str}/toxics/{toxic:str}", sync_to_thread=False)
def remove_toxic(proxies: NamedDependency[Proxies], name: FromPath[str], toxic: FromPath[str]) -> None:
    try:
        proxies.find(name).remove(toxic)
    except KeyError:
        raise not_found(f"proxy {name} has no toxic {toxic}") from None


@delete("/sim/proxy/{name:str}/toxics", sync_to_thread=False)
def clear_toxics(proxies: NamedDependency[Proxies], name: FromPath[str]) -> None:
    proxies.find(name).clear()


CONTROL: list[HTTPRouteHandler] = [
    truth, true_details, add_booking, split_stock, announce, faults, change_faults, set_faults, bursts_so_far, burst,
    trader, switch_trader, prices, pin_prices, proxy_list, open_proxy, close_proxy, cut_proxy, add_toxic,
    remove_toxic, clear_toxics,
]  # fmt: skip


def only_this_machine(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse other machines, and browsers that were led here by another site's name or form."""
    if connection.client is None or not _is_local(connection.client.host):
        raise PermissionDeniedException("the simulator's controls answer to this machine only")
    if not _is_local(connection.url.hostname or ""):
        raise PermissionDeniedException("call the simulator's controls by a loopback address")
    if connection.headers.get("origin"):
        raise PermissionDeniedException("the simulator's controls are not for web pages")


def render_unknown_faults(_: AnyRequest, error: UnknownFaultError) -> Response[JSON]:
    """Return 422 with the names of all faults."""
    return Response({**error.body}, status_code=422)


def render_invalid(_: AnyRequest, error: ValidationError) -> Response[JSON]:
    """Return 422 with every problem of the body."""
    problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}".lstrip(": ") for item in error.errors()]
    return Response({"message": "; ".join(problems)}, status_code=422)


async def _object(request: AnyRequest) -> dict[str, Any]:
    body = await request.json()
    if not isinstance(body, dict):
        raise Refused(400, 40010000, "send a JSON object")
    return body


def _account(broker: SimulatedBroker, slug: object) -> SimulatedAccount:
    """Return an account. Raises Refused (404)."""
    if not isinstance(slug, str) or slug not in broker.accounts:
        raise not_found(f"no account {slug}; there are {', '.join(broker.accounts)}")
    return broker.accounts[slug]


def _price(symbol: str, value: object) -> Decimal | None:
    try:
        price = to_decimal(value)
    except ValueError as error:
        raise Refused(422, None, f"{symbol}: {error}") from None
    if price is not None and price <= 0:
        raise Refused(422, None, f"{symbol}: a price is greater than zero")
    return price


def _total(rows: list[JSON]) -> JSON:
    """Return the sums of whatever the accounts count."""
    totals: dict[str, object] = {}
    for name in rows[0] if rows else ():
        values = [row.get(name) for row in rows]
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            totals[name] = sum(value for value in values if isinstance(value, int))
    return totals


def _proxy_row(proxy: ByteProxy) -> JSON:
    return {
        "port": proxy.port,
        "upstream": proxy.upstream,
        "connections": proxy.connections,
        "toxics": [toxic.model_dump() for toxic in proxy.toxics],
    }


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
