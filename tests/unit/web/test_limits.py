"""Growing waits and rates, by a clock that is an argument."""

from __future__ import annotations

import pytest

from coldharbour.web.access.limits import KEPT, Lockout, Rate, address_key


def test_four_failures_are_free_and_then_the_wait_doubles_up_to_the_longest() -> None:
    lockout, now_s, waits = Lockout(longest_s=60), 0.0, []

    for _ in range(13):
        lockout.failed("anna", now_s)
        waits.append(lockout.wait_s("anna", now_s))
        now_s += waits[-1]

    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_wait_runs_out_and_starts_anew_with_the_next_failure() -> None:
    lockout = Lockout(longest_s=60)
    for _ in range(6):
        lockout.failed("anna", 100.0)

    assert lockout.wait_s("anna", 101.5) == 0.5
    assert lockout.wait_s("anna", 102.0) == 0
    lockout.failed("anna", 102.0)
    assert lockout.wait_s("anna", 102.0) == 4


def test_success_forgets_and_so_does_an_hour_without_failure() -> None:
    lockout = Lockout(longest_s=900)
    for key in ("anna", "ben"):
        for _ in range(8):
            lockout.failed(key, 0.0)

    lockout.succeeded(["anna"])
    lockout.failed("ben", 3_601.0)

    assert (lockout.wait_s("anna", 0.0), lockout.wait_s("ben", 3_601.0)) == (0, 0)


def test_one_key_does_not_wait_for_another() -> None:
    lockout = Lockout(longest_s=900)
    for _ in range(8):
        lockout.failed("198.51.100.7", 0.0)

    assert lockout.wait_s("198.51.100.8", 0.0) == 0


def test_many_keys_fill_no_memory() -> None:
    lockout, rate = Lockout(longest_s=900), Rate(per_s=1, burst=1)

    for number in range(KEPT + 10):
        lockout.failed(str(number), 0.0)
        rate.allows(str(number), 0.0)

    assert len(lockout._failures) == len(rate._left) == KEPT


def test_a_rate_allows_a_burst_and_then_so_many_a_second() -> None:
    rate = Rate(per_s=2, burst=3)

    at_once = [rate.allows("a", 0.0) for _ in range(5)]
    later = [rate.allows("a", 1.0) for _ in range(3)]

    assert at_once == [True, True, True, False, False]
    assert later == [True, True, False]
    assert rate.allows("b", 1.0)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2::9", "2001:0db8:0001:0002"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, key: str) -> None:
    assert address_key(address) == key
