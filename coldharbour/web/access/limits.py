"""How much is too much: growing waits after failed logins, and rates per address; time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

KEPT = 10_000  # keys remembered at once; the one that was not seen for longest is forgotten first
FREE_FAILURES = 4
FORGET_S = 3_600.0


def address_key(address: str) -> str:
    """Return what counts as one address: an IPv6 visitor owns a whole /64."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return ":".join(parsed.exploded.split(":")[:4]) if isinstance(parsed, IPv6Address) else str(parsed)


@dataclass(slots=True)
class _Failures:
    count: int
    last_s: float


class Lockout:
    """Waits after failed logins, per key: none for the first four, then 1 s, doubling up to `longest_s`."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, key: str, now_s: float) -> float:
        """Return how many seconds this key must still wait before it may try again."""
        failed = self._failures.get(key)
        if failed is None or failed.count <= FREE_FAILURES:
            return 0.0
        delay_s = min(self._longest_s, 2.0 ** min(failed.count - FREE_FAILURES - 1, 30))
        return max(0.0, failed.last_s + delay_s - now_s)

    def failed(self, key: str, now_s: float) -> None:
        """Count an attempt as failed; attempts count before they are looked at, so that many at once gain nothing."""
        failed = self._failures.pop(key, _Failures(0, now_s))
        count = 0 if now_s - failed.last_s > FORGET_S else failed.count
        self._failures[key] = _Failures(count + 1, now_s)
        while len(self._failures) > KEPT:
            self._failures.popitem(last=False)

    def succeeded(self, keys: Iterable[str]) -> None:
        """Forget the failures of these keys."""
        for key in keys:
            self._failures.pop(key, None)


class Rate:
    """So many requests a second per key, and so many at once."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (requests left, as of)

    def allows(self, key: str, now_s: float) -> bool:
        """Count a request, and say whether it is within the rate."""
        left, as_of_s = self._left.pop(key, (float(self._burst), now_s))
        left = min(self._burst, left + (now_s - as_of_s) * self._per_s)
        is_within = left >= 1
        self._left[key] = (left - 1 if is_within else left, now_s)
        while len(self._left) > KEPT:
            self._left.popitem(last=False)
        return is_within
