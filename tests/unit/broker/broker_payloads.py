"""The broker's answers as its documentation and recordings show them, and a double that serves them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx
from pydantic import SecretStr

from coldharbour.broker import Broker
from coldharbour.clock import Clock, VirtualClock

NOON = datetime(2026, 10, 8, 16, 0, tzinfo=UTC)
SECRET = "s3cret-of-the-test"
REQUEST_ID = "0123456789abcdef0123456789abcdef"

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


def order_fields(**changes: Any) -> dict[str, Any]:
    return {
        "id": "5f1c1c36-0c1e-4d53-9d7c-0c3b0b7f9a01",
        "client_order_id": "brk-0001",
        "created_at": "2026-10-08T15:10:18.094153596Z",
        "updated_at": "2026-10-08T15:10:18.298304763Z",
        "submitted_at": "2026-10-08T15:10:18.090153Z",
        "filled_at": None,
        "expired_at": None,
        "expires_at": "2027-01-06T21:00:00Z",
        "canceled_at": None,
        "failed_at": None,
        "replaced_at": None,
        "replaced_by": None,
        "replaces": None,
        "asset_id": "b0b6dd9d-8b9b-48a9-ba46-b9d54906e415",
        "symbol": "AAPL",
        "asset_class": "us_equity",
        "notional": None,
        "qty": "10",
        "filled_qty": "0",
        "filled_avg_price": None,
        "order_class": "",
        "order_type": "limit",
        "type": "limit",
        "side": "buy",
        "position_intent": "buy_to_open",
        "time_in_force": "gtc",
        "limit_price": "186.5",
        "stop_price": None,
        "status": "new",
        "extended_hours": False,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "subtag": None,
        "source": None,
        "legs": None,
        **changes,
    }


def order_json(**changes: Any) -> bytes:
    return json.dumps(order_fields(**changes), separators=(",", ":")).encode()


def fill_json(**changes: Any) -> bytes:
    return json.dumps(
        {
            "id": "20261008111018097::7d1a9c52-40f4-4f0d-8a63-1f6b2c9e5d01",
            "activity_type": "FILL",
            "transaction_time": "2026-10-08T15:10:18.097465Z",
            "type": "fill",
            "price": "86.88",
            "qty": "1",
            "side": "buy",
            "symbol": "KO",
            "leaves_qty": "0",
            "cum_qty": "3",
            "order_id": "2b8e6f14-93c7-4a5e-b1d0-6c7f8e9a0b12",
            "order_status": "filled",
            **changes,
        }
    ).encode()


def make_broker(handler: Handler, *, clock: Clock | None = None, total_s: float = 10.0) -> Broker:
    """A broker whose requests end in `handler`, on a clock that stands still unless another is given."""
    return Broker(
        base_url="https://paper-api.alpaca.markets",
        data_url="https://data.alpaca.markets",
        key_id="PKTEST",
        secret=SecretStr(SECRET),
        clock=clock or VirtualClock(NOON),
        random=Random(7),
        slug="paper",
        total_s=total_s,
        transport=httpx.MockTransport(handler),  # type: ignore[arg-type]
    )


class Script:
    """Serves the given answers in turn, an exception by raising it, and keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Skipper(VirtualClock):
    """A clock on which every sleep is over at once, and on record."""

    def __init__(self) -> None:
        super().__init__(NOON)
        self.slept_s: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.advance(delay_s)
