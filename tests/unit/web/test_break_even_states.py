"""What the pages say of a break-even decision: something about every reason there is."""

from __future__ import annotations

from coldharbour_plugins.trades.open_sheet import STATES

from coldharbour.risk.model import Reason


def test_every_reason_has_words_on_the_page() -> None:
    assert set(STATES) == set(Reason)
