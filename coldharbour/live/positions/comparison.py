"""Compares the broker's positions with our lots, answer by answer; records and tells, and corrects nothing.

A difference counts when two answers in a row show it: one answer may be torn, or know of a fill before we do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from coldharbour.accounts import AccountContext
from coldharbour.broker import Position
from coldharbour.events import DriftResolved, PositionDrift
from coldharbour.live.following import FollowedBook
from coldharbour.live.model import ZERO
from coldharbour.live.positions import store
from coldharbour.live.positions.drift import Drift, differing
from coldharbour.live.positions.store import BrokerPosition


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker said of all positions. asked_at: when it was asked, so that all before is in it."""

    positions: tuple[BrokerPosition, ...]
    asked_at: datetime


async def ask(ctx: AccountContext) -> Answer:
    """Ask the broker for all positions. Raises Transient for any answer that is not whole."""
    asked_at = ctx.clock.now()
    return Answer(tuple(_position(position, asked_at) for position in await ctx.broker.positions()), asked_at)


class PositionComparison:
    """What one account's answers were compared to, and what the last one left in doubt."""

    def __init__(self, ctx: AccountContext, followed: FollowedBook) -> None:
        self._ctx, self._followed = ctx, followed
        self._doubted: frozenset[str] = frozenset()  # symbols that differed in the last answer

    async def compare(self, answer: Answer) -> bool:
        """Record an answer and what it says of our lots, which are to be caught up with the lake.

        Returns whether a difference is new: then the broker is worth asking again soon.
        """
        book = self._followed.book
        answer = replace(answer, positions=spelled_as(answer.positions, book.symbols()))
        ours = {symbol: qty for symbol in book.symbols() if (qty := book.quantity(symbol))}
        brokers = {position.symbol: position.qty for position in answer.positions}
        differ = differing(ours, brokers, self._followed.recent_fills(), answer.asked_at)
        slug, now = self._followed.slug, self._ctx.clock.now()
        async with self._ctx.db.transaction() as conn:
            known = await store.open_drifts(conn, slug)
            certain = [self._drift(symbol, answer) for symbol in differ if symbol in known | self._doubted]
            torn = [symbol for symbol in differ if symbol not in brokers and symbol not in self._doubted]
            await store.replace_positions(conn, slug, answer.positions, answer.asked_at, keep=torn)
            for drift in certain:
                await store.see_drift(conn, slug, drift, now)
            resolved = await store.resolve_drifts(conn, slug, differ, now)
        is_new = not self._doubted.issuperset(set(differ) - known)
        self._doubted = frozenset(differ)
        self._tell_drifts(drift for drift in certain if drift.symbol not in known)
        for symbol, lasted in resolved:
            self._ctx.log.info("positions.drift_resolved", symbol=symbol, drifted_s=round(lasted.total_seconds(), 1))
            self._ctx.emit(DriftResolved(at=now, symbol=symbol, drifted_s=lasted.total_seconds()))
        return is_new

    def _tell_drifts(self, drifts: Iterable[Drift]) -> None:
        for drift in drifts:
            ours, brokers = str(drift.our_qty), str(drift.broker_qty)
            self._ctx.log.warning("positions.drift", symbol=drift.symbol, our_qty=ours, broker_qty=brokers)
            self._ctx.emit(
                PositionDrift(
                    at=self._ctx.clock.now(), symbol=drift.symbol, our_qty=drift.our_qty, broker_qty=drift.broker_qty
                )
            )

    def _drift(self, symbol: str, answer: Answer) -> Drift:
        book = self._followed.book
        lots = book.lots(symbol)
        theirs = _of(symbol, answer.positions)
        return Drift(
            symbol=symbol, our_qty=book.quantity(symbol), broker_qty=theirs.qty if theirs else ZERO,
            our_avg=lots[0].avg_px_symbol if lots else None, broker_avg=theirs.avg_entry_price if theirs else None,
        )  # fmt: skip


def spelled_as(positions: Iterable[BrokerPosition], symbols: Iterable[str]) -> tuple[BrokerPosition, ...]:
    """Return the positions under the names that fills have: a pair such as BTC/USD loses its stroke as a position."""
    names = {symbol.replace("/", ""): symbol for symbol in symbols}
    return tuple(replace(position, symbol=names.get(position.symbol, position.symbol)) for position in positions)


def _of(symbol: str, positions: Sequence[BrokerPosition]) -> BrokerPosition | None:
    return next((position for position in positions if position.symbol == symbol), None)


def _position(position: Position, asked_at: datetime) -> BrokerPosition:
    return BrokerPosition(
        position.symbol, position.signed_qty, position.avg_entry_price, position.current_price, asked_at
    )
