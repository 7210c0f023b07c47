"""What holds of every ledger: both matchings agree on the total, and each is what the definitions say.

`SOAK_EXAMPLES=2000 python -m pytest tests/unit/live/test_any_ledger.py` tries thousands of lives.
"""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from random import Random

from fakes.ledgers import ROUGH, Account
from fakes.slow_matching import SlowMatching, near
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coldharbour import Lineage, match_fifo, match_lots
from coldharbour.live.model import ClosedTrade, Lot

NEVER = datetime.max.replace(tzinfo=UTC)
ANY = settings(
    max_examples=int(os.environ.get("SOAK_EXAMPLES", "100")), deadline=None, suppress_health_check=list(HealthCheck)
)
SEEDS, LENGTHS = st.integers(0, 10**9), st.integers(1, 40)


@given(SEEDS, LENGTHS)
@ANY
def test_both_matchings_and_the_fills_agree_on_what_is_held(seed: int, steps: int) -> None:
    ledger = Account(Random(seed), ratios=ROUGH).live(steps)
    signed: defaultdict[str, Fraction] = defaultdict(Fraction)
    for fill in ledger.fills:
        signed[fill.symbol] += Fraction(fill.signed_qty)
    for move in ledger.moves:
        signed[move.symbol] += Fraction(move.qty)

    matching = match_lots(ledger.fills, Lineage(ledger.orders), ledger.moves)
    fifo = match_fifo(ledger.fills, ledger.moves)

    for symbol in ledger.symbols:
        lots = [Fraction(lot.qty) for lot in matching.open if lot.symbol == symbol]
        assert sum(lots, Fraction()) == signed[symbol]
        assert Fraction(fifo.quantity(symbol)) == signed[symbol]


@given(SEEDS, LENGTHS, st.decimals(0, 1000, places=4))
@ANY
def test_realised_and_unrealised_are_the_same_for_both_matchings_at_any_price(
    seed: int, steps: int, price: Decimal
) -> None:
    ledger = Account(Random(seed), ratios=ROUGH).live(steps)

    matching = match_lots(ledger.fills, Lineage(ledger.orders), ledger.moves)
    fifo = match_fifo(ledger.fills, ledger.moves)

    realised = sum((Fraction(trade.pnl_cash) for trade in matching.closed), Fraction())
    realised_fifo = sum((Fraction(closing.profit) for closing in fifo.closed.values()), Fraction())
    shared_out = sum((Fraction(trade.pnl_cash_fifo) for trade in matching.closed), Fraction())
    lots = sum((Fraction(lot.qty) * (Fraction(price) - Fraction(lot.avg_fill)) for lot in matching.open), Fraction())
    shares = sum((Fraction(held.qty) * (Fraction(price) - Fraction(held.price)) for held in fifo.open), Fraction())
    assert abs(realised + lots - realised_fifo - shares) < Fraction(1, 10**15)
    assert abs(shared_out - realised_fifo) < Fraction(1, 10**15)


@given(SEEDS, LENGTHS)
@example(84167, 29)  # a stop of nobody whose replacements were rejected
@ANY
def test_the_matching_is_what_the_definitions_say(seed: int, steps: int) -> None:
    ledger = Account(Random(seed)).live(steps)

    matching = match_lots(ledger.fills, Lineage(ledger.orders), ledger.moves)

    for symbol in ledger.symbols:
        slow = SlowMatching(symbol, ledger.orders, ledger.fills, ledger.moves)
        agree_on_lots([lot for lot in matching.open if lot.symbol == symbol], slow)
        agree_on_trades([trade for trade in matching.closed if trade.symbol == symbol], slow)


def test_the_generated_ledgers_hold_everything_that_matters() -> None:
    ledgers = [Account(Random(seed)).live(40) for seed in range(60)]
    matchings = [match_lots(each.fills, Lineage(each.orders), each.moves) for each in ledgers]
    trades = [trade for matching in matchings for trade in matching.closed]
    lots = [lot for matching in matchings for lot in matching.open]

    assert {trade.exit_type.value for trade in trades} == {"TP", "SL", "MANUAL"}
    assert {trade.side.value for trade in trades} == {"Long", "Short"}
    assert any(trade.entry_lot_id == other.exit_order_id for trade in trades for other in trades)  # a flip
    assert any(trade.diff_pnl for trade in trades)
    assert any(lot.stop_order_id and lot.initial_stop is None for lot in lots)  # protected by nobody's stop
    assert any(order.order_class == "oco" and order.replaces for each in ledgers for order in each.orders)
    assert {move.kind.value for each in ledgers for move in each.moves} == {"split", "transfer"}


def agree_on_lots(lots: list[Lot], slow: SlowMatching) -> None:
    assert [lot.parent_id for lot in lots] == [lot.key for lot in slow.open()]
    for lot, known in zip(lots, slow.open(), strict=True):
        assert near(lot.qty, known.left)
        assert near(lot.entry_qty, known.shares)
        assert near(lot.avg_fill, known.average)
        assert near(lot.avg_px_symbol, slow.average_cost)
        assert lot.entry_time == known.born[0]
        assert lot.last_fill_time == max([known.last_entry, *(event.at for event, _ in known.closings)])
        assert same(lot.initial_stop, slow.initial_stop(known, NEVER))
        assert (lot.unprotected_s, lot.unprotected_since) == slow.unprotected(known, None)
        assert lot.is_orphan == (lot.unprotected_since is not None)


def agree_on_trades(trades: list[ClosedTrade], slow: SlowMatching) -> None:
    rows = slow.rows()
    assert {(trade.entry_lot_id, trade.exit_order_id) for trade in trades} == set(rows)
    for trade in trades:
        lot, parts = rows[trade.entry_lot_id, trade.exit_order_id]
        end = parts[-1][0].at
        qty = sum((part * slow.ratio(event.at, end) for event, part in parts), Fraction())
        value = sum((part * Fraction(event.price or 0) for event, part in parts), Fraction())
        entry = lot.average * slow.ratio(end, NEVER)
        shares, profit = slow.fifo[trade.exit_order_id]
        assert near(trade.qty, qty)
        assert near(trade.entry_price, entry)
        assert near(trade.exit_price, value / qty)
        assert (trade.entry_time, trade.exit_time) == (lot.born[0], end)
        assert near(trade.pnl_cash, lot.sign * (value - qty * entry))
        assert near(trade.pnl_cash_fifo, sum((part for _, part in parts), Fraction()) * profit / shares)
        assert Fraction(trade.diff_pnl) == Fraction(trade.pnl_cash) - Fraction(trade.pnl_cash_fifo)
        assert same(trade.initial_stop, slow.initial_stop(lot, end))
        assert trade.unprotected_s == slow.unprotected(lot, end)[0]
        assert (trade.exit_parent_id, trade.exit_type) == slow.belongs(trade.entry_lot_id, trade.exit_order_id)


def same(known: Decimal | None, expected: Fraction | None) -> bool:
    return known is None if expected is None else known is not None and near(known, expected)
