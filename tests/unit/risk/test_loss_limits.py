"""Which minute is evidence of a day's loss, and which limits it reaches: hand-worked tables, and any day."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from coldharbour_plugins.protection import GroupLimitSettings
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coldharbour.risk.losses.limits import LossLimit, evidence, noted, reached, together
from coldharbour.risk.losses.model import Blind, Day, Minute, Stage, Watch

SESSION = date(2026, 10, 8)
NOON = datetime(2026, 10, 8, 16, tzinfo=UTC)
NOW = NOON + timedelta(seconds=70)
MINUTE = Minute(
    session_date=SESSION, at=NOON, profit=Decimal(-1200), baseline=Decimal(60_000), is_certain=True, stalest="KO",
    stalest_at=NOON - timedelta(minutes=10),
)  # fmt: skip
DAY = Day(session_date=SESSION, day_pnl=Decimal(-1200), baseline=Decimal(60_000), as_of=NOON)
WATCH = Watch("paper", SESSION, Decimal(-1200), Decimal(60_000), NOON)
AGES = {"max_minute_age": timedelta(minutes=3), "max_price_age": timedelta(minutes=15)}


@pytest.mark.parametrize(
    ("minute", "blind_at", "expected"),
    [
        (MINUTE, None, DAY),
        (replace(MINUTE, stalest=None, stalest_at=None), None, DAY),  # nothing is open
        (MINUTE, NOON, DAY),
        (None, None, "no minute of equity yet"),
        (replace(MINUTE, at=NOON - timedelta(minutes=2)), None, "older than 180 s"),
        (replace(MINUTE, is_certain=False), None, "incomplete or stale"),
        (replace(MINUTE, stalest_at=None), None, "KO has no price"),
        (replace(MINUTE, stalest_at=NOW - timedelta(minutes=16)), None, "the price of KO is older than 900 s"),
        (MINUTE, NOON + timedelta(seconds=1), "since prices are back"),
    ],
)
def test_what_a_minute_proves(minute: Minute | None, blind_at: datetime | None, expected: Day | str) -> None:
    found = evidence(minute, NOW, blind_at=blind_at, **AGES)

    assert found == expected if isinstance(expected, Day) else isinstance(found, Blind) and expected in found.why


@pytest.mark.parametrize(
    ("pct", "amount", "baseline", "allowed"),
    [
        (2.0, 0, 60_000, 1200), (0, 900, 60_000, 900), (2.0, 900, 60_000, 900), (2.0, 1500, 60_000, 1200),
        (0, 0, 60_000, None), (2.0, 0, 0, None), (2.0, 0, -5, None), (2.0, 900, -5, 900), (0.1, 0, 30, "0.03"),
    ],
)  # fmt: skip
def test_the_loss_that_is_allowed(pct: float, amount: int, baseline: int, allowed: int | str | None) -> None:
    found = LossLimit(Stage.HALT, pct, Decimal(amount)).allowed(Decimal(baseline))

    assert found == (None if allowed is None else Decimal(allowed))


@pytest.mark.parametrize(
    ("day_pnl", "reset_pnl", "stages"),
    [
        ("-599.99", None, []),
        ("-600", None, ["warn"]),  # touching the limit reaches it
        ("-1199.99", None, ["warn"]),
        ("-1200", None, ["warn", "halt"]),
        ("5000", None, []),
        ("-1200", "-1200", ["warn"]),  # the halt was reset at -1200: it counts on from there
        ("-2399.99", "-1200", ["warn"]),
        ("-2400", "-1200", ["warn", "halt"]),
        ("-1200", "300", ["warn", "halt"]),  # a gain at the reset is no credit
    ],
)
def test_the_stages_that_a_day_reaches(day_pnl: str, reset_pnl: str | None, stages: list[str]) -> None:
    limits = [LossLimit(Stage.WARN, 1.0), LossLimit(Stage.HALT, 2.0)]
    counted_from = {} if reset_pnl is None else {Stage.HALT: Decimal(reset_pnl)}

    found = reached(replace(DAY, day_pnl=Decimal(day_pnl)), limits, counted_from)

    assert [each.stage for each in found] == stages


@given(
    first=st.decimals(-5000, 5000, places=2), second=st.decimals(-5000, 5000, places=2),
    pct=st.floats(0.1, 5), amount=st.decimals(1, 3000, places=2),
)  # fmt: skip
def test_a_worse_day_reaches_all_that_a_better_one_does(
    first: Decimal, second: Decimal, pct: float, amount: Decimal
) -> None:
    limits = [LossLimit(Stage.WARN, pct), LossLimit(Stage.HALT, 0, amount)]

    worse, better = (
        {each.stage for each in reached(replace(DAY, day_pnl=pnl), limits, {})}
        for pnl in (min(first, second), max(first, second))
    )

    assert better <= worse
    assert not better or max(first, second) < 0


def test_all_together_are_a_sum_and_blind_while_any_is() -> None:
    swing = replace(WATCH, destination="swing", day_pnl=Decimal(200), baseline=Decimal(40_000))
    late = replace(swing, as_of=NOON - timedelta(minutes=4))

    def seen(*watches: Watch, now: datetime = NOW) -> Day | Blind | None:
        return together(watches, ["paper", "swing"], now, timedelta(minutes=3))

    assert seen(WATCH, swing) == Day(
        session_date=SESSION, day_pnl=Decimal(-1000), baseline=Decimal(100_000), as_of=NOON
    )  # fmt: skip
    assert seen(WATCH, swing, now=NOON + timedelta(hours=8)) is None  # all rest
    for other in ([], [late], [replace(swing, blind="no price")], [replace(swing, session_date=date(2026, 10, 7))]):
        assert isinstance(seen(WATCH, *other), Blind)


def test_blindness_keeps_what_was_certain_last_and_since_when() -> None:
    later, end = NOW + timedelta(seconds=5), NOW + timedelta(seconds=10)

    blind = noted(noted(WATCH, Blind("no price", spoils=True), NOW, is_limited=True), Blind("none"), later,
                  is_limited=True)  # fmt: skip

    assert (blind.day, blind.blind, blind.blind_since, blind.blind_at) == (DAY, "none", NOW, NOW)
    assert noted(blind, DAY, end, is_limited=True) == replace(WATCH, blind_at=NOW, is_limited=True)
    assert noted(blind, None, end, is_limited=True).blind == ""


def test_a_flatten_is_never_reached_before_a_halt() -> None:
    limits = (LossLimit(Stage.HALT, 1.0), LossLimit(Stage.FLATTEN, 1.5))  # 600 and 900 of 60,000

    def found(lost: int, counted_from: dict[Stage, Decimal]) -> list[tuple[Stage, int]]:
        day = replace(DAY, day_pnl=Decimal(-lost))
        return [(each.stage, int(each.limit_pnl)) for each in reached(day, limits, counted_from)]

    after_reset = {Stage.HALT: Decimal(-600)}
    assert found(899, {}) == [(Stage.HALT, -600)]
    assert found(900, {}) == [(Stage.HALT, -600), (Stage.FLATTEN, -900)]
    assert found(1199, after_reset) == []
    assert found(1200, after_reset) == [(Stage.HALT, -1200), (Stage.FLATTEN, -1200)]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"flatten_loss": 900, "halt_loss": 1000}, "flatten_loss = 900 needs a halt_loss above 0 that is not larger"),
        ({"flatten_loss_pct": 3}, "flatten_loss_pct = 3.0 needs a halt_loss_pct above 0"),
        ({"flatten_loss": 900, "halt_loss_pct": 1}, "flatten_loss = 900 needs a halt_loss"),
        ({"flatten_loss": 900, "halt_loss": 900, "flatten_loss_pct": 2.5, "halt_loss_pct": 2}, ""),
    ],
)
def test_a_flatten_without_a_halt_before_it_is_refused(settings: dict[str, float], problem: str) -> None:
    if problem:
        with pytest.raises(ValidationError, match=re.escape(problem)):
            GroupLimitSettings.model_validate(settings)
    else:
        assert GroupLimitSettings.model_validate(settings).limits[-1] == LossLimit(Stage.FLATTEN, 2.5, Decimal(900))
