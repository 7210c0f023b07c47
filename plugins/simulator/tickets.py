"""What an order request says: owns reading and refusing its form; knows no account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from coldharbour.money import to_decimal

from .assets import Asset
from .digits import CENT, plain, tick_of
from .market import Market
from .refusals import Refused, invalid, unprocessable

TYPES = frozenset({"market", "limit", "stop", "stop_limit", "trailing_stop"})
TIMES_IN_FORCE = frozenset({"day", "gtc", "opg", "cls", "ioc", "fok"})
CLASSES = frozenset({"", "simple", "bracket", "oto", "oco"})
CLIENT_ID_MAX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An order request whose form is right. Prices: currency per share. order_class: "" for a simple one."""

    asset: Asset
    side: str
    type: str = "market"
    time_in_force: str = "day"
    order_class: str = ""
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    stop_loss_limit: Decimal | None = None
    extended_hours: bool = False
    client_order_id: str | None = None
    position_intent: str | None = None

    @property
    def sign(self) -> int:
        """Return +1 for a buy, -1 for a sell."""
        return 1 if self.side == "buy" else -1


def read_ticket(request: Mapping[str, object], market: Market) -> Ticket:
    """Return the request as a ticket. Raises Refused for whatever Alpaca refuses by form alone."""
    order_class = word(request, "order_class", "") or ""
    take_profit, stop_loss = section(request, "take_profit"), section(request, "stop_loss")
    if order_class in {"", "simple"}:
        take_profit, stop_loss = {}, {}  # Alpaca ignores exits of an order that names no class
    ticket = Ticket(
        asset=_asset(request, market),
        side=word(request, "side"),
        type=word(request, "type"),
        time_in_force=word(request, "time_in_force"),
        order_class="" if order_class == "simple" else order_class,
        qty=number(request, "qty"),
        notional=number(request, "notional"),
        limit_price=price(request, "limit_price"),
        stop_price=price(request, "stop_price"),
        trail_price=number(request, "trail_price"),
        trail_percent=number(request, "trail_percent"),
        take_profit=price(take_profit, "limit_price", "take_profit.limit_price"),
        stop_loss=price(stop_loss, "stop_price", "stop_loss.stop_price"),
        stop_loss_limit=price(stop_loss, "limit_price", "stop_loss.limit_price"),
        extended_hours=request.get("extended_hours") is True,
        client_order_id=client_order_id(request),
        position_intent=word(request, "position_intent", "") or None,
    )
    _check_words(ticket)
    _check_size(ticket)
    _check_prices(ticket)
    _check_class(ticket)
    return ticket


def check_exits(ticket: Ticket, market_price: Decimal) -> None:
    """Refuse exits on the wrong side: of each other, or of the price the trade starts from."""
    sign = ticket.sign if ticket.order_class != "oco" else -ticket.sign
    target, stop = ticket.take_profit, ticket.stop_loss
    if target is not None and stop is not None and sign * (target - stop) <= 0:
        comparison = ">" if sign > 0 else "<"
        raise unprocessable(f"take_profit.limit_price must be {comparison} stop_loss.stop_price")
    base = target if ticket.order_class == "oco" else ticket.limit_price or market_price
    if stop is not None and base is not None and sign * (base - stop) < CENT:
        comparison, gap = ("<=", "-") if sign > 0 else (">=", "+")
        raise unprocessable(f"stop_loss.stop_price must be {comparison} base_price {gap} 0.01")


def number(fields: Mapping[str, object], name: str) -> Decimal | None:
    """Return a positive number. Raises Refused for anything else that is there."""
    try:
        value = to_decimal(fields.get(name))
    except ValueError:
        raise Refused(400, 40010000, "request body format is invalid") from None
    if value is not None and value <= 0:
        raise invalid(f"{name} must be > 0")
    return value


def price(fields: Mapping[str, object], name: str, title: str = "") -> Decimal | None:
    """Return a price on its tick. Raises Refused, naming the field as `title`."""
    value = number(fields, name)
    if value is not None and value % tick_of(value):
        raise unprocessable(
            f"invalid {title or name} {plain(value)}. sub-penny increment does not fulfill minimum pricing criteria"
        )
    return value


