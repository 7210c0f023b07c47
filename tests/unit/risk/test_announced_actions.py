"""When an announced corporate action keeps a symbol's stops where they are."""

from __future__ import annotations

from datetime import date

import pytest

from coldharbour.broker import CorporateAction
from coldharbour.risk.announced import freezing

FRIDAY, MONDAY = date(2026, 10, 9), date(2026, 10, 12)


@pytest.mark.parametrize(
    ("day", "booked", "is_frozen"),
    [
        (date(2026, 10, 9), None, True),  # today
        (date(2026, 10, 12), None, True),  # the next session
        (date(2026, 10, 12), date(2026, 9, 1), True),
        (date(2026, 10, 13), None, False),  # later
        (date(2026, 10, 8), None, True),  # over, and the account does not show it
        (date(2026, 10, 8), date(2026, 10, 7), True),  # it shows an earlier one
        (date(2026, 10, 8), date(2026, 10, 8), False),
        (date(2026, 10, 2), None, True),
        (date(2026, 10, 1), None, False),  # more than a week ago
    ],
)
def test_it_freezes_from_the_session_before_until_the_account_shows_it(
    day: date, booked: date | None, is_frozen: bool
) -> None:
    action = CorporateAction(kind="forward_splits", symbol="KO", day=day)

    found = freezing([action], FRIDAY, MONDAY, booked)

    assert found == (f"forward_splits of KO announced for {day}" if is_frozen else "")
