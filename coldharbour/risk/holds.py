"""What keeps a decided move back although the rule allows it: limits, corporate actions, failures; sends nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import takewhile

from coldharbour.risk.model import Decision, Flag, Reason, StopMove
from coldharbour.risk.prices import quiet_problem

ACCOUNT_WINDOW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A move that was asked of the broker: how the request ended at a moment, and in which state the intent is."""

    symbol: str
    at: datetime
    answer_state: str
    state: str

    @property
    def is_failed(self) -> bool:
        """Whether it is known that the stop was not moved."""
        return self.state in ("REJECTED", "NOT_MOVED")

    @property
    def is_doubtful(self) -> bool:
        """Whether the broker refused it, or did not say what it did."""
        return self.answer_state in ("REJECTED", "UNKNOWN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is allowed. max_move_pct: how far one move may tighten a stop, in percent of the lot's entry price.

    symbol_failures: failed moves of a symbol in a row, within a session, after which it is left alone for the rest of
    that session. account_failures: refused or unanswered moves of the account within ten minutes above which nothing
    is sent.
    """

    max_move_pct: Decimal = Decimal(25)
    symbol_failures: int = 3
    account_failures: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of the account besides its lots. frozen: why a symbol's stops stay as they are, by symbol.

    attempts: of this session and of the last ten minutes, newest first. session_since: when the session's day began.
    flattening: symbols whose positions are being closed.
    """

    now: datetime
    session_since: datetime
    frozen: Mapping[str, str]
    attempts: Sequence[Attempt]
    flattening: Collection[str] = ()


def held_back(decision: Decision, limits: Limits, around: Circumstances) -> Decision:
    """Return the decision, without its action if something keeps it back; one without action stays as it is."""
    if decision.action is None:
        return decision
    found = _hold(decision, decision.action, limits, around)
    return decision if found is None else kept_back(decision, *found)


def kept_back(decision: Decision, reason: Reason, detail: str) -> Decision:
    """Return a decision that leads to nothing, for another reason than the rule's own."""
    return replace(decision, flag=Flag.NOTHING, reason=reason, detail=detail, action=None)


def symbol_failures(symbol: str, around: Circumstances) -> int:
    """Return how many moves of a symbol failed in a row in this session, up to now."""
    known = [attempt for attempt in around.attempts if attempt.symbol == symbol and attempt.at >= around.session_since]
    return len(list(takewhile(lambda attempt: attempt.is_failed, known)))


def account_failures(around: Circumstances) -> int:
    """Return how many moves of the account were refused or not answered within the last ten minutes."""
    return sum(attempt.is_doubtful and around.now - attempt.at <= ACCOUNT_WINDOW for attempt in around.attempts)


def _hold(decision: Decision, move: StopMove, limits: Limits, around: Circumstances) -> tuple[Reason, str] | None:
    return _hold_by_symbol(decision, around) or _hold_by_limits(decision, move, limits, around)


def _hold_by_symbol(decision: Decision, around: Circumstances) -> tuple[Reason, str] | None:
    symbol = decision.lot.symbol
    if symbol in around.flattening:
        return Reason.FLATTENING, f"the position in {symbol} is being closed: its orders are canceled"
    if why := quiet_problem(decision.market, decision.rule):
        return Reason.PERHAPS_HALTED, why
    if why := around.frozen.get(symbol):
        return Reason.CORPORATE_ACTION, f"{why}: prices and shares may not be those of the entry"
    return None


def _hold_by_limits(
    decision: Decision, move: StopMove, limits: Limits, around: Circumstances
) -> tuple[Reason, str] | None:
    lot = decision.lot
    move_pct = abs(move.stop_price - move.old_stop) * 100 / lot.entry_price
    if move_pct > limits.max_move_pct:
        detail = (
            f"{move.old_stop} -> {move.stop_price} is {move_pct:.1f} % of the entry (limit {limits.max_move_pct} %)"
        )
        return Reason.MOVE_TOO_WIDE, detail
    if (failed := symbol_failures(lot.symbol, around)) >= limits.symbol_failures:
        return Reason.SYMBOL_DISARMED, f"the last {failed} moves of {lot.symbol} failed: left alone for this session"
    if (failed := account_failures(around)) > limits.account_failures:
        detail = f"{failed} moves were refused or not answered within ten minutes (limit {limits.account_failures})"
        return Reason.ACCOUNT_DISARMED, detail
    return None
