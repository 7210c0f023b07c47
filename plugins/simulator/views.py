"""An account's figures as Alpaca shows them: owns valuation and JSON of account, positions and history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial

from .blotter import Blotter
from .digits import ZERO, cents, plain
from .ledger import Position
from .market import Market
from .permission import buying_power, equity_of, held_for_exits
from .refusals import invalid
from .sessions import Session, Sessions
from .stamps import SECOND, nanoseconds, new_york_day, new_york_ns, rfc3339

JSON = dict[str, object]
RATIO = Decimal("0.000001")
PERIODS = {"D": 1, "W": 7, "M": 30, "A": 365}
TIMEFRAMES = {"1Min": 60, "5Min": 300, "15Min": 900, "1H": 3600, "1D": 86400}


class Views:
    """Reads one account's blotter and the market; changes neither."""

    def __init__(self, slug: str, account_id: str, blotter: Blotter, market: Market, sessions: Sessions) -> None:
        self._slug = slug
        self._id = account_id
        self._blotter = blotter
        self._market = market
        self._sessions = sessions
        self._last_equity: tuple[date, Decimal] | None = None

    def account(self, now: int) -> JSON:
        """Return the account JSON; equity = cash + long + short market value."""
        values = [held.qty * self._market.price(symbol) for symbol, held in self._positions()]
        long_value = sum((value for value in values if value > 0), ZERO)
        short_value = sum((value for value in values if value < 0), ZERO)
        equity = equity_of(self._blotter, self._market)
        power, margin = buying_power(self._blotter, self._market), (long_value - short_value) / 2
        money = {
            "cash": self._blotter.ledger.cash,
            "equity": equity,
            "portfolio_value": equity,
            "buying_power": power,
            "regt_buying_power": power / 2,
            "effective_buying_power": power,
            "non_marginable_buying_power": max(self._blotter.ledger.cash, ZERO),
            "options_buying_power": max(self._blotter.ledger.cash, ZERO),
            "long_market_value": long_value,
            "short_market_value": short_value,
            "position_market_value": long_value - short_value,
            "initial_margin": margin,
            "maintenance_margin": margin * Decimal("0.6"),
            "last_maintenance_margin": margin * Decimal("0.6"),
            "sma": equity,
            "accrued_fees": ZERO,
            "pending_reg_taf_fees": ZERO,
            "intraday_adjustments": ZERO,
        }
        ends = self._blotter.ledger.day_ends
        return {
            "id": self._id,
            "account_number": f"PA3{self._id[:9].replace('-', '').upper()}",
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            **{name: plain(cents(amount)) for name, amount in money.items()},
            "last_equity": plain(self.last_equity(now)),
            "multiplier": "4",
            "balance_asof": new_york_day(now).isoformat(),
            "created_at": rfc3339(new_york_ns(ends[0].day, datetime.min.time()) if ends else now),
            "crypto_tier": 1,
            "options_approved_level": 3,
            "options_trading_level": 3,
            "shorting_enabled": True,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": False,
            "admin_configurations": {},
            "user_configurations": None,
        }

    def last_equity(self, now: int) -> Decimal:
        """Return the equity at the close before today, in currency, unrounded."""
        today = new_york_day(now)
        if self._last_equity is None or self._last_equity[0] != today:
            before = self._close_before(today)
            equity = ZERO if before is None else self._equity_at_close(before)
            self._last_equity = (today, equity)
        return self._last_equity[1]

    def positions(self, now: int) -> list[JSON]:
        """Return the JSON of every position, by symbol."""
        return [self.position(symbol, held, now) for symbol, held in sorted(self._positions())]

    def position(self, symbol: str, held: Position, now: int) -> JSON:
        """Return a position's JSON; a short one has negative quantity, value and cost."""
        asset, price = self._market.assets[symbol], self._market.price(symbol)
        before = self._close_before(new_york_day(now))
        lastday = price if before is None else self._market.close_in_todays_shares(symbol, before.close, now)
        cost, value = held.qty * held.average, held.qty * price
        profit, today = value - cost, held.qty * (price - lastday)
        free = abs(held.qty) - held_for_exits(self._blotter, symbol)
        return {
            "asset_id": asset.id,
            "symbol": symbol,
            "exchange": asset.exchange,
            "asset_class": "us_equity",
            "asset_marginable": True,
            "qty": plain(held.qty),
            "qty_available": plain(max(free, ZERO) * (1 if held.qty > 0 else -1)),
            "avg_entry_price": plain(held.average.quantize(RATIO)),
            "side": "long" if held.qty > 0 else "short",
            "market_value": plain(value),
            "cost_basis": plain(cost.quantize(RATIO)),
            "current_price": plain(price),
            "lastday_price": plain(lastday),
            "change_today": _ratio(price - lastday, lastday),
            "unrealized_pl": plain(profit.quantize(RATIO)),
            "unrealized_plpc": _ratio(profit, abs(cost)),
            "unrealized_intraday_pl": plain(today.quantize(RATIO)),
            "unrealized_intraday_plpc": _ratio(today, abs(held.qty) * lastday),
        }

    def history(
        self,
        now: int,
        period: str | None,
        timeframe: str | None,
        start: datetime | None,
        end: datetime | None,
    ) -> JSON:
        """Return the portfolio history JSON: numbers, epoch seconds, one point per window of session time.

        Raises Refused for a period or timeframe that does not exist.
        """
        last = min(now, nanoseconds(end)) if end is not None else now
        days = _days_of(period or "1M")
        first = nanoseconds(start) if start is not None else last - days * 86400 * SECOND
        span_days = (last - first) / (86400 * SECOND)
        frame = timeframe or ("1Min" if span_days < 7 else "15Min" if span_days < 30 else "1D")
        if frame not in TIMEFRAMES:
            raise invalid(f"invalid timeframe: {frame}")
        labels, equities, flows = self._curve(first, last, frame)
        base = equities[0] if equities else ZERO
        profits = [ZERO] + [
            after - before - flow for before, after, flow in zip(equities, equities[1:], flows[1:], strict=False)
        ]
        return {
            "timestamp": labels,
            "equity": [float(cents(equity)) for equity in equities],
            "profit_loss": [float(cents(profit)) for profit in profits[: len(labels)]],
            "profit_loss_pct": [
                float(round(profit / before, 6)) if before else 0.0
                for profit, before in zip(profits, [base, *equities], strict=False)
            ][: len(labels)],
            "base_value": float(cents(base)),
            "base_value_asof": new_york_day(first).isoformat(),
            "timeframe": frame,
            "cashflow": {},
        }

    def _curve(self, first: int, last: int, frame: str) -> tuple[list[int], list[Decimal], list[Decimal]]:
        width = TIMEFRAMES[frame] * SECOND
        grid = _grid(self._sessions.between(new_york_day(first), new_york_day(last)), width, first, last)
        end = self._blotter.ledger.day_end(new_york_day(first) - timedelta(days=1))
        cash, shares, flow = end.cash, dict(end.quantities), ZERO
        pending = iter(self._blotter.ledger.since(new_york_day(first)))
        activity = next(pending, None)
        labels: list[int] = []
        equities: list[Decimal] = []
        flows: list[Decimal] = []
        for label, at in grid:
            while activity is not None and activity.at <= at:
                cash += activity.net_amount
                flow += activity.flow
                if activity.signed_qty:
                    symbol = activity.symbol or ""
                    shares[symbol] = shares.get(symbol, ZERO) + activity.signed_qty
                activity = next(pending, None)
            labels.append(label // SECOND)
            equities.append(cash + self._value(shares, partial(self._market.price_ns, ns=at)))
            flows.append(flow)
            flow = ZERO
        return labels, equities, flows

    def _positions(self) -> list[tuple[str, Position]]:
        return list(self._blotter.ledger.positions.items())

    def _close_before(self, day: date) -> Session | None:
        return self._sessions.last_opened(new_york_ns(day, datetime.min.time()) - 1)

    def _equity_at_close(self, session: Session) -> Decimal:
        end = self._blotter.ledger.day_end(session.day)
        return end.cash + self._value(end.quantities, partial(self._market.price_ns, ns=session.close))

    def _value(self, quantities: dict[str, Decimal], price: Callable[[str], Decimal]) -> Decimal:
        return sum((qty * price(symbol) for symbol, qty in quantities.items() if qty), ZERO)


def _grid(sessions: list[Session], width: int, first: int, last: int) -> list[tuple[int, int]]:
    """Return (label, moment of valuation) of every window; the label is the window's left end."""
    if width >= 86400 * SECOND:
        return [
            (new_york_ns(session.day, datetime.min.time()), min(session.close, last))
            for session in sessions
            if session.close > first and session.open <= last
        ]
    return [
        (at, min(at + width, session.close, last))
        for session in sessions
        for at in range(session.open, session.close, width)
        if first <= at <= last
    ]


def _days_of(period: str) -> int:
    count, unit = period[:-1], period[-1:]
    if not count.isdigit() or unit not in PERIODS:
        raise invalid(f"invalid period: {period}")
    return int(count) * PERIODS[unit]


def _ratio(change: Decimal, base: Decimal) -> str:
    return plain((change / base).quantize(RATIO)) if base else "0"
