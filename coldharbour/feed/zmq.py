"""The subscriber: one ZeroMQ socket per process, drained into the price book; judges no price.

A wake-up is followed by non-blocking receives until nothing is left: awaiting each message would take several times
as long. Reconnecting is ZeroMQ's own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.lowlevel
import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from coldharbour.clock import Clock
from coldharbour.errors import BadConfig
from coldharbour.feed.prices import Prices
from coldharbour.sections import FeedSettings

SLICE = 4_096  # messages between two breaths of the event loop, some milliseconds
GATHER_S = 0.002  # after a slice that emptied the queue: what comes meanwhile costs one wake-up
QUEUE_MESSAGES = 50_000  # that wait for us; the publisher drops what exceeds its own queue as well
LARGEST_MESSAGE_BYTES = 65_536
SILENCE_EVERY_S = 1.0
OPTIONS = {
    zmq.RCVHWM: QUEUE_MESSAGES,
    zmq.MAXMSGSIZE: LARGEST_MESSAGE_BYTES,
    zmq.LINGER: 0,
    zmq.RECONNECT_IVL: 100,  # ms
    zmq.RECONNECT_IVL_MAX: 5_000,
    zmq.HEARTBEAT_IVL: 5_000,  # a peer that vanished without a word is found, and connected to again
    zmq.HEARTBEAT_TIMEOUT: 15_000,
}

log = structlog.get_logger(__name__)


@asynccontextmanager
async def subscribed_prices(settings: FeedSettings, clock: Clock) -> AsyncIterator[Prices]:
    """Lend the price book of the stream for the block. The publisher need not be up yet.

    Raises BadConfig if the endpoint is none.
    """
    prices = Prices(clock, exclude_conditions=settings.exclude_conditions, max_silence_s=settings.max_silence_s)
    with _subscription(settings.endpoint) as (socket, connection):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, socket, connection, prices, name="feed")
            tasks.start_soon(_watch_silence, prices, name="feed silence")
            try:
                yield prices
            finally:
                tasks.cancel_scope.cancel()


class _Connection:
    """Whether a connection stands, as the socket's monitor tells it."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.stands = False

    def has_changed(self) -> bool:
        """Take in what was told since the last call; return whether there was anything."""
        told = False
        try:
            while True:
                event = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))["event"]
                self.stands, told = event == zmq.EVENT_HANDSHAKE_SUCCEEDED, True
        except zmq.Again:
            return told


@contextmanager
def _subscription(endpoint: str) -> Iterator[tuple[zmq.Socket[bytes], _Connection]]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        for option, value in OPTIONS.items():
            socket.setsockopt(option, value)
        socket.subscribe(b"")
        connection = _Connection(socket)  # before the first connection, which it would not tell of
        try:
            _connect(socket, endpoint)
            yield socket, connection
        finally:
            socket.disable_monitor()
            connection.monitor.close(linger=0)


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        problem = f"[feed] endpoint {endpoint}: {error.strerror}: write tcp://host:port of the publisher"
        raise BadConfig([problem]) from error


async def _drain(socket: zmq.Socket[bytes], connection: _Connection, prices: Prices) -> None:
    """Give the book what arrives, in slices, and tell it of every connection that was lost, until cancelled.

    ZeroMQ connects again by itself and says nothing of what it missed. What a lost connection left in the queue is
    taken, but is no sign that anything is heard.
    """
    with _readable(socket, connection.monitor) as readable:
        while True:
            readable.clear()
            has_changed = connection.has_changed()
            messages = _receive(socket)
            if connection.has_changed() or has_changed:  # looked at on both sides: these messages may be of either
                prices.interrupt()
            if messages:
                prices.take_in(messages)
                if not connection.stands:
                    prices.interrupt()
                await anyio.sleep(0 if len(messages) == SLICE else GATHER_S)
            elif not (_has_news(socket) or _has_news(connection.monitor)):
                await readable.wait()


@contextmanager
def _readable(*sockets: zmq.Socket[bytes]) -> Iterator[asyncio.Event]:
    """Lend an event that is set whenever the state of one of the sockets changed."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    descriptors = [socket.fileno() for socket in sockets]
    for descriptor in descriptors:
        loop.add_reader(descriptor, changed.set)
    try:
        yield changed
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)


def _has_news(socket: zmq.Socket[bytes]) -> bool:
    """Return whether a message waits; the descriptor tells of changes only."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """Return what waits in the queue, at most one slice."""
    receive, messages = socket.recv, []
    try:
        for _ in range(SLICE):
            messages.append(receive(zmq.NOBLOCK))  # noqa: PERF401  it ends by an exception
    except zmq.Again:
        pass
    return messages


async def _watch_silence(prices: Prices) -> None:
    while True:
        await prices.clock.sleep(SILENCE_EVERY_S)
        prices.report_silence()
