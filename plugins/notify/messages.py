"""What people are told of an event, and how often: words, one message per matter, no flood; sends nothing."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import get_args

import msgspec

from coldharbour.events import AnyEvent, Event

EVENTS = frozenset(event.__name__ for event in get_args(AnyEvent))
HOUR_S = 3600.0
MATTERS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Message:
    """One message. matter: what it is about; two about the same matter differ in numbers only."""

    matter: tuple[str, ...]
    title: str
    body: str


def message(account: str, event: Event) -> Message:
    """Return an event in words. account: its slug, "" for the installation or all accounts together.

    >>> from datetime import UTC, datetime
    >>> from coldharbour.events import WorkerParked
    >>> parked = WorkerParked(at=datetime(2026, 10, 8, tzinfo=UTC), worker="stream", error="keys refused")
    >>> message("paper", parked).title, message("paper", parked).body
    ('paper: worker parked', 'worker stream, error keys refused (2026-10-08 00:00:00 UTC)')
    """
    kind = type(event).__name__
    facts = {name: value for name, value in msgspec.structs.asdict(event).items() if value not in (None, "")}
    at = facts.pop("at")
    words = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in facts.items())
    return Message(
        matter=(account, kind, *(value for value in facts.values() if isinstance(value, str))),
        title=f"{account or 'all accounts'}: {_spaced(kind)}",
        body=f"{words} ({at:%Y-%m-%d %H:%M:%S} UTC)",
    )


class Outbox:
    """Which messages go out: one about a matter in a while, and at most so many within an hour."""

    def __init__(self, repeat_s: float, per_hour: int) -> None:
        self._repeat_s, self._per_hour = repeat_s, per_hour
        self._sent: dict[tuple[str, ...], float] = {}
        self._times: deque[float] = deque()
        self._left_out = 0

    def admit(self, wanted: Message, now_s: float) -> tuple[str, str] | None:
        """Return the title and the text to send now, None for nothing. now_s: seconds that only grow."""
        while self._times and now_s - self._times[0] >= HOUR_S:
            self._times.popleft()
        sent_s = self._sent.get(wanted.matter)
        if sent_s is not None and now_s - sent_s < self._repeat_s:
            return None
        if len(self._times) >= self._per_hour:
            self._left_out += 1
            return None
        self._note(wanted.matter, now_s)
        rest = f"\n{self._left_out} more were left out; the journal has them." if self._left_out else ""
        self._left_out = 0
        return wanted.title, wanted.body + rest

    def _note(self, matter: tuple[str, ...], now_s: float) -> None:
        self._times.append(now_s)
        self._sent.pop(matter, None)
        self._sent[matter] = now_s
        while len(self._sent) > MATTERS_KEPT:
            del self._sent[next(iter(self._sent))]


def _spaced(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()


def _short(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
