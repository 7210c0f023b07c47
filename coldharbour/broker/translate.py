"""JSON text of the broker to values of `model`, once and in one place; never a request, never a decision.

Whatever cannot be read is a `Malformed` that carries the exact text, so that a caller can put it aside and go
on. Unknown fields are ignored, unknown enumeration values are kept as text.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache, lru_cache
from types import TracebackType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from coldharbour.broker.model import (
    Account,
    Activity,
    Bar,
    CalendarDay,
    CorporateAction,
    EquityPoint,
    LatestTrade,
    MarketClock,
    Order,
    Position,
    TradeUpdate,
)
from coldharbour.broker.plain import PlainText, Slices, holds
from coldharbour.errors import ColdHarbourError
from coldharbour.money import to_decimal

T = TypeVar("T", bound=msgspec.Struct)
Fields = dict[str, Any]

NEW_YORK = ZoneInfo("America/New_York")
CHANGED_SYMBOL = ("symbol", "old_symbol", "source_symbol", "acquiree_symbol")  # of the shares that become others
MICROSECOND = dt.timedelta(microseconds=1)
_BEYOND_MICROSECONDS = re.compile(r"[.,](\d{6})(\d+)")
_JSON = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_ORDER = PlainText(Order, legs=Slices)
_ACTIVITY = PlainText(Activity)


class Malformed(ColdHarbourError):
    """A message that cannot be read. raw: the exact bytes; reason: what was wrong with them."""

    def __init__(self, raw: bytes, reason: str) -> None:
        self.raw, self.reason = raw, reason
        super().__init__(f"unreadable message of {len(raw)} bytes: {reason}")


class _Legs(msgspec.Struct):
    legs: Slices = None


class _UpdateBody(msgspec.Struct):
    order: msgspec.Raw


class _Update(msgspec.Struct):
    data: _UpdateBody


def to_utc(text: object) -> dt.datetime:
    """Return the aware UTC moment of an RFC 3339 stamp with any offset and any number of fraction digits.

    Digits beyond the microsecond are rounded half-even, as the broker's activities do with its own
    nanoseconds. Raises ValueError for other text, and for a stamp without an offset.
    """
    if not isinstance(text, str):
        raise ValueError(f"not a timestamp: {text!r}")  # noqa: TRY004 - one error class for unreadable text
    return _moment(text)


@lru_cache(maxsize=1024)  # an order repeats its stamps, and so do its legs
def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text.upper())  # cuts beyond the microsecond
    if moment.tzinfo is None:
        raise ValueError(f"a timestamp without an offset: {text!r}")
    if beyond := _BEYOND_MICROSECONDS.search(text):
        last, rest = int(beyond[1]), beyond[2].rstrip("0")
        if rest > "5" or (rest == "5" and last % 2):
            moment += MICROSECOND
    return moment.astimezone(dt.UTC)


def rows(body: bytes) -> list[bytes]:
    """Return the exact text of each element of a JSON array. Raises Malformed."""
    with _Reading(body):
        return [bytes(row) for row in _ROWS.decode(body)]


def peek_id(raw: bytes) -> str | None:
    """Return the `id` of a row that may be unreadable otherwise, None if it has none."""
    try:
        found = _JSON.decode(raw).get("id")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def order(raw: bytes) -> Order:
    """Return an order with its legs, each with its own exact text. Raises Malformed."""
    with _Reading(raw):
        if plain := _ORDER.read(raw):
            legs = plain["legs"]
            plain["legs"] = tuple([order(bytes(leg)) for leg in legs]) if legs else ()
            return Order(**plain, raw=raw)
        seen = _JSON.decode(raw)  # with patience: of the same rows it says the same
        legs = msgspec.json.decode(raw, type=_Legs).legs if seen.get("legs") else None
        return _value(Order, seen, raw, legs=tuple(order(bytes(leg)) for leg in legs or ()))


def activity(raw: bytes) -> Activity:
    """Return one account activity. Raises Malformed."""
    with _Reading(raw):
        if plain := _ACTIVITY.read(raw):
            return Activity(**plain, raw=raw)
    return _read(Activity, raw)


def trade_update(raw: bytes) -> TradeUpdate:
    """Return the event of one trade_updates frame. Raises Malformed."""
    with _Reading(raw):
        slice_of_order = msgspec.json.decode(raw, type=_Update).data.order
        return _value(TradeUpdate, _JSON.decode(raw)["data"], raw, order=order(bytes(slice_of_order)))


def account(raw: bytes) -> Account:
    """Return the account. Raises Malformed."""
    return _read(Account, raw)


def position(raw: bytes) -> Position:
    """Return one position. Raises Malformed."""
    return _read(Position, raw)


def market_clock(raw: bytes) -> MarketClock:
    """Return the market clock. Raises Malformed."""
    return _read(MarketClock, raw)


def calendar_day(raw: bytes) -> CalendarDay:
    """Return one trading day, its New York wall times (`09:30`, `0400`) as UTC moments. Raises Malformed."""
    with _Reading(raw):
        seen = _JSON.decode(raw)
        day = _to_date(seen.get("date"))
        walls = ("open", "close", "session_open", "session_close")
        moments = {name: _wall_time(day, seen[name]) for name in walls if seen.get(name)}
        return _value(CalendarDay, {**seen, "date": day}, raw, **moments)


def latest_trades(body: bytes) -> dict[str, LatestTrade]:
    """Return the latest trade of each symbol that has one. Raises Malformed."""
    with _Reading(body):
        found = _JSON.decode(body).get("trades") or {}
        return {symbol: _latest_trade(symbol, trade) for symbol, trade in found.items()}


def bars_page(body: bytes) -> tuple[dict[str, list[Bar]], str | None]:
    """Return one page of bars by symbol, and the token of the next page. Raises Malformed."""
    with _Reading(body):
        page = _JSON.decode(body)
        found = page.get("bars") or {}
        bars = {symbol: [_bar(symbol, bar) for bar in seen] for symbol, seen in found.items()}
        return bars, page.get("next_page_token")


def corporate_actions_page(body: bytes) -> tuple[list[CorporateAction], str | None]:
    """Return one page of announced corporate actions, and the token of the next page. Raises Malformed."""
    with _Reading(body):
        page = _JSON.decode(body)
        found = page["corporate_actions"] or {}
        actions = [_corporate_action(kind, row) for kind, rows in found.items() for row in rows]
        return actions, page.get("next_page_token")


def _corporate_action(kind: str, row: Fields) -> CorporateAction:
    symbol = next((row[field] for field in CHANGED_SYMBOL if row.get(field)), None)
    if symbol is None:
        raise ValueError(f"{kind} of no symbol")
    day = row.get("ex_date") or row.get("effective_date") or row["process_date"]
    return CorporateAction(kind=kind, symbol=str(symbol), day=_to_date(day))


def equity_history(body: bytes) -> tuple[EquityPoint, ...]:
    """Return the points of a portfolio history, oldest first. Raises Malformed."""
    with _Reading(body):
        seen = _JSON.decode(body)
        columns = zip(seen["timestamp"], seen["equity"], seen["profit_loss"], strict=True)
        return tuple(
            EquityPoint(
                at=dt.datetime.fromtimestamp(at, dt.UTC),
                equity=to_decimal(equity),
                profit_loss=to_decimal(profit_loss),
            )
            for at, equity, profit_loss in columns
        )


class _Reading:
    """Turns every way in which foreign text can be wrong into one Malformed with that text."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(exc, Malformed):  # of a part: the whole is what can be put aside and replayed
            raise Malformed(self._raw, exc.reason) from exc
        if isinstance(exc, (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, OverflowError)):
            raise Malformed(self._raw, f"{type(exc).__name__}: {exc}") from exc
        if isinstance(exc, RecursionError):
            raise Malformed(self._raw, "nested too deeply") from exc


