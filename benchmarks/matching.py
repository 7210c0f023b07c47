"""How fast a ledger is matched: fills a second through both engines, beside a loop over rows of decimals.

The ledger: bracket trades in many symbols, long and short, entries and exits in one to three fills, some sold by hand
(orphan exits), some by more than is held (flips), with the orders of all of them. Timed: `match_lots` from a list of
`Fill` objects in order of time and a `Lineage` that is there already, to the point where lots, closed trades and
FIFO profits are computed: reading the fills, sorting, both engines. Told beside it: building the lineage, and turning
the results into `Lot` and `ClosedTrade` rows of decimals, which `Matching` does when they are first looked at.

The floor: a plain loop over the same fills as rows of a pandas table, with FIFO and lots in dictionaries of decimals,
which looks at no leg's times and makes no rows. And one more fill: what a `Book` takes that holds 100,000 fills, of one
symbol or of many, for the next one in order with all that is told of orders beside it. Python's search for garbage is
held off by `match_lots` itself, and what the benchmark holds is kept from it.

    python benchmarks/matching.py --fills 1000000
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random

import pandas as pd

from coldharbour import Book, Lineage, match_lots
from coldharbour.live.model import Fill, OrderFact

BEGIN = datetime(2020, 1, 2, 14, 30, tzinfo=UTC)
CENT = Decimal("0.01")
REACH, REACH_ONE_S = 50, 0.001
FLOOR_FILLS = 50_000  # what the slow loop is measured on
BEHIND = 100_000

Bracket = tuple[OrderFact, OrderFact, OrderFact, int]  # entry, take-profit, stop, shares


class Market:
    """A stream of trades by chance. orders and fills: as they were told, in order of time."""

    def __init__(self, seed: int, symbols: int) -> None:
        self.chance, self.now, self.count = Random(seed), BEGIN, 0
        self.symbols = [f"SYM{number}" for number in range(symbols)]
        self.held: defaultdict[str, int] = defaultdict(int)
        self.open: defaultdict[str, list[Bracket]] = defaultdict(list)

    def trade(self) -> Iterator[OrderFact | Fill]:
        """Yield orders and fills without end, in order of time."""
        while True:
            symbol, luck = self.chance.choice(self.symbols), self.chance.random()
            open_trades = self.open[symbol]
            if luck < 0.003 and open_trades:
                yield from self._leave_by_hand(symbol, open_trades, beyond=50)
                open_trades.clear()
            elif luck < 0.03 and open_trades:
                trade = open_trades.pop(self.chance.randrange(len(open_trades)))
                yield from self._leave_by_hand(symbol, [trade], beyond=0)
            elif len(open_trades) < 2 or luck < 0.5:
                yield from self._enter(symbol)
            else:
                yield from self._leave(symbol, open_trades.pop(self.chance.randrange(len(open_trades))))

    def _enter(self, symbol: str) -> Iterator[OrderFact | Fill]:
        held = self.held[symbol]  # what a flip left is added to
        is_buy = held > 0 if held else self.chance.random() < 0.7
        qty, price = self.chance.randrange(1, 500), self._price()
        entry = self._order(symbol, qty, is_buy=is_buy, order_type="market")
        limit, stop = (price * Decimal(by) for by in (("1.1", "0.9") if is_buy else ("0.9", "1.1")))
        take = self._order(symbol, qty, is_buy=not is_buy, order_type="limit", limit_price=limit, parent_id=entry.id)
        loss = self._order(symbol, qty, is_buy=not is_buy, order_type="stop", stop_price=stop, parent_id=entry.id)
        yield from (entry, take, loss)
        yield from self._fills(entry, qty)
        self.open[symbol].append((entry, take, loss, qty))

    def _leave(self, symbol: str, trade: Bracket) -> Iterator[OrderFact | Fill]:
        _, take, loss, qty = trade
        leg, other = (take, loss) if self.chance.random() < 0.5 else (loss, take)
        yield from self._fills(leg, qty)
        yield replace(other, status="canceled", canceled_at=self.now)

    def _leave_by_hand(self, symbol: str, trades: Sequence[Bracket], beyond: int) -> Iterator[OrderFact | Fill]:
        """Cancel the legs of trades, and sell what they hold, or more, by an order of its own."""
        for _, take, loss, _ in trades:
            yield replace(take, status="canceled", canceled_at=self.now)
            yield replace(loss, status="canceled", canceled_at=self.now)
        qty = sum(qty for _, _, _, qty in trades) + beyond
        order = self._order(symbol, qty, is_buy=trades[0][1].is_buy, order_type="market")
        yield order
        yield from self._fills(order, qty)

    def _fills(self, order: OrderFact, qty: int) -> Iterator[OrderFact | Fill]:
        parts = self.chance.choice((1, 1, 2, 3)) if qty > 3 else 1
        cuts = [qty * part // parts for part in range(parts + 1)]
        for start, stop in pairwise(cuts):
            self.now += timedelta(microseconds=self.chance.randrange(1, 2_000_000))
            fill_id = f"{self.now:%Y%m%d%H%M%S}::{self._id()}"
            self.held[order.symbol] += (stop - start) * (1 if order.is_buy else -1)
            yield Fill(fill_id, self.now, order.id, order.symbol, order.is_buy, Decimal(stop - start), self._price())
        yield replace(order, status="filled", filled_qty=Decimal(qty), filled_at=self.now)

    def _order(self, symbol: str, qty: int, **facts: object) -> OrderFact:
        return OrderFact(
            id=self._id(), symbol=symbol, status="new", order_class="bracket", time_in_force="gtc", qty=Decimal(qty),
            created_at=self.now, submitted_at=self.now, **facts,  # type: ignore[arg-type]
        )  # fmt: skip

    def _price(self) -> Decimal:
        return self.chance.randrange(500, 50_000) * CENT

    def _id(self) -> str:
        self.count += 1
        return f"{self.count:08x}-0000-4000-8000-000000000000"


def ledger(fills: int, symbols: int) -> tuple[list[Fill], list[OrderFact], Market]:
    """Return a number of fills, the newest statement of each order, and the market to go on with."""
    market = Market(seed=7, symbols=symbols)
    found: list[Fill] = []
    orders: dict[str, OrderFact] = {}
    for event in market.trade():
        if isinstance(event, OrderFact):
            orders[event.id] = event
        elif len(found) == fills:
            return found, list(orders.values()), market
        else:
            found.append(event)
    raise AssertionError


def timed(what: Callable[[], object]) -> float:
    """Return the seconds a call takes."""
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def floor(fills: Sequence[Fill], parents: Mapping[str, str | None]) -> Decimal:
    """Match by a plain loop over the rows of a table of decimals: FIFO, and lots by parent, then oldest first."""
    table = pd.DataFrame(
        [(fill.symbol, fill.order_id, parents[fill.order_id], fill.signed_qty, fill.price) for fill in fills],
        columns=["symbol", "order_id", "parent_id", "qty", "price"],
    )
    queues: defaultdict[str, dict[str, list[Decimal]]] = defaultdict(dict)
    lots: defaultdict[str, dict[str, list[Decimal]]] = defaultdict(dict)
    profit = Decimal(0)
    for place, row in table.iterrows():
        profit += _close(queues[row["symbol"]], row, str(place))
        profit -= _close(lots[row["symbol"]], row, row["order_id"], row["parent_id"])
    return profit


def _close(
    entries: dict[str, list[Decimal]], row: Mapping[str, Decimal], key: str, parent: str | None = None
) -> Decimal:
    """Close what a row sells of these entries, a parent's before the oldest; return the profit."""
    left, profit = row["qty"], Decimal(0)
    while left and (first := parent if parent in entries else next(iter(entries), None)) is not None:
        entry = entries[first]
        if entry[0] * left > 0:
            break
        part = min(abs(entry[0]), abs(left)).copy_sign(left)
        profit -= part * (row["price"] - entry[1])
        entry[0] += part
        left -= part
        if not entry[0]:
            del entries[first]
    if left:
        entries.setdefault(key, [Decimal(0), row["price"]])[0] += left
    return profit


