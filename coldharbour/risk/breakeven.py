"""When a stop moves to break-even, and to which price; reads nothing and sends nothing."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Required, TypedDict

from coldharbour.live.model import Side
from coldharbour.risk.grid import CENT, is_price, tick_at
from coldharbour.risk.model import BreakevenRule, Decision, Flag, MarketView, ProtectedLot, Reason, StopKind, StopMove
from coldharbour.risk.prices import price_problem
from coldharbour.risk.replacement import replace_stop


class NoLegalStop(ValueError):
    """No stop above zero exists on the losing side of this entry."""


def legal_stop(entry: Decimal, side: Side, min_gap: Decimal = CENT) -> Decimal:
    """Return the break-even stop of an entry: one gap to its losing side, on the exchange's grid.

    entry: price per share, of any precision. min_gap: currency per share, 0 or above; the gap is never less than a
    tick. The tick is a cent from 1 on and a hundredth of one below, by the resulting stop: computed with the entry's
    tick, and once more if that lies on the other side of 1. Rounded half up, so never at or beyond the entry, but
    perhaps half a tick nearer than the gap. Raises NoLegalStop if nothing above zero is left, ValueError for an entry
    or a gap that is no such number. Source: domain.md 9.

    >>> legal_stop(Decimal("13.58"), Side.LONG), legal_stop(Decimal("3.6199"), Side.LONG)
    (Decimal('13.57'), Decimal('3.61'))
    >>> legal_stop(Decimal("7.945"), Side.LONG), legal_stop(Decimal("7.945"), Side.SHORT)
    (Decimal('7.94'), Decimal('7.96'))
    >>> legal_stop(Decimal("1.0049"), Side.LONG), legal_stop(Decimal("0.995"), Side.SHORT)
    (Decimal('0.9949'), Decimal('1.01'))
    """
    if not is_price(entry) or not min_gap.is_finite() or min_gap < 0:
        raise ValueError(f"an entry is a price and a gap is 0 or above, not {entry} and {min_gap}")
    tick = tick_at(entry)
    legal = _gapped(entry, side, min_gap, tick)
    if tick_at(legal) != tick:
        again = _gapped(entry, side, min_gap, tick_at(legal))
        # A gap below a cent can lead back over 1, off the grid there; whole cents are on both grids.
        legal = again if tick_at(again) == tick_at(legal) else legal
    if not is_price(legal):
        raise NoLegalStop(f"no stop above zero lies {min_gap} to the losing side of {entry}")
    return legal


def _gapped(entry: Decimal, side: Side, min_gap: Decimal, tick: Decimal) -> Decimal:
    return (entry - side.sign * max(min_gap, tick)).quantize(tick, ROUND_HALF_UP)


def breakeven_trigger(
    entry: Decimal,
    side: Side,
    *,
    initial_stop: Decimal | None,
    trigger_r: Decimal = Decimal(2),
    target: Decimal | None = None,
) -> Decimal | None:
    """Return the price whose touch arms the move, None if nothing says where it lies.

    target: a price given from outside; it counts if it lies beyond the entry on the winning side, since any other
    would arm at once. Else entry + s*trigger_r*R with R = |entry - initial_stop|, unrounded; below zero it can never
    be touched. Raises ValueError for an entry that is no price. Source: domain.md 9.

    >>> breakeven_trigger(Decimal("2.64"), Side.LONG, initial_stop=Decimal("2.52"))
    Decimal('2.88')
    >>> breakeven_trigger(Decimal("2.64"), Side.LONG, initial_stop=None, target=Decimal("2.90"))
    Decimal('2.90')
    """
    if not is_price(entry):
        raise ValueError(f"an entry is a price, not {entry}")
    if is_price(target) and side.sign * (target - entry) > 0:
        return target
    if not is_price(initial_stop):
        return None
    return entry + side.sign * trigger_r * abs(entry - initial_stop)


def decide_breakeven(lot: ProtectedLot, market: MarketView, rule: BreakevenRule, *, is_asked: bool = False) -> Decision:
    """Return what to do with a lot's stop now, why, and every number that led to it. Never raises for bad prices.

    The table of domain.md 9, first match wins; comparisons are strict as written there: a market at the entry has not
    crossed it, touching the trigger arms. A stop at or past the legal one is Already; a trailing stop before that is
    left alone. The action of an OK decision is always strictly tighter than the stop that stands, on the grid, and
    on the losing side of the market. A dry run ends as `—, dry_run` with `new_stop` filled and no action. is_asked: a
    person wants the move now, so the trigger need not have been touched; every other row holds.

    >>> from datetime import UTC, datetime
    >>> now = datetime(2026, 10, 8, 15, 0, tzinfo=UTC)
    >>> lot = ProtectedLot(
    ...     parent_id="p", symbol="KO", side=Side.LONG, qty=Decimal(100), entry_price=Decimal("2.64"),
    ...     stop_order_id="s", stop_price=Decimal("2.52"), initial_stop=Decimal("2.52"),
    ... )
    >>> def market(price):
    ...     return MarketView(
    ...         as_of=now, feed_silent_s=0.2, price=Decimal(price), traded_at=now, last_trade=Decimal(price),
    ...         high=Decimal("2.88"), low=Decimal("2.50"),
    ...     )
    >>> decision = decide_breakeven(lot, market("2.80"), BreakevenRule())
    >>> decision.flag.value, decision.reason.value, decision.trigger, decision.new_stop
    ('OK', 'moved', Decimal('2.88'), Decimal('2.63'))
    >>> decide_breakeven(lot, market("2.55"), BreakevenRule()).detail
    'the market 2.55 has crossed the entry 2.64: a stop there would end the trade'
    """
    try:
        legal = legal_stop(lot.entry_price, lot.side, rule.min_gap)
    except ValueError as error:
        found = _nothing(Reason.UNUSABLE_LOT, str(error))
        return Decision(lot=lot, market=market, rule=rule, legal=None, trigger=None, **found)
    trigger = breakeven_trigger(
        lot.entry_price, lot.side, initial_stop=lot.initial_stop, trigger_r=rule.trigger_r, target=lot.target
    )
    found = (
        _by_the_stop(lot, legal)
        or _by_the_price(lot, market, rule)
        or (None if is_asked else _by_the_trigger(lot, market, trigger))
        or _move(lot, legal, rule, "somebody asked" if is_asked else "the trigger was touched")
    )
    return Decision(lot=lot, market=market, rule=rule, legal=legal, trigger=trigger, **found)


class _Found(TypedDict, total=False):
    """The part of a decision that a row of the table fills in."""

    flag: Required[Flag]
    reason: Required[Reason]
    detail: Required[str]
    new_stop: Decimal
    action: StopMove


def _nothing(reason: Reason, detail: str) -> _Found:
    return {"flag": Flag.NOTHING, "reason": reason, "detail": detail}


def _by_the_stop(lot: ProtectedLot, legal: Decimal) -> _Found | None:
    """Row 1, and the stops that cannot be moved whatever the market does."""
    if is_price(lot.stop_price) and lot.side.sign * (lot.stop_price - legal) >= 0:
        detail = f"the stop {lot.stop_price} is at the break-even stop {legal}, or tighter"
        return {"flag": Flag.ALREADY, "reason": Reason.AT_BREAK_EVEN, "detail": detail}
    if lot.stop_kind is StopKind.TRAILING_STOP:
        return _nothing(Reason.TRAILING_STOP, f"{lot.stop_order_id} trails the market by itself and is left alone")
    try:
        replace_stop(lot, legal)
    except ValueError as error:
        return _nothing(Reason.UNUSABLE_LOT, str(error))
    return None


def _by_the_price(lot: ProtectedLot, market: MarketView, rule: BreakevenRule) -> _Found | None:
    """Rows 2 and 3."""
    if problem := price_problem(market, rule):
        return _nothing(Reason.NO_PRICE, problem)
    if market.price is not None and lot.side.sign * (market.price - lot.entry_price) < 0:
        detail = f"the market {market.price} has crossed the entry {lot.entry_price}: a stop there would end the trade"
        return _nothing(Reason.CROSSED_ENTRY, detail)
    return None


def _by_the_trigger(lot: ProtectedLot, market: MarketView, trigger: Decimal | None) -> _Found | None:
    """Row 4."""
    if trigger is None:
        return _nothing(Reason.NO_TRIGGER, "no initial stop is known, so there is no R to measure a trigger by")
    which, extreme = ("high" if lot.side is Side.LONG else "low"), market.extreme(lot.side)
    if not is_price(extreme):
        return _nothing(Reason.NOT_ARMED, f"no {which} since entry is known; the trigger is {trigger}")
    if lot.side.sign * (extreme - trigger) < 0:
        return _nothing(Reason.NOT_ARMED, f"the {which} since entry, {extreme}, has not reached the trigger {trigger}")
    return None


def _move(lot: ProtectedLot, legal: Decimal, rule: BreakevenRule, why: str) -> _Found:
    """Row 5."""
    detail = f"{why}: the stop moves from {lot.stop_price} to {legal}"
    if rule.dry_run:
        return {**_nothing(Reason.DRY_RUN, f"{detail}, were this not a dry run"), "new_stop": legal}
    action = replace_stop(lot, legal)
    return {"flag": Flag.OK, "reason": Reason.MOVED, "detail": detail, "new_stop": legal, "action": action}
