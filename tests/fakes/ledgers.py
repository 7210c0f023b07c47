"""Invented ledgers: what an account's orders, fills and share moves look like after a busy life, in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from coldharbour.live.model import Fill, MoveKind, OrderFact, ShareMove

BEGIN = datetime(2026, 10, 8, 14, 0, tzinfo=UTC)
ROUGH = ("4", "1.5", "0.1", "0.3333")  # ratios of splits that leave fractions of the smallest quantity

Event = OrderFact | Fill | ShareMove


@dataclass
class Ledger:
    """A life as it was told: every statement in the order in which it was made, an order's newest one last."""

    told: list[Event] = field(default_factory=list)

    @property
    def orders(self) -> list[OrderFact]:
        """The newest statement of each order."""
        return list({event.id: event for event in self.told if isinstance(event, OrderFact)}.values())

    @property
    def fills(self) -> list[Fill]:
        """Every fill, once."""
        return [event for event in self.told if isinstance(event, Fill)]

    @property
    def moves(self) -> list[ShareMove]:
        """Every share move, once."""
        return [event for event in self.told if isinstance(event, ShareMove)]

    @property
    def symbols(self) -> list[str]:
        """The symbols that had a fill or a move."""
        return sorted({fill.symbol for fill in self.fills} | {move.symbol for move in self.moves})


