"""The ZeroMQ price stream: every trade of the market as one msgpack message; keeps no price itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, timedelta

import msgspec
import zmq

from coldharbour.errors import BadConfig

from .faults import FaultBoard
from .market import Market, Tick

ENCODER = msgspec.msgpack.Encoder()
EXCLUDED = ["M"]  # an official close: a true trade report that must not set the last price
STALE = timedelta(minutes=1)
QUEUE_MESSAGES = 50_000  # per subscriber; a slower one loses the oldest, as on any PUB socket


@contextmanager
def publishing_prices(market: Market, board: FaultBoard, endpoint: str) -> Iterator[str]:
    """Publish the market's trades for the length of the block; yields the real endpoint (port 0 becomes one).

    Raises BadConfig if the endpoint cannot be bound.
    """
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.sndhwm = QUEUE_MESSAGES
        publisher.linger = 0
        try:
            publisher.bind(endpoint)
        except zmq.ZMQError as error:
            problem = f"[simulator] price_endpoint {endpoint}: {error}"
            raise BadConfig([problem], hint="another simulator may be running") from error

        def publish(ticks: Sequence[Tick]) -> None:
            if not board.switches.price_mute:
                for message in messages(ticks, board):
                    publisher.send(message, zmq.NOBLOCK)  # a PUB socket drops rather than waits

        unsubscribe = market.listen(publish)
        try:
            yield publisher.getsockopt_string(zmq.LAST_ENDPOINT)
        finally:
            unsubscribe()


def messages(ticks: Iterable[Tick], board: FaultBoard) -> Iterator[bytes]:
    """Yield the messages that these trades become, faults included."""
    for tick in ticks:
        if board.hits("price_malformed_rate"):
            yield b"\xc1 not msgpack"
        price, conditions, at = float(tick.price), list(tick.conditions), tick.at
        if board.hits("price_bad_rate"):
            price = board.random("price").choice([0.0, -price, math.nan, price * 10])
        if board.hits("price_excluded_rate"):
            price, conditions = price * 10, EXCLUDED
        if board.hits("price_stale_rate"):
            at -= STALE
        trade = {
            "symbol": tick.symbol,
            "price": price,
            "size": tick.size,
            "conditions": conditions,
            "timestamp": at.astimezone(UTC).isoformat(),
        }
        yield ENCODER.encode({"trade": trade})