def one_more(symbols: int, behind: int, times: int = 1_000) -> tuple[float, float]:
    """Return the median and the worst seconds of one more fill, with the orders told beside it."""
    fills, orders, market = ledger(behind, symbols)
    book = Book()
    book.apply(orders, fills)
    gc.freeze()
    took: list[float] = []
    waiting: list[OrderFact] = []
    for event in market.trade():
        if isinstance(event, OrderFact):
            waiting.append(event)
            continue
        began = time.perf_counter()
        book.apply(waiting, [event])
        took.append(time.perf_counter() - began)
        waiting = []
        if len(took) == times:
            break
    return statistics.median(took), max(took)


def main() -> int:
    """Measure all of it, print the figures, and exit 1 below the goals."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--fills", type=int, default=1_000_000)
    arguments.add_argument("--symbols", type=int, default=200)
    given = arguments.parse_args()
    fills, orders, _ = ledger(given.fills, given.symbols)
    parents = {order.id: order.parent_id for order in orders}
    floor_per_s = FLOOR_FILLS / timed(lambda: floor(fills[:FLOOR_FILLS], parents))
    began = time.perf_counter()
    lineage = Lineage(orders)
    lineage_s = time.perf_counter() - began
    gc.freeze()  # what the benchmark holds is no part of what is measured
    began = time.perf_counter()
    matching = match_lots(fills, lineage)
    took_s = time.perf_counter() - began
    rows_s = timed(lambda: (matching.open, matching.closed))
    per_s, all_per_s = len(fills) / took_s, len(fills) / (lineage_s + took_s + rows_s)
    print(f"matching: {per_s:,.0f} fills/s of {len(fills):,} through both engines; floor (row loop): "
          f"{floor_per_s:,.0f} fills/s; ratio {per_s / floor_per_s:.0f}x, goal {REACH}x")  # fmt: skip
    print(f"  beside it: lineage of {len(orders):,} orders {lineage_s:.2f} s, {len(matching.closed):,} closed trades "
          f"and {len(matching.open):,} lots as rows {rows_s:.2f} s; with both {all_per_s:,.0f} fills/s")  # fmt: skip
    is_quick = True
    for symbols in (1, 200):
        median_s, worst_s = one_more(symbols, BEHIND)
        is_quick = is_quick and median_s <= REACH_ONE_S
        print(f"one more fill with {BEHIND:,} of {symbols} symbols behind it: median {median_s * 1e6:,.0f} us, worst "
              f"{worst_s * 1e6:,.0f} us; goal {REACH_ONE_S * 1e6:,.0f} us")  # fmt: skip
    return 0 if per_s / floor_per_s >= REACH and is_quick else 1


if __name__ == "__main__":
    sys.exit(main())