class Account:
    """An account that does things by chance, and tells what the broker would tell of them."""

    def __init__(self, chance: Random, symbols: int = 2, ratios: Sequence[str] = ("4", "3")) -> None:
        self.ledger, self.now, self.chance = Ledger(), BEGIN, chance
        self.orders: dict[str, OrderFact] = {}
        self.held = dict.fromkeys((f"S{number}" for number in range(symbols)), Decimal(0))
        self._count, self._ratios = 0, ratios

    def live(self, steps: int) -> Ledger:
        """Do a number of things, and return all that was told."""
        deeds = [
            self.enter, self.enter, self.enter, self.fill_leg, self.fill_leg, self.fill_leg, self.fill_leg,
            self.sell_by_hand, self.sell_by_hand, self.replace_leg, self.replace_leg, self.cancel_leg, self.attach_oco,
            self.place_loose_stop, self.fill_more, self.replace_entry, self.reject_replacement, self.split,
            self.transfer,
        ]  # fmt: skip
        for _ in range(steps):
            self.wait()
            self.chance.choice(deeds)()
        return self.ledger

    def wait(self) -> None:
        """Let time pass, sometimes none."""
        self.now += timedelta(microseconds=self.chance.choice([0, 1, 1_000, 60_000_000, 3_600_000_000, 86_400_000_000]))

    # Deeds

    def enter(self) -> None:
        """Open or add to a position, with legs or without."""
        symbol, is_buy = self._symbol(), self.chance.random() < 0.6
        order_class = self.chance.choice(["bracket", "bracket", "oto", "simple"])
        qty = self._qty()
        entry = self._new(symbol, is_buy=is_buy, order_type="market", order_class=order_class, qty=qty)
        self._tell(entry)
        kinds = {"bracket": ["limit", "stop"], "oto": ["stop"], "simple": []}[order_class]
        for kind in kinds:
            leg = self._exit(symbol, kind, is_buy=not is_buy, order_class=order_class, qty=qty)
            self._tell(replace(leg, parent_id=entry.id))
        self._fill(entry.id, qty if self.chance.random() < 0.7 else qty / 2)

    def fill_more(self) -> None:
        """Fill another part of an entry that is not filled yet."""
        waiting = [order.id for order in self._live() if order.parent_id is None and order.order_type == "market"]
        if waiting:
            self._fill(self.chance.choice(waiting), self._qty())

    def fill_leg(self) -> None:
        """Fill a leg, in full or in part; its siblings are canceled when it is full."""
        leg = self._some_exit()
        if leg is None:
            return
        self._fill(leg.id, leg.qty if self.chance.random() < 0.7 else self._qty())
        if self.orders[leg.id].status == "filled" and self.chance.random() < 0.8:
            for other in self._live():
                if leg.parent_id is not None and other.parent_id == leg.parent_id:
                    self._tell(replace(other, status="canceled", canceled_at=self.now))

    def sell_by_hand(self) -> None:
        """Trade without legs, perhaps more than is held."""
        symbol = self._symbol()
        is_buy = self.held[symbol] < 0
        order = self._new(symbol, is_buy=is_buy, order_type="market", order_class="simple", qty=self._qty())
        self._tell(order)
        self._fill(order.id, order.qty)

    def replace_leg(self) -> None:
        """Move an exit; one end of the link may be missing, and the parent too."""
        leg = self._some_exit()
        if leg is None:
            return
        kind = self.chance.choice([leg.order_type, leg.order_type, "market"])
        new = replace(
            leg, id=self._id(), submitted_at=self.now, order_type=kind, replaces=leg.id, filled_qty=Decimal(0),
            parent_id=leg.parent_id if self.chance.random() < 0.5 else None, status="new",
            stop_price=None if leg.stop_price is None else leg.stop_price + 1,
        )  # fmt: skip
        old = replace(leg, status="replaced", replaced_at=self.now, replaced_by=new.id)
        forgets = self.chance.random()
        if forgets < 0.2:
            new = replace(new, replaces=None)
        elif forgets < 0.4:
            old = replace(old, replaced_by=None)
        self._tell(old)
        self._tell(new)

    def replace_entry(self) -> None:
        """Move an entry that is not filled yet; its legs stay where they were seen."""
        waiting = [order for order in self._live() if order.parent_id is None and order.order_type == "market"]
        if waiting:
            old = self.chance.choice(waiting)
            new = replace(
                old, id=self._id(), submitted_at=self.now, replaces=old.id, filled_qty=Decimal(0), status="new"
            )
            self._tell(replace(old, status="replaced", replaced_at=self.now, replaced_by=new.id))
            self._tell(new)

    def reject_replacement(self) -> None:
        """Try to move an exit in vain."""
        leg = self._some_exit()
        if leg is not None:
            self._tell(
                replace(
                    leg, id=self._id(), submitted_at=self.now, replaces=leg.id, status="rejected", failed_at=self.now,
                    filled_qty=Decimal(0),
                )
            )  # fmt: skip

    def cancel_leg(self) -> None:
        """Take an exit back."""
        leg = self._some_exit()
        if leg is not None:
            self._tell(replace(leg, status="canceled", canceled_at=self.now))

    def attach_oco(self) -> None:
        """Protect a position after the fact."""
        symbol = self._symbol()
        is_buy, qty = self.held[symbol] < 0, self._qty()
        head = self._exit(symbol, "limit", is_buy=is_buy, order_class="oco", qty=qty)
        self._tell(head)
        self._tell(replace(self._exit(symbol, "stop", is_buy=is_buy, order_class="oco", qty=qty), parent_id=head.id))

    def place_loose_stop(self) -> None:
        """Protect a position with a stop that is nobody's leg."""
        symbol = self._symbol()
        self._tell(self._exit(symbol, "stop", is_buy=self.held[symbol] < 0, order_class="simple", qty=self._qty()))

    def split(self) -> None:
        """Multiply what is held of a symbol, told in one piece or in two."""
        symbol = self._symbol()
        held = self.held[symbol]
        ratio = Decimal(self.chance.choice(self._ratios))
        change = (held * ratio).quantize(Decimal("0.000000001")) - held
        if not held or not held + change:
            return
        self.held[symbol] += change
        self.now += timedelta(microseconds=1)
        parts = [change] if self.chance.random() < 0.6 else [-held, held + change]
        self.ledger.told += [ShareMove(self._id(), self.now, symbol, MoveKind.SPLIT, part) for part in parts]
        self.now += timedelta(microseconds=1)

    def transfer(self) -> None:
        """Send shares to another account, or get some."""
        symbol = self._symbol()
        qty = self._qty() * self.chance.choice([1, -1])
        self.held[symbol] += qty
        self.ledger.told.append(ShareMove(self._id(), self.now, symbol, MoveKind.TRANSFER, qty, self._price()))

    # Means

    def _fill(self, order_id: str, qty: Decimal | None) -> None:
        order = self.orders[order_id]
        left = (order.qty or Decimal(0)) - order.filled_qty
        part = min(qty or left, left)
        if part <= 0:
            return
        is_full = part == left
        fill = Fill(self._id(), self.now, order_id, order.symbol, order.is_buy, part, self._price())
        self.held[order.symbol] += fill.signed_qty
        changed = replace(order, filled_qty=order.filled_qty + part, status="filled" if is_full else "partially_filled")
        statements: list[Event] = [fill, replace(changed, filled_at=self.now if is_full else None)]
        self.chance.shuffle(statements)
        for statement in statements:
            self._tell(statement)

    def _tell(self, event: Event) -> None:
        self.ledger.told.append(event)
        if isinstance(event, OrderFact):
            self.orders[event.id] = event

    def _new(self, symbol: str, *, is_buy: bool, order_type: str, order_class: str, qty: Decimal) -> OrderFact:
        return OrderFact(
            id=self._id(), symbol=symbol, is_buy=is_buy, order_type=order_type, order_class=order_class, status="new",
            time_in_force="gtc", qty=qty, created_at=self.now, submitted_at=self.now,
        )  # fmt: skip

    def _exit(self, symbol: str, kind: str, *, is_buy: bool, order_class: str, qty: Decimal) -> OrderFact:
        order = self._new(symbol, is_buy=is_buy, order_type=kind, order_class=order_class, qty=qty)
        price = self._price()
        return replace(order, limit_price=price) if kind == "limit" else replace(order, stop_price=price)

    def _live(self) -> list[OrderFact]:
        return [order for order in self.orders.values() if order.status in ("new", "partially_filled")]

    def _some_exit(self) -> OrderFact | None:
        exits = [order for order in self._live() if order.order_type != "market" or order.parent_id is not None]
        return self.chance.choice(exits) if exits else None

    def _symbol(self) -> str:
        return self.chance.choice(sorted(self.held))

    def _qty(self) -> Decimal:
        return Decimal(self.chance.choice(["10", "20", "100", "7", "0.5", "0.000000004", "33.25"]))

    def _price(self) -> Decimal:
        return Decimal(self.chance.choice(["10", "10.5", "12.01", "9.9999", "0.123456789", "100"]))

    def _id(self) -> str:
        self._count += 1
        return f"{self.chance.randrange(100):02}-{self._count}"
