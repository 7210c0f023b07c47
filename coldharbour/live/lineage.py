"""Which exit belongs to which entry: orders tied by nesting and by replacement, as evidence arrives; never a fill.

Source: domain.md 3. The evidence comes in any order and from either end of a link; what it proves is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter

from coldharbour.live import liveness
from coldharbour.live.collector import no_collections
from coldharbour.live.legs import OCO, STOPS, Leg, chained_leg, earliest_expiry, kind_of, lone_leg
from coldharbour.live.model import ExitType, OrderFact
from coldharbour.live.replacements import Chain, Replacements, everything_from
from coldharbour.live.strays import Strays

by_age = attrgetter("age")

LegSpan = tuple[bool, datetime, datetime | None]  # whether it buys, from when, until when


class Lineage:
    """The orders of an account and how they hang together; orders may be added, and stated anew, at any time.

    >>> entry = OrderFact(id="P", symbol="KO", is_buy=True, order_type="market", order_class="bracket", status="filled")
    >>> stop = OrderFact(id="S1", symbol="KO", is_buy=False, order_type="stop", order_class="bracket",
    ...                  status="replaced", stop_price=Decimal(9), parent_id="P", replaced_by="S2")
    >>> moved = OrderFact(id="S2", symbol="KO", is_buy=False, order_type="stop", order_class="bracket",
    ...                   status="new", stop_price=Decimal(10), replaces="S1")
    >>> lineage = Lineage([entry, stop, moved])
    >>> lineage.parent("S2"), lineage.latest("S1"), lineage.initial_stop("P")
    ('P', 'S2', Decimal('9'))
    """

    # homes: what `home` found out so far. entangled: the orders that a replacement or an OCO may tie to others.

    def __init__(self, orders: Iterable[OrderFact] = ()) -> None:
        self._orders: dict[str, OrderFact] = {}
        self._replacements = Replacements(self._orders)
        self._nested: dict[str, list[str]] = {}  # by parent: the orders seen under it
        self._ocos: dict[str, None] = {}
        self._strays = Strays()
        self.homes: dict[str, str | None] = {}
        self.entangled = self._replacements.linked
        self._legs: dict[str, tuple[Leg, ...]] = {}
        self._leg_spans: dict[str, list[LegSpan]] = {}
        self._faults: dict[str, str] = {}
        self._unchecked: dict[str, None] = {}
        with no_collections():
            for order in orders:
                self.add(order)

    def add(self, order: OrderFact) -> frozenset[str]:
        """Take an order in, new or stated anew; return the orders whose parent may be another one now.

        Whoever adds an older statement after a newer one gets the older one: the lake keeps the newest.
        """
        known = self._orders.get(order.id)
        if known is None and self._is_plain(order):
            return self._add_plain(order)
        if known == order:
            return frozenset()
        if known is not None and _ties(known) == _ties(order):
            self._orders[order.id] = order
            self._forget_legs((order.id,))
            self._note_stray(order.id)
            return frozenset()
        touched = set() if known is None else self._below(order.id)
        self._forget_legs(touched)
        if known is not None:
            self._untie(known)
        self._orders[order.id] = order
        self._tie(order)
        touched |= self._below(order.id)
        for member in touched:
            self.homes.pop(member, None)
            self._note_stray(member)
        self._replacements.forget(touched)
        self._forget_legs(touched)
        self._unchecked.update(dict.fromkeys(touched))
        return frozenset(touched)

    def _is_plain(self, order: OrderFact) -> bool:
        """Return whether a new order has no link at all, and no tie but to a parent that has none itself."""
        return (
            order.replaces is None
            and order.replaced_by is None
            and order.order_class != OCO
            and order.id not in self.entangled
            and order.id not in self._nested
            and (order.parent_id is None or self._is_plain_parent(order.parent_id, order.id))
        )

    def _is_plain_parent(self, parent_id: str, order_id: str) -> bool:
        return parent_id != order_id and parent_id not in self.entangled and self.homes.get(parent_id) is None

    def _add_plain(self, order: OrderFact) -> frozenset[str]:
        self._orders[order.id] = order
        self.homes[order.id] = parent_id = order.parent_id
        if parent_id is not None:
            self._add_plain_leg(parent_id, order)
        elif order.order_type in STOPS:
            self._strays.put(order)
        return frozenset((order.id,))

    def _add_plain_leg(self, parent_id: str, order: OrderFact) -> None:
        legs = self._nested.setdefault(parent_id, [])
        legs.append(order.id)
        self._legs.pop(parent_id, None)
        spans = self._leg_spans.setdefault(parent_id, []) if len(legs) == 1 else self._leg_spans.get(parent_id)
        if spans is not None and (span := liveness.lifespan(order)) is not None:
            spans.append((order.is_buy, *span))

    def order(self, order_id: str) -> OrderFact | None:
        """Return what is known of an order, None if it is unknown."""
        return self._orders.get(order_id)

    def parent(self, order_id: str) -> str | None:
        """Return the entry order whose exit this is, None for an entry, an OCO and whatever cannot be tied (yet).

        That is the latest successor of the order under which any order of the chain was seen, at any depth of
        replacement and nesting. Of parents that contradict each other the smallest id is taken.
        """
        home = self.home(order_id)
        return None if home is None or self.is_oco(home) else home

    def home(self, order_id: str) -> str | None:
        """Return the parent of an exit order, or the head of its OCO; None for an order that is no leg of either."""
        try:
            return self.homes[order_id]
        except KeyError:
            home = self.homes[order_id] = self._find_home(order_id)
            return home

    def is_oco(self, order_id: str) -> bool:
        """Return whether an order begins an OCO that was attached to a position: both exits, and no parent."""
        head = self._orders.get(self.chain(order_id).first)
        return head is not None and head.order_class == OCO and self.home(order_id) == self.latest(order_id)

    def latest(self, order_id: str) -> str:
        """Return the latest known successor of an order, itself if it was not replaced.

        A replacement that was rejected succeeds nothing while the order it was to replace lives on. Of a circle,
        which has no end, the smallest id.
        """
        return self._replacements.chain(order_id).last

    def first(self, order_id: str) -> str:
        """Return the earliest known order of a chain of replacements."""
        return self._replacements.chain(order_id).first

    def kind(self, order_id: str) -> ExitType | None:
        """Return whether an order takes profit or stops loss: what its chain's first order was. None for neither."""
        return kind_of(self._orders.get(self.first(order_id)))

    def chain(self, order_id: str) -> Chain:
        """Return the chain of replacements that an order is in, of itself alone where it stands alone."""
        return self._replacements.chain(order_id)

    def legs(self, order_id: str) -> tuple[Leg, ...]:
        """Return the exits of a parent, or both exits of an OCO, each as its whole chain; the oldest first."""
        home = self.latest(order_id)
        legs = self._legs.get(home)
        if legs is None:
            legs = self._legs[home] = self._find_legs(home)
        return legs

    def is_guarded(self, order_id: str, at: datetime, *, by_buys: bool) -> bool:
        """Return whether a parent, or an OCO, had a live leg on one side at a moment. by_buys: which side."""
        for is_buy, start, end in self._spans(order_id):
            if is_buy == by_buys and start <= at and (end is None or at < end):
                return True
        return False

    def _spans(self, order_id: str) -> Sequence[LegSpan]:
        """Return when the legs of a parent or an OCO were live; kept, since every exit by hand asks for it."""
        home = self.latest(order_id)
        spans = self._leg_spans.get(home)
        if spans is None:
            spans = [(leg.first.is_buy, start, end) for leg in self.legs(home) for start, end in leg.spans]
            self._leg_spans[home] = spans
        return spans

    def _is_plain_family(self, parent_id: str) -> bool:
        """Return whether no order of a family was ever replaced, and none of its legs has legs."""
        nested = self._nested.get(parent_id, ())
        return (
            parent_id not in self.entangled
            and self.home(parent_id) is None
            and all(leg not in self.entangled and leg not in self._nested and leg != parent_id for leg in nested)
        )

    def initial_stop(self, parent_id: str) -> Decimal | None:
        """Return the stop price, per share, with which a parent was created; None if it had no stop.

        Source: domain.md 9.
        """
        return next((leg.first.stop_price for leg in self.legs(parent_id) if leg.kind is ExitType.STOP_LOSS), None)

    def is_live(self, order_id: str, at: datetime) -> bool:
        """Return whether any order of a chain was live at a moment, from the orders' own stamps."""
        members = map(self._orders.get, self.chain(order_id).members)
        return any(liveness.was_live(order, at) for order in members if order is not None)

    def expiry(self, parent_id: str) -> datetime | None:
        """Return the earliest expiry among the live legs of a parent; None without one. Source: domain.md 3."""
        return earliest_expiry(self.legs(parent_id))

    def ocos(self) -> list[str]:
        """Return the heads of the OCOs that were attached to a position."""
        return sorted(head for head in {self.latest(order_id) for order_id in self._ocos} if self.is_oco(head))

    def loose_stops(self, symbol: str, since: datetime) -> list[Leg]:
        """Return a symbol's stops that are nobody's leg and were live at some time after a moment, as whole chains."""
        live = (order_id for order_id in self._strays.live_since(symbol, since) if self.home(order_id) is None)
        legs = (self._leg(chain) for chain in {self.chain(order_id) for order_id in live})
        return sorted((leg for leg in legs if leg.kind is ExitType.STOP_LOSS), key=by_age)

    def problems(self) -> tuple[tuple[str, str], ...]:
        """Return what is wrong with the links, as (order id, text): circles, missing orders, contradictions."""
        for order_id in self._unchecked:
            self._faults.pop(order_id, None)
            if fault := self._fault(order_id):
                self._faults[order_id] = fault
        self._unchecked.clear()
        return tuple(sorted(self._faults.items()))

    # The indexes

    def _tie(self, order: OrderFact) -> None:
        self._replacements.tie(order)
        if order.parent_id is not None:
            self._nested.setdefault(order.parent_id, []).append(order.id)
        if order.order_class == OCO:
            self._ocos[order.id] = None
            self.entangled.add(order.id)

    def _untie(self, order: OrderFact) -> None:
        self._replacements.untie(order)
        if order.parent_id is not None:
            self._nested[order.parent_id].remove(order.id)
        self._ocos.pop(order.id, None)

    def _note_stray(self, order_id: str) -> None:
        """Have an order among the strays if it may be nobody's stop; what replaced a stop may be of any kind."""
        order = self._orders.get(order_id)
        if order is None or order.parent_id is not None or order.order_class == OCO:
            self._strays.drop(order_id)
        elif order.order_type in STOPS or order_id in self.entangled:
            self._strays.put(order)

    def _below(self, order_id: str) -> set[str]:
        """Return an order, all that replaced it or were replaced by it, and whatever hangs under any of those."""
        return everything_from(
            order_id, lambda member: (*self._replacements.neighbours(member), *self._nested.get(member, ()))
        )

    def _forget_legs(self, members: Iterable[str]) -> None:
        for member in members:
            for head in (member, self.latest(member), self.home(member)):
                if head is not None:
                    self._legs.pop(head, None)
                    self._leg_spans.pop(head, None)

    # Families

    def _find_home(self, order_id: str) -> str | None:
        chain = self.chain(order_id)
        seen = {chain.last}
        while claims := self._claims(chain):
            parent = self.chain(min(self.latest(claim) for claim in claims))
            if parent.last in seen:
                break
            seen.add(parent.last)
            chain = parent
        if len(seen) > 1:
            return chain.last
        head = self._orders.get(chain.first)
        return chain.last if head is not None and head.order_class == OCO else None

    def _claims(self, chain: Chain) -> set[str]:
        members = map(self._orders.get, chain.members)
        claims = {order.parent_id for order in members if order is not None and order.parent_id is not None}
        return {claim for claim in claims if self.latest(claim) != chain.last}

    def _find_legs(self, home: str) -> tuple[Leg, ...]:
        if self._is_plain_family(home):
            plain = (lone_leg(self._orders[leg]) for leg in self._nested.get(home, ()))
            return tuple(sorted(plain, key=by_age))
        own = self.chain(home)
        chains = {self.chain(member) for member in self._below(home) if self.home(member) == home}
        if not self.is_oco(home):
            chains.discard(own)
        return tuple(sorted((self._leg(chain) for chain in chains), key=by_age))

    def _leg(self, chain: Chain) -> Leg:
        path, others = (
            [self._orders[member] for member in members if member in self._orders]
            for members in (chain.path, chain.others)
        )
        return chained_leg(path, others)

    # Faults

    def _fault(self, order_id: str) -> str | None:
        order = self._orders.get(order_id)
        if order is None:
            return None
        if order_id in (order.replaces, order.replaced_by):
            return f"order {order_id} is said to replace itself"
        for verb, other in (("replaces", order.replaces), ("was replaced by", order.replaced_by)):
            if other is not None and other not in self._orders:
                return f"order {order_id} {verb} {other}, which is unknown"
        chain = self.chain(order_id)
        if chain.last == order_id and self._replacements.successor(order_id) is not None:
            return f"order {order_id} is in a circle of replacements: {', '.join(chain.path)}"
        if chain.first == order_id and len(claims := {self.latest(claim) for claim in self._claims(chain)}) > 1:
            return f"order {order_id} belongs to several parents: {', '.join(sorted(claims))}"
        return None


def _ties(order: OrderFact) -> tuple[object, ...]:
    decided = order.status if order.status in ("rejected", "replaced") else None
    return (
        order.replaces, order.replaced_by, order.parent_id, order.order_class, order.order_type, order.symbol,
        order.is_buy, order.created_at, order.submitted_at, order.qty if order.order_class == OCO else None, decided,
    )  # fmt: skip