def word(fields: Mapping[str, object], name: str, default: str | None = None) -> str:
    """Return a text. Raises Refused if it is missing without a default, or no text."""
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise invalid(f"{name} is required" if value is None else f"invalid {name}")
    return value


def section(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a nested object, empty if it is missing. Raises Refused if it is something else."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Refused(400, 40010000, "request body format is invalid")
    return value


def client_order_id(fields: Mapping[str, object]) -> str | None:
    """Return the caller's own id, None if the broker shall make one. Raises Refused if it is too long."""
    value = word(fields, "client_order_id", "")
    if len(value) > CLIENT_ID_MAX:
        raise invalid(f"client_order_id must be no more than {CLIENT_ID_MAX} characters")
    return value or None


def _asset(request: Mapping[str, object], market: Market) -> Asset:
    symbol = word(request, "symbol")
    asset = market.asset(symbol)
    if asset is None:
        raise invalid(f'could not find asset "{symbol}"')
    return asset


def _check_words(ticket: Ticket) -> None:
    if ticket.side not in {"buy", "sell"}:
        raise invalid("invalid side")
    if ticket.type not in TYPES:
        raise invalid("invalid order type")
    if ticket.time_in_force not in TIMES_IN_FORCE:
        raise invalid("invalid time_in_force")
    if ticket.order_class not in CLASSES:
        raise invalid("invalid order_class")
    if ticket.extended_hours and (ticket.type != "limit" or ticket.time_in_force not in {"day", "gtc"}):
        raise unprocessable("extended hours order must be DAY or GTC limit orders")


def _check_size(ticket: Ticket) -> None:
    if ticket.qty is None and ticket.notional is None:
        raise invalid("qty or notional is required")
    if ticket.qty is not None and ticket.notional is not None:
        raise invalid("only one of qty or notional is accepted")
    is_fractional = ticket.notional is not None or (ticket.qty is not None and ticket.qty % 1 != 0)
    if is_fractional and (ticket.time_in_force != "day" or ticket.order_class):
        raise unprocessable("fractional orders must be simple DAY orders")
    if ticket.notional is not None and ticket.type != "market":
        raise unprocessable("notional orders must be market orders")


def _check_prices(ticket: Ticket) -> None:
    needs_limit, needs_stop = ticket.type in {"limit", "stop_limit"}, ticket.type in {"stop", "stop_limit"}
    if needs_limit and ticket.limit_price is None and not (ticket.order_class == "oco" and ticket.take_profit):
        raise invalid(f"{ticket.type.replace('_', ' ')} orders require a limit price")
    if needs_stop and ticket.stop_price is None:
        raise invalid(f"{ticket.type.replace('_', ' ')} orders require a stop price")
    if not needs_limit and ticket.limit_price is not None:
        raise unprocessable(f"{ticket.type} orders must not have limit_price")
    if not needs_stop and ticket.stop_price is not None:
        raise unprocessable(f"{ticket.type} orders must not have stop_price")
    trails = sum(trail is not None for trail in (ticket.trail_price, ticket.trail_percent))
    if ticket.type == "trailing_stop" and trails != 1:
        raise invalid("trailing stop orders require exactly one of trail_price and trail_percent")
    if ticket.type != "trailing_stop" and trails:
        raise invalid(f"{ticket.type} orders must not have a trail")


def _check_class(ticket: Ticket) -> None:
    if not ticket.order_class:
        return
    if ticket.time_in_force not in {"day", "gtc"} or ticket.extended_hours:
        raise unprocessable("complex orders must be DAY or GTC orders in regular hours")
    if ticket.type == "trailing_stop":
        raise unprocessable("trailing stop orders cannot be part of a complex order")
    has_target, has_stop = ticket.take_profit is not None, ticket.stop_loss is not None
    if ticket.order_class == "oto":
        if has_target == has_stop:
            raise unprocessable("oto orders require exactly one of take_profit and stop_loss")
        return
    if not has_target:
        raise unprocessable(f"{ticket.order_class} orders require take_profit.limit_price")
    if not has_stop:
        raise unprocessable(f"{ticket.order_class} orders require stop_loss.stop_price")
    if ticket.order_class == "oco" and ticket.type != "limit":
        raise unprocessable("oco orders must be limit orders")
