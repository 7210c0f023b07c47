"""A stop's replacement: how it is built and named, and the fields that ask for it; never sends one."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from coldharbour.live.model import Side
from coldharbour.risk.grid import is_price, plain, tick_at
from coldharbour.risk.model import LoosensStop, ProtectedLot, StopKind, StopMove
from coldharbour.risk.names import order_name


def replace_stop(lot: ProtectedLot, new_stop: Decimal) -> StopMove:
    """Return the move of a lot's stop to a new price; refuses one that loosens it, whatever asks.

    The limit of a stop_limit keeps its distance to the stop; between two ticks it takes the tighter one. Raises
    LoosensStop for a stop that is not strictly tighter; ValueError for a price off the grid, for a limit that is
    missing or would not be positive, and for a trailing stop, which is the broker's to move. Source: domain.md 9.
    """
    if lot.stop_kind is StopKind.TRAILING_STOP:
        raise ValueError(f"{lot.stop_order_id} is a trailing stop: the broker moves it")
    if not is_price(lot.stop_price) or not is_price(new_stop):
        raise LoosensStop(f"the stop of {lot.stop_order_id}, {lot.stop_price} -> {new_stop}: not proved tighter")
    is_limited = lot.stop_kind is StopKind.STOP_LIMIT
    return StopMove(
        order_id=lot.stop_order_id,
        side=lot.side,
        old_stop=lot.stop_price,
        stop_price=new_stop,
        old_limit=lot.limit_price if is_limited else None,
        limit_price=_moved_limit(lot, lot.stop_price, new_stop) if is_limited else None,
    )


def _moved_limit(lot: ProtectedLot, old_stop: Decimal, new_stop: Decimal) -> Decimal:
    if not is_price(lot.limit_price):
        raise ValueError(f"the limit of {lot.stop_order_id} is {lot.limit_price}: it cannot keep its distance")
    moved = lot.limit_price + (new_stop - old_stop)
    if not is_price(moved):
        raise ValueError(f"the limit of {lot.stop_order_id} would become {moved}")
    return moved.quantize(tick_at(moved), ROUND_CEILING if lot.side is Side.LONG else ROUND_FLOOR)


def client_order_id(destination: str, old_order_id: str, new_stop: Decimal, epoch: int, attempt: int = 1) -> str:
    """Return the name of a replacement: the same for the same arguments, and another for any others.

    destination: its slug. epoch: of the lease under which it is sent. attempt: counts from 1 within an epoch, since
    the broker keeps a name taken for ever, even by an order that it rejected. At most 128 characters.

    >>> client_order_id("paper", "7b7d", Decimal("13.57"), 3)
    'stop-paper-e3-a1-1dda855c377d9a41a99472f13c09cc6e'
    """
    facts = (destination, old_order_id, plain(new_stop), str(epoch), str(attempt))
    return order_name("stop", destination, *facts, marks=f"-e{epoch}-a{attempt}")


def changes(move: StopMove, name: str) -> dict[str, str]:
    """Return the fields of the request that replaces the stop; never a quantity, which the broker keeps right.

    name: the replacement's client_order_id.
    """
    fields = {"stop_price": plain(move.stop_price), "client_order_id": name}
    if move.limit_price is not None:
        fields["limit_price"] = plain(move.limit_price)
    return fields
