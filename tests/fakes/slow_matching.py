"""A second matching, written from the definitions alone: slow, with fractions, everything looked up by looking at all.

It shares no code with the product, so that both can only agree by being right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache

from coldharbour.live.model import Fill, MoveKind, OrderFact, ShareMove

ENDS = {"filled": "filled_at", "canceled": "canceled_at", "replaced": "replaced_at", "rejected": "failed_at"}
STAMPS = ("created_at", "submitted_at", *ENDS.values())
STOPS = {"stop", "stop_limit", "trailing_stop"}
FAR = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(eq=False)
class SlowLot:
    """A lot with all its entry fills, each as (shares, money)."""

    key: str
    sign: int
    born: tuple[datetime, str]
    left: Fraction = Fraction(0)
    shares: Fraction = Fraction(0)
    money: Fraction = Fraction(0)
    closings: list[tuple[Fill | ShareMove, Fraction]] = field(default_factory=list)
    ocos: list[str] = field(default_factory=list)
    last_entry: datetime = FAR

    @property
    def average(self) -> Fraction:
        """Money per share."""
        return self.money / self.shares


class SlowMatching:
    """The lots, rows and inventory of one symbol after everything."""

    def __init__(self, symbol: str, orders: list[OrderFact], fills: list[Fill], moves: list[ShareMove]) -> None:
        self.orders = {order.id: order for order in orders}
        for name in ("chain", "first", "last", "home", "kind"):
            setattr(self, name, cache(getattr(self, name)))
        self.lots: list[SlowLot] = []
        self.queue: list[list[Fraction]] = []  # FIFO: signed shares, price
        self.fifo: dict[str, list[Fraction]] = {}  # by exit order: shares, profit
        self.ties: dict[str, SlowLot | None] = {}
        self.snapshots: list[tuple[datetime, list[tuple[SlowLot, Fraction]]]] = []
        self.splits: list[tuple[datetime, Fraction]] = []
        self.fills = [fill for fill in fills if fill.symbol == symbol]
        own_orders = [order for order in orders if order.symbol == symbol]
        self.loose_stops = [o for o in own_orders if self.kind(o.id) == "SL" and self.home(o.id) is None]
        self.held, self.average_cost = Fraction(0), Fraction(0)
        own_moves = [move for move in moves if move.symbol == symbol]
        heads = {self.home(o.id) for o in own_orders if o.order_class == "oco"}
        ocos = [self.orders[self.first(head)] for head in heads if head is not None and self.is_oco(head)]
        events: list[tuple[datetime, int, str, Fill | ShareMove | OrderFact]] = []
        events += [(fill.at, 0, fill.id, fill) for fill in self.fills]
        events += [(move.at, 0, move.id, move) for move in own_moves]
        events += [(born(oco), 1, self.last(oco.id), oco) for oco in ocos]
        done: set[str] = set()
        for at, _, event_id, event in sorted(events, key=lambda entry: entry[:3]):
            if event_id in done:
                continue
            if isinstance(event, OrderFact):
                self.attach(event_id, event, at)
            elif isinstance(event, Fill):
                self.trade(event, Fraction(event.signed_qty), Fraction(event.price))
            elif event.kind is MoveKind.TRANSFER:
                self.trade(event, Fraction(event.qty), Fraction(event.price or 0))
            else:
                together = [move for move in own_moves if move.kind is MoveKind.SPLIT and move.at == at]
                done |= {move.id for move in together}
                self.split(event, sum((Fraction(move.qty) for move in together), Fraction(0)))
            self.snapshots.append((at, [(lot, lot.left) for lot in self.open()]))

    # Orders

    def chain(self, order_id: str) -> list[OrderFact]:
        """All orders joined by replacement, the oldest first."""
        found = {order_id}
        while True:
            more = set(found)
            for order in self.orders.values():
                links = [link for link in (order.id, order.replaces, order.replaced_by) if link]
                if found.intersection(links):
                    more.update(links)
            if more == found:
                break
            found = more
        members = [self.orders[member] for member in found if member in self.orders]
        return sorted(members, key=lambda o: (o.submitted_at or FAR, o.status == "rejected", len(o.id), o.id))

    def first(self, order_id: str) -> str:
        chain = self.chain(order_id)
        starts = [one for one in chain if not any(one.id == o.replaced_by or o.id == one.replaces for o in chain)]
        return starts[0].id if starts else order_id

    def last(self, order_id: str) -> str:
        if order_id not in self.orders:
            return order_id
        at = self.first(order_id)
        while True:
            after = [
                o for o in self.chain(order_id)
                if (o.replaces == at or self.orders[at].replaced_by == o.id) and o.status != "rejected"
            ]  # fmt: skip
            if not after:
                return at
            at = after[0].id

    def home(self, order_id: str) -> str | None:
        claims = {self.last(o.parent_id) for o in self.chain(order_id) if o.parent_id}
        if claims:
            parent = min(claims)
            return self.home(parent) or parent
        head = self.orders.get(self.first(order_id))
        return self.last(order_id) if head is not None and head.order_class == "oco" else None

    def is_oco(self, head: str) -> bool:
        return self.orders[self.first(head)].order_class == "oco" and not any(o.parent_id for o in self.chain(head))

    def kind(self, order_id: str) -> str | None:
        first = self.orders[self.first(order_id)]
        return "TP" if first.order_type == "limit" else "SL" if first.order_type in STOPS else None

    def is_live(self, order: OrderFact, at: datetime) -> bool:
        end = getattr(order, ENDS[order.status]) if order.status in ENDS else FAR
        return born(order) <= at < (end or FAR)

    def legs(self, lot: SlowLot) -> list[OrderFact]:
        homes = {self.last(lot.key) if lot.key in self.orders else lot.key, *lot.ocos}
        own = {o.id for o in self.chain(lot.key)} if lot.key in self.orders else set()
        return [
            o for o in self.orders.values()
            if self.home(o.id) in homes and o.is_buy == (lot.sign < 0) and o.id not in own
        ]  # fmt: skip

    def guarded(self, lot: SlowLot, at: datetime) -> bool:
        return any(self.is_live(leg, at) for leg in self.legs(lot))

    # Events

    def open(self) -> list[SlowLot]:
        """The open lots, the oldest first."""
        return sorted((lot for lot in self.lots if lot.left), key=lambda lot: lot.born)

    def position(self) -> Fraction:
        return sum((lot.left for lot in self.lots), Fraction(0))

    def attach(self, head: str, oco: OrderFact, at: datetime) -> None:
        lots = self.open() if oco.is_buy == (self.position() < 0) else []
        bare = [lot for lot in lots if not self.guarded(lot, at)]
        same = [lot for lot in bare if abs(lot.left) == Fraction(oco.qty or 0)]
        lot = next(iter([*same, *bare, *lots]), None)
        self.ties[head] = lot
        if lot is not None:
            lot.ocos.append(head)

    def own_lots(self, event: Fill | ShareMove) -> list[SlowLot]:
        if isinstance(event, ShareMove) or event.order_id not in self.orders:
            return []
        home = self.home(event.order_id)
        if home is None:
            return []
        if home in self.ties:
            return [lot for lot in [self.ties[home]] if lot is not None and lot.left]
        family = [o.id for o in self.chain(home)]
        return [lot for key in family for lot in self.open() if lot.key == key]

    def trade(self, event: Fill | ShareMove, qty: Fraction, price: Fraction) -> None:
        key = event.order_id if isinstance(event, Fill) else event.id
        self.trade_fifo(key, qty, price)
        self.average_in(qty, price)
        closing = qty if self.position() * qty < 0 else Fraction(0)
        for lot in self.own_lots(event) if closing else []:
            closing, qty = self.close(lot, event, closing, qty)
        strangers = self.open() if closing else []
        if isinstance(event, Fill):
            bare = [lot for lot in strangers if not self.guarded(lot, event.at)]
            strangers = [*bare, *(lot for lot in strangers if lot not in bare)]
        for lot in strangers:
            closing, qty = self.close(lot, event, closing, qty)
        if qty:
            lots = [lot for lot in self.lots if lot.key == key]
            if not lots:
                self.lots.append(SlowLot(key, 1 if qty > 0 else -1, (event.at, event.id)))
            lot = lots[0] if lots else self.lots[-1]
            lot.left, lot.shares, lot.money = lot.left + qty, lot.shares + abs(qty), lot.money + abs(qty) * price
            lot.last_entry = event.at

    def close(
        self, lot: SlowLot, event: Fill | ShareMove, closing: Fraction, qty: Fraction
    ) -> tuple[Fraction, Fraction]:
        part = min(abs(closing), abs(lot.left))
        if part:
            lot.closings.append((event, part))
            lot.left -= lot.sign * part
        return closing + lot.sign * part, qty + lot.sign * part

    def average_in(self, qty: Fraction, price: Fraction) -> None:
        """Average cost: adding moves it, reducing does not, a flip starts at its own price."""
        before, self.held = self.held, self.held + qty
        if before * qty >= 0:
            self.average_cost = (before * self.average_cost + qty * price) / self.held
        elif self.held * qty > 0:
            self.average_cost = price

    def trade_fifo(self, key: str, qty: Fraction, price: Fraction) -> None:
        while qty and self.queue and self.queue[0][0] * qty < 0:
            head = self.queue[0]
            part = min(abs(head[0]), abs(qty))
            sign = 1 if head[0] > 0 else -1
            sums = self.fifo.setdefault(key, [Fraction(0), Fraction(0)])
            sums[0] += part
            sums[1] += sign * part * (price - head[1])
            head[0] -= sign * part
            qty += sign * part
            if not head[0]:
                self.queue.pop(0)
        if qty:
            self.queue.append([qty, price])

    def split(self, event: ShareMove, change: Fraction) -> None:
        held = self.position()
        if held * (held + change) <= 0:
            self.trade(event, change, Fraction(0))
            return
        ratio = (held + change) / held
        self.splits.append((event.at, ratio))
        self.held, self.average_cost = self.held * ratio, self.average_cost / ratio
        for lot in self.lots:
            lot.left, lot.shares = lot.left * ratio, lot.shares * ratio
        for entry in self.queue:
            entry[0], entry[1] = entry[0] * ratio, entry[1] / ratio

    def ratio(self, after: datetime, until: datetime) -> Fraction:
        """How many shares one share became in a stretch of time."""
        product = Fraction(1)
        for at, ratio in self.splits:
            if after < at <= until:
                product *= ratio
        return product

    def rows(self) -> dict[tuple[str, str], tuple[SlowLot, list[tuple[Fill | ShareMove, Fraction]]]]:
        """What each exit order closed of each lot, fill by fill."""
        found: dict[tuple[str, str], tuple[SlowLot, list[tuple[Fill | ShareMove, Fraction]]]] = {}
        for lot in self.lots:
            for event, part in lot.closings:
                exit_id = event.order_id if isinstance(event, Fill) else event.id
                found.setdefault((lot.key, exit_id), (lot, []))[1].append((event, part))
        return found

    def initial_stop(self, lot: SlowLot, until: datetime) -> Fraction | None:
        firsts = {self.first(leg.id) for leg in self.legs(lot) if self.kind(leg.id) == "SL"}
        groups: list[str | None] = [self.last(lot.key), *lot.ocos]
        stops = (self.orders[first] for first in firsts)
        oldest = min(stops, key=lambda o: (groups.index(self.home(o.id)), born(o), o.id), default=None)
        if oldest is None or oldest.stop_price is None:
            return None
        return Fraction(oldest.stop_price) / self.ratio(born(oldest), until)

    def belongs(self, lot_key: str, exit_id: str) -> tuple[str | None, str]:
        """The parent of an exit order, and how it closed a lot."""
        home = self.home(exit_id) if exit_id in self.orders else None
        if home is None:
            return None, "MANUAL"
        tied = self.ties.get(home)
        parent = tied.key if tied is not None else None if home in self.ties else home
        family = {parent} if home in self.ties else {parent, *(order.id for order in self.chain(home))}
        return parent, (self.kind(exit_id) if lot_key in family else None) or "MANUAL"

    # Exposure

    def protected_at(self, lot: SlowLot, at: datetime) -> bool:
        if any(self.kind(leg.id) == "SL" and self.is_live(leg, at) for leg in self.legs(lot)):
            return True
        held = [pairs for moment, pairs in self.snapshots if moment <= at][-1]
        bare = [
            (other, left) for other, left in held
            if not any(self.kind(leg.id) == "SL" and self.is_live(leg, at) for leg in self.legs(other))
        ]  # fmt: skip
        available = self.loose_quantity(lot, at)
        for other, left in bare:
            if abs(left) > available:
                return False
            if other is lot:
                return True
            available -= abs(left)
        return False

    def loose_quantity(self, lot: SlowLot, at: datetime) -> Fraction:
        untied = {head for head, tied in self.ties.items() if tied is None}
        of_untied = [o for o in self.orders.values() if self.home(o.id) in untied and self.kind(o.id) == "SL"]
        stops = [*self.loose_stops, *of_untied]
        total = Fraction(0)
        for first in {self.first(o.id) for o in stops if o.is_buy == (lot.sign < 0)}:
            live = [o for o in self.chain(first) if self.is_live(o, at)]
            if live:
                fills = [fill for fill in self.fills if fill.order_id == live[0].id and fill.at <= at]
                filled = sum((Fraction(fill.qty) for fill in fills), Fraction(0))
                total += max(Fraction(live[0].qty or 0) - filled, Fraction(0))
        return total

    def unprotected(self, lot: SlowLot, until: datetime | None) -> tuple[float, datetime | None]:
        """Seconds without a stop, and since when there is none now (until None: as of the last stamp of all)."""
        begin = lot.born[0]
        stamps = {getattr(order, name) for order in self.orders.values() for name in STAMPS}
        stamps |= {moment for moment, _ in self.snapshots}
        cuts = sorted({begin, *(s for s in stamps if s is not None and begin < s and (until is None or s < until))})
        gaps = timedelta(0)
        since: datetime | None = None
        for at, after in zip(cuts, [*cuts[1:], until], strict=True):
            if self.protected_at(lot, at):
                since = None
                continue
            if since is None:
                since = at
                gap_before = gaps
            if after is not None:
                gaps += after - at
        if until is None and since is not None:
            return gap_before.total_seconds(), since
        return gaps.total_seconds(), None


def born(order: OrderFact) -> datetime:
    """When an order was created."""
    return order.created_at or FAR


def near(left: Decimal, right: Fraction) -> bool:
    """Whether a decimal is a fraction, to nine digits."""
    size = max(abs(right), Fraction(1))
    return abs(Fraction(left) - right) <= size / 10**9
