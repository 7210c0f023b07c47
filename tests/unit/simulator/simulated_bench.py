"""A simulated broker under a clock that the test turns, with prices that the test holds."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from coldharbour_plugins.simulator.broker import Refused, SimulatedAccount, SimulatedBroker
from coldharbour_plugins.simulator.digits import plain

from coldharbour.clock import VirtualClock

JSON = dict[str, object]
SLUG = "alpha"
DEPOSIT = Decimal(100_000)
MONDAY = datetime(2025, 11, 24, 15, 0, tzinfo=UTC)  # 10:00 in New York
SETTLED_S = 0.3  # longer than any of the broker's latencies


class Bench:
    """One account without history; `settle` lets the broker do all that is due."""

    def __init__(
        self, start: datetime = MONDAY, *, journal: Path | None = None, always_open: bool = True, history_days: int = 0
    ) -> None:
        self.clock = VirtualClock(start)
        self.broker = SimulatedBroker(
            seed=11,
            accounts={SLUG: DEPOSIT},
            clock=self.clock,
            history_days=history_days,
            journal=journal,
            always_open=always_open,
            trading=False,
        )
        self.account: SimulatedAccount = self.broker.accounts[SLUG]
        self.events: list[JSON] = []
        self.account.listen(self.events.append)

    def price(self, symbol: str, price: str) -> None:
        """Hold a price and let the broker act on it until nothing more happens."""
        self.broker.market.pin(symbol, Decimal(price))
        self.settle()

    def settle(self, seconds: float = SETTLED_S) -> None:
        for _ in range(8):
            self.clock.advance(seconds / 8)
            self.broker.step()

    def place(self, **request: object) -> JSON:
        return self.account.place(
            {"symbol": "AAPL", "side": "buy", "type": "market", "time_in_force": "gtc", **request}
        )

    def bracket(
        self, *, qty: int = 10, side: str = "buy", target: str = "110", stop: str = "95", **more: object
    ) -> JSON:
        """Enter AAPL at 100 with exits, completely filled when this returns."""
        self.price("AAPL", "100")
        placed = self.place(
            qty=qty,
            side=side,
            order_class="bracket",
            take_profit={"limit_price": target},
            stop_loss={"stop_price": stop},
            **more,
        )
        self.settle()
        return self.read(placed)

    def read(self, order: JSON) -> JSON:
        """Return an order as it is now, with its legs."""
        return self.account.order(text(order, "id"), nested=True)

    def legs(self, parent: JSON) -> tuple[JSON, JSON]:
        """Return the take-profit and the stop of a bracket as they are now."""
        target, stop = rows(self.read(parent), "legs")
        return target, stop

    def told(self, order: JSON) -> list[str]:
        """Return the names of the events told of an order, in order."""
        return [text(event, "event") for event in self.events if child(event, "order")["id"] == order["id"]]

    def held(self) -> str:
        """Return the signed shares of AAPL."""
        return plain(self.account.blotter.ledger.quantity("AAPL"))

    def refused(self, **request: object) -> Refused:
        """Return the broker's refusal of an order."""
        with pytest.raises(Refused) as refusal:
            self.place(**request)
        return refusal.value


def text(row: JSON, key: str) -> str:
    value = row[key]
    assert isinstance(value, str), (key, value)
    return value


def child(row: JSON, key: str) -> JSON:
    value = row[key]
    assert isinstance(value, dict), (key, value)
    return value


def rows(row: JSON, key: str) -> list[JSON]:
    value = row[key]
    assert isinstance(value, list), (key, value)
    return value
