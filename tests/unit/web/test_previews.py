"""What an action says it would do, and when it says that it cannot be done."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from coldharbour.web.actions.previews import breakeven_preview
from coldharbour.web.actions.store import LotRow
from coldharbour.web.contexts import Account

ACCOUNT = Account("paper", "Paper", "paper", armed=True, market="us_equity")
LONG = LotRow("6f1c", "KO", "Long", Decimal(100), Decimal("62.10"), Decimal("61.20"), Decimal("63.5"))
CENT = Decimal("0.01")


def test_the_stop_and_where_it_goes_are_named() -> None:
    preview = breakeven_preview(ACCOUNT, LONG, CENT)

    assert preview.effect.startswith("The stop of 100 KO moves from 61.20 to 62.09.")
    assert (preview.obstacle, preview.warning, preview.parameters) == ("", "", {"lot": "6f1c"})


@pytest.mark.parametrize(
    ("lot", "obstacle"),
    [
        (replace(LONG, sl_px=None), "no stop of its own"),
        (replace(LONG, sl_px=Decimal("62.09")), "never loosens"),
        (replace(LONG, sl_px=Decimal("62.50")), "never loosens"),
        (replace(LONG, side="Short", sl_px=Decimal("62.05")), "never loosens"),
        (replace(LONG, avg_fill=Decimal("0.0001")), "no break-even stop"),
    ],
)
def test_what_would_loosen_a_stop_or_has_none_cannot_be_asked(lot: LotRow, obstacle: str) -> None:
    assert obstacle in breakeven_preview(ACCOUNT, lot, CENT).obstacle


def test_a_short_moves_its_stop_down_to_just_above_the_entry() -> None:
    preview = breakeven_preview(ACCOUNT, replace(LONG, side="Short", sl_px=Decimal("63.00")), CENT)

    assert "from 63.00 to 62.11" in preview.effect
    assert preview.obstacle == ""


def test_an_account_that_is_not_armed_says_dry_run_and_one_without_the_worker_cannot() -> None:
    assert "dry run" in breakeven_preview(replace(ACCOUNT, armed=False), LONG, CENT).warning
    assert "No breakeven worker" in breakeven_preview(ACCOUNT, LONG, None).obstacle


def test_another_stop_is_another_version_and_the_price_alone_is_not() -> None:
    seen = breakeven_preview(ACCOUNT, LONG, CENT).version

    assert breakeven_preview(ACCOUNT, replace(LONG, mkt_px=Decimal(64)), CENT).version == seen
    assert breakeven_preview(ACCOUNT, replace(LONG, sl_px=Decimal("61.5")), CENT).version != seen
