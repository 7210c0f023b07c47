"""The price book: every symbol's last eligible price in memory; opens no socket, knows no account and no lot.

Ticks come in slices. What a slice did to a symbol is told to each watch that follows it, once; so neither memory
nor the work of the readers grows with the rate of the tape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog

from coldharbour.clock import Clock
from coldharbour.feed.conditions import ConditionRule, Needs, may_set_price
from coldharbour.feed.model import UNREADABLE, LastPrice, Malformed, Trade, decode, read_trade
from coldharbour.feed.watch import Span, Watch

LEAST, MOST = 0.9, 1.1  # of the last price: what needs no confirmation
HALF, DOUBLE = 0.5, 2.0  # of the last price: what no market does between two trades, but for a reverse split
PRINTS, PRINTS_FAR = 2, 5  # that must agree on a price away from the last one, within and beyond those bounds
MAX_SYMBOLS = 50_000  # four times what trades in the United States
MAX_SYMBOL_LENGTH = 32
AHEAD = timedelta(seconds=5)  # a stamp further in the future says nothing about what is late
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counts:
    """How many messages the book took, and why it took the others not.

    malformed: no trade. excluded: by their conditions. invalid: prices that are no positive number. late: older
    than the symbol's last trade. unconfirmed: far off the last price, and not followed by others there.
    crowded: of symbols beyond the most that are kept.
    """

    taken: int = 0
    malformed: int = 0
    excluded: int = 0
    invalid: int = 0
    late: int = 0
    unconfirmed: int = 0
    crowded: int = 0

    @property
    def rejected(self) -> int:
        """How many set no price."""
        return self.malformed + self.excluded + self.invalid + self.late + self.unconfirmed + self.crowded


class Entry:
    """One symbol: its last trade, what the current slice did, and a price that waits for confirmation.

    price: NaN before the first. prints: how many agree on the suspect, which counts as long as `base`, the stamp of
    the trade that it contradicts, is still the last one.
    """

    __slots__ = (
        "at", "base", "first_at", "high", "low", "previous", "price", "prints", "received_at", "slice", "spans",
        "suspect", "suspect_at", "symbol",
    )  # fmt: skip

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.price = self.previous = self.high = self.low = self.suspect = math.nan
        self.at = self.first_at = self.received_at = self.suspect_at = self.base = LONG_AGO
        self.slice = self.prints = 0
        self.spans: tuple[Span, ...] = ()

    def last(self) -> LastPrice | None:
        """Return the last price, None before the first."""
        if math.isnan(self.price):
            return None
        previous = None if math.isnan(self.previous) else _exact(self.previous)
        return LastPrice(self.symbol, _exact(self.price), self.at, self.received_at, previous)


class Prices:
    """The last prices of the whole stream; made and fed by whoever holds the socket, read by all accounts."""

    def __init__(self, clock: Clock, *, exclude_conditions: Iterable[str] = (), max_silence_s: float = 15) -> None:
        self.clock = clock
        self.max_silence_s = max_silence_s
        self.counts = Counts()
        self.heard_at: datetime | None = None  # when the newest price came
        self.hearing_since: datetime | None = None  # since when there was no silence
        self._conditions = ConditionRule(exclude_conditions)
        self._entries: dict[str, Entry] = {}
        self._watches: list[Watch] = []
        self._slice = 0
        self._heard_s = clock.monotonic()
        self._was_silent = False

    def last(self, symbol: str) -> LastPrice | None:
        """Return a symbol's last price, None if none is known."""
        entry = self._entries.get(symbol)
        return entry.last() if entry else None

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Lend a watch for the block: one reader's list of symbols, and what happened to them."""
        watch = Watch(self._entry)
        self._watches.append(watch)
        try:
            yield watch
        finally:
            watch.follow(())
            self._watches.remove(watch)

    def seed(self, symbol: str, price: Decimal, at: datetime) -> bool:
        """Take a price from elsewhere than the stream unless a newer one is known; say whether it was taken."""
        entry, value = self._entry(symbol), float(price)
        if not _is_price(value) or (at <= entry.at and not math.isnan(entry.price)):
            return False
        entry.previous, entry.price, entry.at, entry.received_at = entry.price, value, at, self.clock.now()
        for span in entry.spans:
            span.tell()
        return True

    def interrupt(self) -> None:
        """Note that trades may have been missed from here on, until the next one comes."""
        self.hearing_since = None

    @property
    def silent_s(self) -> float:
        """Seconds since the stream brought a price, or since it was opened."""
        return self.clock.monotonic() - self._heard_s

    @property
    def is_silent(self) -> bool:
        """Whether the whole stream has been silent for too long."""
        return self.silent_s > self.max_silence_s

    def report_silence(self) -> None:
        """Log once that the stream went silent, with what was refused meanwhile; call it now and then."""
        if self.is_silent and not self._was_silent:
            self._was_silent = True
            counts = {name: number for name, number in asdict(self.counts).items() if number}
            log.warning("feed.silent", silent_s=round(self.silent_s), limit_s=self.max_silence_s, **counts)

    def take_in(self, messages: Sequence[bytes]) -> None:
        """Take a slice of the stream, in order. What cannot set a price is counted, and nothing raises.

        One loop without calls for the trades that raise no question: here the rate is decided.
        """
        entries, known = self._entries, self._conditions.known
        nothing, impossible = Needs.NOTHING, Needs.IMPOSSIBLE
        self._slice = number = self._slice + 1
        touched: list[Entry] = []
        rejected = self.counts.rejected
        for trade in self._read(messages):
            needed = known.get(trade.conditions)
            if needed is impossible:  # most of the tape is odd lots
                self.counts.excluded += 1
                continue
            price, at = trade.price, trade.timestamp
            entry = entries.get(trade.symbol)
            if entry is None or not LEAST < price / entry.price < MOST or at < entry.at or needed is not nothing:
                entry = self._examine(trade)
                if entry is None:
                    continue
            if entry.slice != number:
                entry.slice = number
                entry.previous, entry.high, entry.low, entry.first_at = entry.price, price, price, at
                touched.append(entry)
            elif price > entry.high:
                entry.high = price
            elif price < entry.low:
                entry.low = price
            entry.price, entry.at = price, at
        self.counts.taken += len(messages) - (self.counts.rejected - rejected)
        if touched:
            self._tell(touched)

    def _read(self, messages: Sequence[bytes]) -> Iterable[Trade]:
        try:
            return [decode(message).trade for message in messages]
        except UNREADABLE:  # at least one is written otherwise, or is none
            return [trade for message in messages if (trade := self._read_one(message))]

    def _read_one(self, message: bytes) -> Trade | None:
        try:
            return decode(message).trade
        except UNREADABLE:
            try:
                return read_trade(message)
            except Malformed:
                self.counts.malformed += 1
                return None

    def _tell(self, touched: Iterable[Entry]) -> None:
        now, silent_s = self.clock.now(), self.silent_s
        self._heard_s = self.clock.monotonic()
        if self.hearing_since is None or silent_s > self.max_silence_s:
            self.hearing_since = now
        self.heard_at = now
        if self._was_silent:
            self._was_silent = False
            log.info("feed.recovered", silent_s=round(silent_s))
        for entry in touched:
            entry.received_at = now
            for span in entry.spans:
                span.fold()

    def _examine(self, trade: Trade) -> Entry | None:
        """Return the entry whose price this trade may set, None, and count why, if it may set none."""
        entry = self._entries.get(trade.symbol)
        if not self._is_eligible(trade):
            self.counts.excluded += 1
        elif not _is_price(trade.price):
            self.counts.invalid += 1
        elif entry is None and (len(self._entries) >= MAX_SYMBOLS or len(trade.symbol) > MAX_SYMBOL_LENGTH):
            self.counts.crowded += 1
        elif self._is_late(trade, entry := entry or self._entry(trade.symbol)):
            self.counts.late += 1
        elif not _is_plausible(trade, entry):
            self.counts.unconfirmed += 1
        else:
            return entry
        return None

    def _is_eligible(self, trade: Trade) -> bool:
        needed = self._conditions.needs(trade.conditions)
        is_regular = Needs.EXTENDED_HOURS in needed and any(
            watch.is_regular(trade.timestamp) for watch in self._watches
        )
        return may_set_price(needed, tape=trade.tape, regular_hours=is_regular)

    def _is_late(self, trade: Trade, entry: Entry) -> bool:
        return trade.timestamp < entry.at <= self.clock.now() + AHEAD

    def _entry(self, symbol: str) -> Entry:
        entry = self._entries.get(symbol)
        if entry is None:
            entry = self._entries[symbol] = Entry(symbol)
        return entry


def _exact(price: float) -> Decimal:
    """Return the number that was published: a float's shortest text is the text it was read from."""
    return Decimal(repr(price))


def _is_price(price: float) -> bool:
    return 0 < price < math.inf


def _is_plausible(trade: Trade, entry: Entry) -> bool:
    """Say whether a price is near the last one, or enough prints in a row agree on it that nothing contradicted.

    Without a last price there is nothing to be near to, so the first one waits for its confirmation too. A
    confirmation is a later trade: the same one sent twice is none.
    """
    ratio = trade.price / entry.price
    if LEAST < ratio < MOST:
        return True
    is_confirmation = (
        entry.base is entry.at and trade.timestamp > entry.suspect_at and LEAST < trade.price / entry.suspect < MOST
    )
    entry.prints = entry.prints + 1 if is_confirmation else 1
    entry.suspect, entry.suspect_at, entry.base = trade.price, trade.timestamp, entry.at
    return entry.prints >= (PRINTS_FAR if ratio < HALF or ratio > DOUBLE else PRINTS)
