"""What happened in one sentence, and how grave it is, for the journal of the pages; pure, no I/O."""

from __future__ import annotations

from datetime import timedelta

from coldharbour.events import (
    AnyEvent,
    DriftResolved,
    FillRecorded,
    FlattenBegun,
    FlattenBlocked,
    FlattenEnded,
    GapHealed,
    GapOpened,
    LossLimitReached,
    LossLimitReset,
    MessageQuarantined,
    MovesDisarmed,
    OperatorAnswered,
    OperatorAsked,
    PositionDrift,
    PositionProtected,
    PositionUnprotected,
    StopExpiring,
    StopMoved,
    TradeClosed,
    WorkerFailed,
    WorkerGaveUp,
    WorkerParked,
)
from coldharbour.web.formats import duration, gain, money, plural, price, quantity, seconds

OUTCOMES = {"done": "good", "dry run": "idle", "failed": "bad", "lost": "bad"}  # anything else is a warning


def sentence(event: AnyEvent) -> tuple[str, str]:
    """Return an event's tone ("good", "idle", "warn" or "bad") and its sentence."""
    return _of_recording(event) or _of_trading(event) or _of_people(event) or ("idle", type(event).__name__)


def _of_recording(event: AnyEvent) -> tuple[str, str] | None:  # noqa: PLR0911 - one line per kind of event
    match event:
        case GapOpened(reason=reason):
            return "warn", f"order stream went blind: {reason}"
        case GapHealed(blind_s=blind_s, orders=orders, fills=fills):
            blind = duration(timedelta(seconds=blind_s))
            return "good", f"gap healed after {blind}: {plural(orders, 'order')}, {plural(fills, 'fill')} recovered"
        case MessageQuarantined(source=source, reason=reason):
            return "warn", f"message from {source} quarantined: {reason}"
        case WorkerFailed(worker=worker, error=error):
            return "warn", f"{worker} failed: {error}"
        case WorkerParked(worker=worker, error=error):
            return "bad", f"{worker} waits for you: {error}"
        case WorkerGaveUp(worker=worker, error=error):
            return "bad", f"{worker} gave up: {error}"
    return None


def _of_trading(event: AnyEvent) -> tuple[str, str] | None:  # noqa: PLR0911 - one line per kind of event
    match event:
        case FillRecorded(symbol=symbol, side=side, qty=qty, price=paid):
            return "idle", f"{symbol} filled: {side.replace('_', ' ')} {quantity(qty)} at {price(paid)}"
        case TradeClosed(symbol=symbol, side=side, qty=qty, pnl_cash=pnl, exit_type=exit_type):
            return "idle", f"{symbol} closed: {quantity(qty)} {side.lower()} by {exit_type}, {gain(pnl)}"
        case PositionDrift(symbol=symbol, our_qty=ours, broker_qty=brokers):
            return "warn", f"{symbol} drifts: the broker has {quantity(brokers)}, our lots {quantity(ours)}"
        case DriftResolved(symbol=symbol, drifted_s=drifted_s):
            return "good", f"{symbol} agrees with the broker again, after {seconds(drifted_s)}"
        case StopMoved(symbol=symbol, side=side, old_stop=old, new_stop=new):
            return "good", f"{symbol} {side.lower()}: stop moved from {price(old)} to {price(new)}"
        case MovesDisarmed(symbol=symbol, reason=reason):
            return "warn", f"no stop of {symbol or 'this account'} is moved for a while: {reason}"
        case PositionUnprotected(symbol=symbol, side=side, qty=qty, reason=reason):
            return "bad", f"{symbol}: {quantity(qty)} {side.lower()} without a live stop: {reason.replace('_', ' ')}"
        case PositionProtected(symbol=symbol, exposed_s=exposed_s):
            return "good", f"{symbol} is protected again or closed, after {seconds(exposed_s)}"
        case StopExpiring(symbol=symbol, days_left=days):
            return "warn", f"{symbol}: a leg of its exit expires in {plural(days, 'day')}"
    return None


def _of_people(event: AnyEvent) -> tuple[str, str] | None:  # noqa: PLR0911 - one line per kind of event
    """Tell of what people set, asked, and must decide."""
    match event:
        case LossLimitReached(stage=stage, day_pnl=pnl, limit=limit):
            return "bad", f"limit of the day's loss reached, {stage}: {gain(pnl)}, allowed are {money(limit)}"
        case LossLimitReset(stages=stages, by=by):
            return "idle", f"limits of the day's loss reset by {by}: {stages}"
        case FlattenBegun(limit_of=whose, targets=targets, is_dry_run=is_dry_run):
            return "bad", f"{'dry run of a flatten' if is_dry_run else 'flatten'}, by the limit of {whose}: {targets}"
        case FlattenBlocked(symbol=symbol, reason=reason):
            return "bad", f"flatten of {symbol or 'everything'} is held up: {reason}"
        case FlattenEnded(outcome=outcome, detail=detail):
            return OUTCOMES.get(outcome, "warn"), f"flatten ended, {outcome}: {detail}"
        case OperatorAsked(worker=worker, action=action, asked_by=who):
            return "idle", f"{who} asked {worker}: {action.replace('_', ' ')}"
        case OperatorAnswered(worker=worker, action=action, outcome=outcome, detail=detail):
            return OUTCOMES.get(outcome, "warn"), f"{worker}, {action.replace('_', ' ')}, {outcome}: {detail}"
    return None
