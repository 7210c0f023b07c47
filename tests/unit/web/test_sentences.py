"""The journal tells every event in words: none shows only the name of its class."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest

from coldharbour.events import AnyEvent, FillRecorded, FlattenEnded, PositionUnprotected, StopMoved
from coldharbour.web.sentences import sentence

AT = datetime(2026, 10, 8, 14, tzinfo=UTC)
VALUES: dict[Any, Any] = {str: "word", int: 2, float: 2.5, bool: False, Decimal: Decimal("12.5"), datetime: AT}


@pytest.mark.parametrize("kind", get_args(AnyEvent), ids=lambda kind: kind.__name__)
def test_every_event_has_a_sentence(kind: Any) -> None:
    fields = msgspec.structs.fields(kind)
    event = kind(**{field.name: VALUES.get(field.type, "word") for field in fields})

    tone, text = sentence(event)

    assert tone in {"good", "idle", "warn", "bad"}
    assert kind.__name__ not in text


def test_sentences_by_hand() -> None:
    moved = StopMoved(
        at=AT, lot_id="one", symbol="KO", side="Long", old_stop=Decimal("59.2"), new_stop=Decimal("60.01"),
        new_order_id="two",
    )  # fmt: skip
    bare = PositionUnprotected(
        at=AT, symbol="PEP", parent_id=None, side="Short", qty=Decimal(1250), reason="stop_canceled", exposed_s=5
    )

    short = FillRecorded(
        at=AT, execution_id="e", order_id="o", symbol="KO", side="sell_short", qty=Decimal(10), price=Decimal("60.1")
    )

    assert sentence(short) == ("idle", "KO filled: sell short 10 at 60.10")
    assert sentence(moved) == ("good", "KO long: stop moved from 59.20 to 60.01")
    assert sentence(bare) == ("bad", "PEP: 1,250 short without a live stop: stop canceled")
    assert sentence(FlattenEnded(at=AT, outcome="left", detail="KO 10"))[0] == "warn"
