"""How many requests an account may still make: one budget per account and host, never a request itself.

No span of 60 s holds more grants than the limit. The broker's own count, in its X-Ratelimit headers, corrects
ours, since other processes spend from the same account. Source: Alpaca API, 200 requests a minute.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from coldharbour.clock import Clock

WINDOW_S: Final = 60.0
SHORTEST_S: Final = 0.001  # below it, a rest of rounding would be waited for again and again


class Priority(enum.Enum):
    """Who asks; the value is the share of the limit that this asker must leave to the more urgent ones."""

    WRITE = 0.0
    HEAL = 0.1
    BULK = 0.25


class RateBudget:
    """Grants requests so that neither the limit nor the reserve of the more urgent askers is touched."""

    def __init__(self, clock: Clock, *, requests_per_min: int = 200) -> None:
        self._clock = clock
        self._limit = requests_per_min
        self._grants: deque[float] = deque()
        self._left_at_broker = requests_per_min
        self._broker_resets_at = -1.0
        self._paused_until = -1.0

    async def take(self, priority: Priority) -> None:
        """Return when one request may be sent; the more urgent asker waits less."""
        while (wait_s := self._wait_s(priority)) > 0:
            await self._clock.sleep(max(wait_s, SHORTEST_S))
        self._grants.append(self._clock.monotonic())
        self._left_at_broker -= 1

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take over the broker's limit and count; answers without these headers change nothing."""
        limit, left = _whole(headers.get("x-ratelimit-limit")), _whole(headers.get("x-ratelimit-remaining"))
        reset_in_s = seconds_to_reset(headers, self._clock.now())
        if limit is None or left is None or reset_in_s is None or limit < 1:
            return
        now = self._clock.monotonic()
        same_window = now < self._broker_resets_at
        self._limit = limit
        self._left_at_broker = min(left, self._left_at_broker) if same_window else left
        self._broker_resets_at = now + min(reset_in_s, WINDOW_S)

    def pause(self, delay_s: float) -> None:
        """Grant nothing for `delay_s`: the broker has said that there are too many requests."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + delay_s)

    def _wait_s(self, priority: Priority) -> float:
        now = self._clock.monotonic()
        while self._grants and self._grants[0] <= now - WINDOW_S:
            self._grants.popleft()
        reserve = int(self._limit * priority.value)
        allowed = max(self._limit - reserve, 1)
        ours = 0.0
        if len(self._grants) >= allowed:
            ours = self._grants[len(self._grants) - allowed] + WINDOW_S - now
        theirs = self._broker_resets_at - now if self._left_at_broker <= reserve else 0.0
        return max(ours, theirs, self._paused_until - now)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that Retry-After asks for, as a number or as a date; None where it does not."""
    text = headers.get("retry-after", "")
    try:
        return max(float(text), 0.0)
    except ValueError:
        until = _http_date(text)
    return None if until is None else max((until - broker_now(headers, now)).total_seconds(), 0.0)


def seconds_to_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds until X-Ratelimit-Reset, counted on the broker's clock; None without the header."""
    reset = _whole(headers.get("x-ratelimit-reset"))
    return None if reset is None else max(reset - broker_now(headers, now).timestamp(), 0.0)


def broker_now(headers: Mapping[str, str], now: datetime) -> datetime:
    """Return the answer's own Date: our clock may be minutes off. `now` where there is none."""
    return _http_date(headers.get("date", "")) or now


def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
