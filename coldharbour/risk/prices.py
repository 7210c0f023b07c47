"""Whether a market price is good enough to act on; never what to do then."""

from __future__ import annotations

from decimal import Decimal

from coldharbour.risk.grid import is_price
from coldharbour.risk.model import BreakevenRule, MarketView

AHEAD_S = 5.0  # how far in the future a trade's stamp may lie before it says nothing about age


def price_problem(market: MarketView, rule: BreakevenRule) -> str | None:
    """Return why nothing may be decided by this price, in words, None if it is good.

    A price is good when it is finite and positive, the feed is not silent, the symbol's last trade is not too old,
    and it lies within `max_jump_pct` of the last trade (bounds included) or a second source confirms it. A value that
    is missing, or cannot be compared, never counts as good. Source: domain.md 9, row 2 and its last paragraph.
    """
    if not is_price(market.price):
        return "no market price" if market.price is None else f"{market.price} is no price"
    return _silence(market, rule) or _age(market, rule) or _jump(market.price, market, rule)


def quiet_problem(market: MarketView, rule: BreakevenRule) -> str | None:
    """Return why trading in a symbol may be halted, in words, None while it trades.

    Nothing that is read here tells of halts. A symbol that does not trade may be halted, so nothing is sent until it
    trades again; a halt that has just begun looks like a pause between two trades.
    """
    age_s = market.price_age_s
    if age_s is not None and age_s <= rule.max_quiet_s:
        return None
    return f"it has not traded for {age_s or 0:.0f} s (limit {rule.max_quiet_s:g} s) and may be halted"


def _silence(market: MarketView, rule: BreakevenRule) -> str | None:
    silent_s = market.feed_silent_s
    if silent_s is None:
        return "the feed has brought no price yet"
    if not silent_s <= rule.max_silence_s:
        return f"the feed has been silent for {silent_s:.1f} s (limit {rule.max_silence_s:g} s)"
    return None


def _age(market: MarketView, rule: BreakevenRule) -> str | None:
    age_s = market.price_age_s
    if age_s is None:
        return "nobody says when the last trade was made"
    if age_s > rule.max_price_age_s:
        return f"the last trade is {age_s:.0f} s old (limit {rule.max_price_age_s:g} s)"
    if age_s < -AHEAD_S:
        return f"the last trade is stamped {-age_s:.0f} s in the future"
    return None


def _jump(price: Decimal, market: MarketView, rule: BreakevenRule) -> str | None:
    if market.confirmed:
        return None
    if not is_price(market.last_trade):
        return f"nothing confirms {price}: there is no last trade to compare it with"
    if abs(price - market.last_trade) * 100 > rule.max_jump_pct * market.last_trade:
        return f"{price} is more than {rule.max_jump_pct} % off the last trade {market.last_trade}, and not confirmed"
    return None