def _read(kind: type[T], raw: bytes) -> T:
    with _Reading(raw):
        return _value(kind, _JSON.decode(raw), raw)


def _value(kind: type[T], seen: Mapping[str, Any], raw: bytes | None = None, **ready: object) -> T:
    """Build a model value: nulls and empty texts take the default, `ready` fields are already translated."""
    readers = _readers(kind)
    fields: Fields = {
        name: readers[name](value)
        for name, value in seen.items()
        if name in readers and name not in ready and value is not None and value != ""
    }
    fields.update(ready)
    if raw is not None:
        fields["raw"] = raw
    return msgspec.convert(fields, kind)


def _latest_trade(symbol: str, seen: Mapping[str, Any]) -> LatestTrade:
    names = {"t": "at", "p": "price", "s": "size", "x": "exchange", "z": "tape"}
    conditions = tuple(seen.get("c") or ())
    return _value(LatestTrade, _renamed(seen, names), symbol=symbol, conditions=conditions)


def _bar(symbol: str, seen: Mapping[str, Any]) -> Bar:
    names = {"t": "at", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap"}
    return _value(Bar, _renamed(seen, names | {"n": "trade_count"}), symbol=symbol)


def _renamed(seen: Mapping[str, Any], names: Mapping[str, str]) -> Fields:
    return {name: seen[short] for short, name in names.items() if short in seen}


@cache
def _readers(kind: type[msgspec.Struct]) -> dict[str, Callable[[Any], Any]]:
    """Return how each field of a model is read; `legs`, `order` and `raw` are never read from a mapping."""
    by_type: dict[Any, Callable[[Any], Any]] = {
        Decimal: to_decimal,
        dt.datetime: to_utc,
        dt.date: _to_date,
    }
    return {
        field.name: next((read for known, read in by_type.items() if holds(field.type, known)), _as_it_is)
        for field in msgspec.structs.fields(kind)
        if field.name not in {"legs", "order", "raw"}
    }


def _as_it_is(value: Any) -> Any:
    return value


def _to_date(value: object) -> dt.date:
    if isinstance(value, dt.date):
        return value
    if not isinstance(value, str):
        raise ValueError(f"not a date: {value!r}")  # noqa: TRY004 - one error class for unreadable text
    return dt.date.fromisoformat(value[:10])  # old rows carry a time behind the day


def _wall_time(day: dt.date, wall: str) -> dt.datetime:
    at = dt.datetime.strptime(wall.replace(":", ""), "%H%M").time()  # noqa: DTZ007 - a wall time, no zone
    return dt.datetime.combine(day, at, NEW_YORK).astimezone(dt.UTC)
