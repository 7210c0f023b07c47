"""Both matchings of one symbol over one tape, moved on and back together, and the rows that they make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from coldharbour.live import liveness
from coldharbour.live.average import AverageCost
from coldharbour.live.cover import Cover, cover
from coldharbour.live.decimals import EXACT, ROUNDED, decimal, quotient
from coldharbour.live.exposure import exposure
from coldharbour.live.fifo import FifoEngine
from coldharbour.live.lineage import Leg, Lineage, earliest_expiry
from coldharbour.live.liveness import Span
from coldharbour.live.lot_engine import LotEngine, OpenLot, Row
from coldharbour.live.model import ZERO, ClosedTrade, ExitType, Lot, OrderFact, Side
from coldharbour.live.tape import Attachment, Step, Tape, key_of

HUNDRED = Decimal(100)
SECOND = timedelta(seconds=1)


class SymbolBook:
    """One symbol's events, lots and inventory. Events may come late or be stated anew; the rows end as they must."""

    def __init__(self, symbol: str, lineage: Lineage) -> None:
        self.symbol, self.lineage, self.tape = symbol, lineage, Tape()
        self._begin()

    def _begin(self) -> None:
        self.fifo, self.engine = FifoEngine(self.tape), LotEngine(self.tape, self.lineage)
        self.average = AverageCost(self.tape)
        self._cover: Cover | None = None

    def change(self, added: Sequence[Step], gone: Collection[Step] = (), redo: Iterable[int] = ()) -> None:
        """Put events in, take events out, and match again from the earliest place that this touches.

        redo: places whose outcome hangs on orders that changed.
        """
        tape = self.tape
        self._cover = None
        place = min((tape.find(step) for step in (*added, *gone)), default=len(tape))
        place = min(place, *redo, len(tape))
        self._rewind(place)
        leaving = {(type(step), step.id) for step in gone}
        tail = [step for step in tape.cut(place) if (type(step), step.id) not in leaving]
        tail = sorted([*tail, *added], key=key_of)
        if not tape.fits(tail):
            tail = [*tape.steps, *tail]
            tape.rescale(tail)
            self._begin()
        tape.extend(tail)
        self.engine.advance()
        self.fifo.advance()

    def _rewind(self, place: int) -> None:
        self.engine.rewind(place)
        self.fifo.rewind(place)
        self.average.rewind(place)

    def asked_since(self, at: datetime) -> int:
        """Return the first step from a moment on whose outcome hung on which legs were live, or the tape's end."""
        steps = self.tape.steps
        for place in self.engine.asked:
            if steps[place].at >= at:
                return place
        return len(steps)

    def used_first(self, order_id: str) -> int:
        """Return the first step at which an order closed something, or the tape's end."""
        row = self.engine.rows.get(order_id)
        place = len(self.tape)
        while row is not None:
            place, row = min(place, row.first), row.earlier
        return place

    @property
    def quantity(self) -> Decimal:
        """Shares held, negative when short."""
        return decimal(self.tape.position, self.tape.qty_digits)

    # Rows

    def lots(self) -> tuple[Lot, ...]:
        """Return the open lots, the oldest first."""
        lots = sorted(self.engine.open.values(), key=lambda lot: lot.first)
        average = self.average.price
        return tuple(self._lot(lot, average) for lot in lots)

    def closed(self) -> tuple[ClosedTrade, ...]:
        """Return the closed trades, in order of their exits."""
        trades = (self._trade(row) for lot in self.engine.lots.values() for row in lot.rows())
        return tuple(
            sorted(
                trades, key=lambda trade: (trade.exit_time, trade.exit_order_id, trade.entry_time, trade.entry_lot_id)
            )
        )

    def _lot(self, lot: OpenLot, average: Decimal) -> Lot:
        tape, legs = self.tape, self.engine.legs(lot)
        stop, take = _working(legs, ExitType.STOP_LOSS), _working(legs, ExitType.TAKE_PROFIT)
        loose = self._covers().now.get(lot)
        stop = loose if stop is None else stop
        bare = exposure(tape.steps[lot.first].at, None, self._protected(lot, legs))
        return Lot(
            parent_id=lot.key,
            symbol=self.symbol,
            side=_side(lot),
            qty=decimal(lot.remaining, tape.qty_digits),
            entry_qty=decimal(lot.entered, tape.qty_digits),
            avg_fill=quotient(lot.cost, lot.entered, tape.price_digits),
            avg_px_symbol=average,
            entry_time=tape.steps[lot.first].at,
            last_fill_time=tape.steps[max((row.last for row in lot.rows()), default=lot.last)].at,
            initial_stop=self._initial_stop(lot, legs, len(tape)),
            stop_price=None if stop is None else stop.stop_price,
            stop_order_id=None if stop is None else stop.id,
            take_price=None if take is None else take.limit_price,
            take_order_id=None if take is None else take.id,
            expires_at=earliest_expiry(legs),
            unprotected_s=bare.seconds,
            unprotected_since=bare.since,
        )

    def _trade(self, row: Row) -> ClosedTrade:
        lot, tape = row.lot, self.tape
        legs, sign = self.engine.legs(lot), 1 if lot.is_long else -1
        entry_time, exit_time = tape.steps[lot.first].at, tape.steps[row.last].at
        units = Fraction(lot.factor) / Fraction(row.factor) if lot.factor != row.factor else 1
        cost, shares = row.qty * lot.cost * units, lot.entered  # the cost of what was closed, times those shares
        money = tape.qty_digits + tape.price_digits
        pnl = quotient(sign * (row.value * shares - cost), shares, money)
        fifo_qty, fifo_profit = self.fifo.closed[row.exit_id]
        pnl_fifo = quotient(row.raw * fifo_profit, fifo_qty, money)
        parent, exit_type = self._belongs(row)
        return ClosedTrade(
            entry_lot_id=lot.key,
            exit_order_id=row.exit_id,
            exit_parent_id=parent,
            symbol=self.symbol,
            side=_side(lot),
            qty=decimal(row.qty, tape.qty_digits),
            entry_time=entry_time,
            entry_price=quotient(lot.cost * units, shares, tape.price_digits),
            exit_time=exit_time,
            exit_price=quotient(row.value, row.qty, tape.price_digits),
            exit_type=exit_type,
            pnl_cash=pnl,
            pnl_cash_fifo=pnl_fifo,
            diff_pnl=EXACT.subtract(pnl, pnl_fifo),
            return_pct=ROUNDED.divide(HUNDRED * pnl, quotient(cost, shares, money)) if lot.cost else ZERO,
            duration_sec=(exit_time - entry_time) // SECOND,
            initial_stop=self._initial_stop(lot, legs, row.last),
            unprotected_s=exposure(entry_time, exit_time, self._protected(lot, legs)).seconds,
        )

    def _belongs(self, row: Row) -> tuple[str | None, ExitType]:
        """Return the parent of a row's exit order, and how the exit closed this lot."""
        home = self.lineage.home(row.exit_id)
        if home is None:
            return None, ExitType.MANUAL
        if home in self.engine.ties:
            lot = self.engine.ties[home]
            parent, is_own = None if lot is None else lot.key, lot is row.lot
        else:
            parent = None if self.lineage.is_oco(home) else home
            is_own = self.lineage.latest(row.lot.key) == home
        kind = self.lineage.kind(row.exit_id) if is_own else None
        return parent, kind or ExitType.MANUAL

    def _initial_stop(self, lot: OpenLot, legs: Iterable[Leg], until: int) -> Decimal | None:
        """Return the price that a lot's first stop began with, in terms of shares as they were at a step."""
        leg = next((leg for leg in legs if leg.kind is ExitType.STOP_LOSS), None)
        if leg is None or leg.first.stop_price is None:
            return None
        since, shares = liveness.began(leg.first), Fraction(1)
        for place, (before, after) in self.tape.splits.items():
            if lot.first < place < until and self.tape.steps[place].at >= since:
                shares *= Fraction(after, before)
        return leg.first.stop_price if shares == 1 else quotient(Fraction(leg.first.stop_price), shares, 0)

    def _protected(self, lot: OpenLot, legs: Iterable[Leg]) -> list[Span]:
        own = [span for leg in legs if leg.kind is ExitType.STOP_LOSS for span in leg.spans]
        return [*own, *self._covers().spans.get(lot, ())]

    def _covers(self) -> Cover:
        if self._cover is None:
            self._cover = cover(self.engine, self._loose_stops(), self._own_stops)
        return self._cover

    def _loose_stops(self) -> list[Leg]:
        untied = [head for head, lot in self.engine.ties.items() if lot is None]
        legs = [leg for head in untied for leg in self.lineage.legs(head) if leg.kind is ExitType.STOP_LOSS]
        return [*self.lineage.loose_stops(self.symbol), *legs]

    def _own_stops(self, lot: OpenLot) -> list[Span]:
        return [span for leg in self.engine.legs(lot) if leg.kind is ExitType.STOP_LOSS for span in leg.spans]


def _working(legs: Sequence[Leg], kind: ExitType) -> OrderFact | None:
    """Return the live order of the newest leg of a kind that has one."""
    working = (leg.working for leg in reversed(legs) if leg.kind is kind)
    return next((order for order in working if order is not None), None)


def _side(lot: OpenLot) -> Side:
    return Side.LONG if lot.is_long else Side.SHORT


def attachment(lineage: Lineage, head: str) -> Attachment | None:
    """Return the event by which an OCO is tied to a lot; None for what is none, or began nobody knows when."""
    order = lineage.order(lineage.first(head))
    if order is None or lineage.latest(head) != head or not lineage.is_oco(head):
        return None
    at = order.created_at or order.submitted_at
    return None if at is None else Attachment(head, at, order.symbol, order.is_buy, order.qty)
