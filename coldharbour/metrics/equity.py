"""Daily equity: the ledger replayed session by session, from its first activity or from any session's end; pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from coldharbour.activity_types import FILL, PERFORMANCE
from coldharbour.live.cash import Activity, cash_effect, counted_day, is_external, moment_of, move_kind, share_effect
from coldharbour.live.model import ZERO, MoveKind
from coldharbour.metrics import performance
from coldharbour.metrics.model import DayEnd, EquityPoint

Closes = Mapping[str, Mapping[date, Decimal]]  # by symbol and session day, per share, not adjusted for anything

Paid = tuple[datetime, str, Decimal]  # when, the fill's id, price per share

NO_CLOSES: Final[Mapping[date, Decimal]] = {}


@dataclass(slots=True)
class SessionBook:
    """What the activities of one session changed, those of the days without a session before it included.

    cash: all cash effects. flows: the external ones among them. moves: signed shares by symbol, transfers
    included. transfers: those of them that came from another account or went there, and did not come back. splits:
    those that a corporate action made or took. paid: by symbol, its newest fill. buy_volume, sell_volume: money traded,
    positive.
    """

    session_date: date
    cash: Decimal = ZERO
    flows: Decimal = ZERO
    moves: dict[str, Decimal] = field(default_factory=dict)
    transfers: dict[str, Decimal] = field(default_factory=dict)
    splits: dict[str, Decimal] = field(default_factory=dict)
    paid: dict[str, Paid] = field(default_factory=dict)
    buy_volume: Decimal = ZERO
    sell_volume: Decimal = ZERO


def daily_equity(
    activities: Iterable[Activity],
    closes: Closes,
    sessions: Sequence[date],
    *,
    performance_types: Set[str] = PERFORMANCE,
    closed_through: date = date.max,
    start: DayEnd | None = None,
    rf: float = 0.0,
) -> list[EquityPoint]:
    """Return the account at the close of every session, from the one of its first activity.

    activities: in any order, those of the broker or of the lake, as far as `counted_day` lets them count. closes: by
    symbol and session day, per share, raw: a split changes the quantity. The last one known is carried forward
    (through a split in proportion, since it is worth nothing); a symbol that has none makes its days incomplete,
    names itself there and leaves its value out. sessions: days on which the market opens, ascending; what happens
    between two of them counts in the later one, what happens after the last in none. performance_types: the
    activity types that change profit; all other cash is an external flow. closed_through: the last session that has
    closed; the points of later ones are provisional, and what their own fills paid is newer than any close before.
    start: go on behind this session instead of beginning; then neither earlier activities nor earlier sessions are
    looked at, and the points are those that a replay of everything would give. rf: riskless return of one day, a
    fraction.

    Money is exact and unrounded, in account currency; returns are fractions. Source: domain.md 6, 7 Daily.

    >>> from coldharbour.live.cash import AccountActivity
    >>> monday, tuesday = date(2026, 10, 5), date(2026, 10, 6)
    >>> history = [
    ...     AccountActivity("1", "CSD", date=monday, net_amount=Decimal(1000)),
    ...     AccountActivity("2", "FILL", date=tuesday, symbol="KO", side="buy", qty=Decimal(10), price=Decimal(60)),
    ... ]
    >>> [point.deposit for point in daily_equity(history, {"KO": {tuesday: Decimal(63)}}, [monday, tuesday])]
    [Decimal('1000'), Decimal('1030')]
    """
    after = start.point.session_date if start else None
    books = book_sessions(activities, sessions, performance_types=performance_types, after=after)
    return [end.point for end in replay(books, closes, start=start, closed_through=closed_through, rf=rf)]


def book_sessions(
    activities: Iterable[Activity],
    sessions: Sequence[date],
    *,
    performance_types: Set[str] = PERFORMANCE,
    after: date | None = None,
) -> list[SessionBook]:
    """Return one book per session, from the first activity's or the first one behind `after`, to the last.

    Without any activity there is no first session, unless `after` gives one. Source: domain.md 6, 7.
    """
    books = SessionBooks(sessions, performance_types=performance_types, after=after)
    books.add(activities)
    return books.begun()


class SessionBooks:
    """The books of sessions while activities come in, in any order and in pieces; see `book_sessions`."""

    def __init__(
        self, sessions: Sequence[date], *, performance_types: Set[str] = PERFORMANCE, after: date | None = None
    ) -> None:
        self._first = 0 if after is None else bisect_right(sessions, after)
        self._sessions, self._after, self._performance_types = sessions, after, performance_types
        self._books = [SessionBook(day) for day in sessions[self._first :]]
        self._places: dict[date, int] = {}
        self._begins = len(self._books) if after is None else 0

    def add(self, activities: Iterable[Activity]) -> None:
        """Book activities into the sessions in which they count."""
        for activity in activities:
            day = counted_day(activity)
            if day is None or (self._after is not None and day <= self._after):
                continue
            place = self._places.get(day)
            if place is None:
                place = self._places[day] = bisect_left(self._sessions, day, self._first) - self._first
            if place < len(self._books):
                self._begins = min(self._begins, place)
                _book(self._books[place], activity, self._performance_types)

    def begun(self) -> list[SessionBook]:
        """Return the books from the first session on."""
        return self._books[self._begins :]


def needed_closes(books: Sequence[SessionBook], start: DayEnd | None = None) -> dict[str, tuple[date, date]]:
    """Return the first and the last session at whose close each symbol needs a price: it was held, or transferred."""
    held = dict(start.quantities) if start else {}
    needed: dict[str, tuple[date, date]] = {}
    for book in books:
        _move(held, book.moves)
        for symbol in {**held, **book.transfers}:
            first, _ = needed.get(symbol, (book.session_date, None))
            needed[symbol] = (first, book.session_date)
    return needed


def replay(
    books: Iterable[SessionBook],
    closes: Closes,
    *,
    start: DayEnd | None = None,
    closed_through: date = date.max,
    rf: float = 0.0,
) -> Iterator[DayEnd]:
    """Yield the end of each session, each continued from the one before; see `daily_equity`. Source: domain.md 7."""
    end = start
    for book in books:
        end = close_session(end, book, closes, provisional=book.session_date > closed_through, rf=rf)
        yield end


def close_session(
    before: DayEnd | None, book: SessionBook, closes: Closes, *, provisional: bool = False, rf: float = 0.0
) -> DayEnd:
    """Return the end of one session; `before` is that of the session before, None at the very first.

    Source: domain.md 7 Daily.
    """
    held = dict(before.quantities) if before else {}
    known = split_prices(before.prices, held, book.splits) if before else {}
    if provisional:
        known |= {symbol: price for symbol, (_, _, price) in book.paid.items()}
    _move(held, book.moves)
    prices, missing = _prices({**held, **book.transfers}, known, closes, book.session_date)
    cash = (before.point.cash if before else ZERO) + book.cash
    value = worth(held, prices)
    flows = book.flows + worth(book.transfers, prices)
    gained = performance.daily_return(cash + value, before.point.deposit, flows) if before else 0.0
    growth = (before.growth if before else 1.0) * (1 + gained)
    peak = max(before.peak if before else 1.0, growth)
    returns = (*(before.returns if before else ()), gained)[-performance.WINDOWS[-1] :]
    point = EquityPoint(
        session_date=book.session_date,
        cash=cash,
        market_value=value,
        deposit=cash + value,
        net_flows=flows,
        daily_return=gained,
        cumulative_return=growth - 1,
        drawdown=growth / peak - 1,
        ratios=performance.ratios(returns, rf),
        complete=not missing,
        provisional=provisional,
        missing_symbols=missing,
        buy_volume=book.buy_volume,
        sell_volume=book.sell_volume,
    )
    return DayEnd(
        point=point,
        quantities=held,
        prices={symbol: prices[symbol] for symbol in held if symbol in prices},
        growth=growth,
        peak=peak,
        returns=returns,
    )


def _book(book: SessionBook, activity: Activity, performance_types: Set[str]) -> None:
    kind, amount, shares = activity.activity_type, cash_effect(activity), share_effect(activity)
    book.cash += amount
    if shares and activity.symbol:
        _add(book.moves, activity.symbol, shares)
    if kind == FILL:
        if shares > 0:
            book.buy_volume -= amount
        else:
            book.sell_volume += amount
        _note_price(book.paid, activity)
        return
    if is_external(kind, performance_types):
        book.flows += amount
    if shares and activity.symbol:
        if move_kind(kind) is MoveKind.TRANSFER:
            _move(book.transfers, {activity.symbol: shares})
        else:
            _add(book.splits, activity.symbol, shares)


def _note_price(paid: dict[str, Paid], fill: Activity) -> None:
    at = moment_of(fill)
    if at is not None and fill.price:
        newest = at, fill.id, fill.price
        paid[fill.symbol] = max(paid.get(fill.symbol, newest), newest)


def split_prices(
    prices: Mapping[str, Decimal], held: Mapping[str, Decimal], splits: Mapping[str, Decimal]
) -> dict[str, Decimal]:
    """Return what a share is worth after its holding became another number of shares, as much in all as before.

    prices: per share before. held: signed shares before. splits: signed shares added. Source: domain.md 6.

    >>> split_prices({"KO": Decimal(60)}, {"KO": Decimal(10)}, {"KO": Decimal(20)})
    {'KO': Decimal('20')}
    """
    return {symbol: price * held[symbol] / (held[symbol] + splits[symbol])
            if symbol in splits and held.get(symbol) and held[symbol] + splits[symbol] else price
            for symbol, price in prices.items()}  # fmt: skip


def _add(shares: dict[str, Decimal], symbol: str, qty: Decimal) -> None:
    shares[symbol] = shares.get(symbol, ZERO) + qty


def _move(held: dict[str, Decimal], moves: Mapping[str, Decimal]) -> None:
    """Add signed shares to what is held; what becomes nothing is held no longer."""
    for symbol, shares in moves.items():
        _add(held, symbol, shares)
        if not held[symbol]:
            del held[symbol]


def _prices(
    symbols: Iterable[str], known: Mapping[str, Decimal], closes: Closes, day: date
) -> tuple[dict[str, Decimal], tuple[str, ...]]:
    """Return each symbol's close of the day, else the last one known, and which symbols have none."""
    prices, missing = {}, []
    for symbol in symbols:
        series = closes.get(symbol, NO_CLOSES)
        price = series.get(day) or known.get(symbol) or _newest(series, day)
        if price is None:
            missing.append(symbol)
        else:
            prices[symbol] = price
    return prices, tuple(sorted(missing))


def _newest(series: Mapping[date, Decimal], day: date) -> Decimal | None:
    """Return the newest close up to a day: of a symbol that came without one."""
    newest = max((known for known in series if known <= day), default=None)
    return None if newest is None else series[newest]


def worth(shares: Mapping[str, Decimal], prices: Mapping[str, Decimal]) -> Decimal:
    """Return the sum of qty*price over the symbols that have a price; short positions count negative."""
    return sum((qty * prices[symbol] for symbol, qty in shares.items() if symbol in prices), ZERO)
