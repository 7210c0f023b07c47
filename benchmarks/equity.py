"""How fast a ledger becomes daily equity: five years of 500,000 activities replayed, beside pandas doing the sums.

Ours: `coldharbour.daily_equity` on exact decimals, with returns, drawdown and ten Sharpe ratios for each session. The
floor: the same cash, holdings and market value in floats, as a pivot, two cumulative sums and a product of whole
tables, without flows, returns, gaps or ratios. Then what a late activity of today costs when the rest is kept.

    python benchmarks/equity.py --activities 500000
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

import pandas as pd

from coldharbour.live.cash import AccountActivity, day_of
from coldharbour.metrics.equity import book_sessions, daily_equity, replay

FIRST, LAST = date(2021, 1, 4), date(2025, 12, 31)
SYMBOLS = 200
REACH_S = 5.0

Closes = dict[str, dict[date, Decimal]]


def sessions() -> list[date]:
    """Return the weekdays of five years."""
    days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
    return [day for day in days if day.weekday() < 5]


def history(days: Sequence[date], count: int, chance: Random) -> tuple[list[AccountActivity], Closes]:
    """Return a busy account's activities, one fee or deposit in fifty, and a close of every symbol on every day."""
    symbols = [f"S{number:03d}" for number in range(SYMBOLS)]
    closes = {symbol: {day: Decimal(chance.randint(1_000, 20_000)).scaleb(-2) for day in days} for symbol in symbols}
    activities = []
    for number in range(count):
        day = days[number * len(days) // count]
        if number % 50 == 0:
            kind, amount = chance.choice([("FEE", "-0.05"), ("DIV", "12.34"), ("CSD", "1000")])
            activities.append(AccountActivity(f"{number}", kind, None, day, net_amount=Decimal(amount)))
            continue
        symbol, side, qty = chance.choice(symbols), chance.choice(["buy", "sell"]), Decimal(chance.randint(1, 100))
        at = datetime(day.year, day.month, day.day, 15, tzinfo=UTC) + timedelta(seconds=chance.randint(0, 18_000))
        price = closes[symbol][day]
        paid = qty * price * (-1 if side == "buy" else 1)
        activities.append(AccountActivity(f"{number}", "FILL", at, None, symbol, side, qty, price, paid))
    return activities, closes


def floor_s(activities: Sequence[AccountActivity], closes: Closes) -> tuple[float, float]:
    """Return the seconds that pandas takes, and the equity at the end as it has it."""
    began = time.perf_counter()
    table = pd.DataFrame(
        {
            "day": pd.to_datetime([day_of(activity) for activity in activities]),
            "symbol": [a.symbol for a in activities],
            "qty": [float(a.qty or 0) * (-1 if a.side == "sell" else 1) for a in activities],
            "cash": [float(a.net_amount or 0) for a in activities],
        }
    )
    prices = pd.DataFrame({symbol: {day: float(close) for day, close in of.items()} for symbol, of in closes.items()})
    prices.index = pd.to_datetime(prices.index)
    cash = table.groupby("day")["cash"].sum().reindex(prices.index, fill_value=0).cumsum()
    moved = table[table["symbol"] != ""].pivot_table(index="day", columns="symbol", values="qty", aggfunc="sum")
    held = moved.reindex(index=prices.index, columns=prices.columns).fillna(0).cumsum()
    equity = cash + (held * prices.ffill()).sum(axis=1)
    return time.perf_counter() - began, float(equity.iloc[-1])


def main() -> int:
    """Measure, print, and return 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activities", type=int, default=500_000)
    count = parser.parse_args().activities
    days = sessions()
    activities, closes = history(days, count, Random(7))

    theirs_s, theirs = floor_s(activities, closes)
    began = time.perf_counter()
    points = daily_equity(activities, closes, days)
    ours_s = time.perf_counter() - began

    kept = list(replay(book_sessions(activities, days[:-1]), closes))[-1]
    today = [activity for activity in activities if day_of(activity) == days[-1]]
    began = time.perf_counter()
    [end] = replay(book_sessions(today, days, after=days[-2]), closes, start=kept)
    one_s = time.perf_counter() - began

    print(f"{count} activities, {len(points)} sessions, {SYMBOLS} symbols")
    print(f"whole ledger    {ours_s:8.2f} s   {count / ours_s:12,.0f} activities/s   goal {REACH_S:.0f} s")
    print(f"pandas' sums    {theirs_s:8.2f} s   {count / theirs_s:12,.0f} activities/s   ratio {theirs_s / ours_s:.2f}")
    print(f"today anew      {one_s * 1000:8.1f} ms  ({len(today)} activities)")
    if abs(float(points[-1].deposit) - theirs) > 0.01 or end.point != points[-1]:
        print(f"the figures differ: {points[-1].deposit}, {theirs}, {end.point.deposit}")
        return 1
    return 0 if ours_s <= REACH_S else 1


if __name__ == "__main__":
    sys.exit(main())
