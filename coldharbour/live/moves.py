"""What shares that move without a trade do to an inventory: ratios, and the shares each piece gets; no lots here."""

from __future__ import annotations

from collections.abc import Sequence

UNIT_DIGITS = 9  # the broker's smallest quantity is 10**-9 shares


def is_proportional(held: int, change: int) -> bool:
    """Return whether a corporate action multiplies what is held; else it is a plain change at zero cost.

    held, change: signed shares in the same unit. It does while a position of the same side remains: 100 held and 300
    added is a split of four for one. Shares of a symbol that is not held, and the last shares of one, come and go as
    they are. Source: domain.md 5, 6.

    >>> is_proportional(100, 300), is_proportional(-100, 50), is_proportional(100, -100), is_proportional(0, 25)
    (True, True, False, False)
    """
    return held != 0 and (held + change) * held > 0


def allot(pieces: Sequence[int], total: int, unit: int = 1) -> list[int]:
    """Return what each piece of an inventory becomes when it changes to `total`, each in proportion.

    pieces, total: of one sign. Parts are whole multiples of `unit`; what rounding leaves goes, one unit each, to the
    pieces that lost most by it, the oldest first, and what is finer than a unit to the oldest. No piece vanishes.

    >>> allot([33, 67], 10_000, 1), allot([1, 1, 1], 10, 1)
    ([3300, 6700], [4, 3, 3])
    """
    held, sign = abs(sum(pieces)), 1 if total > 0 else -1
    whole, rest = divmod(abs(total), unit)
    shares = [divmod(abs(piece) * whole, held) for piece in pieces]
    parts = [max(part, 1) for part, _ in shares]
    left = whole - sum(parts)
    by_loss = sorted(range(len(parts)), key=lambda place: -shares[place][1])
    for place in by_loss[: max(left, 0)]:
        parts[place] += 1
    if left < 0:
        parts[parts.index(max(parts))] += left
    parts = [part * unit for part in parts]
    parts[0] += rest
    return [sign * part for part in parts]
