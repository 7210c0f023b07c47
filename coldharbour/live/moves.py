"""What shares that move without a trade do to an inventory: ratios, and the shares each piece gets; no lots here."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from coldharbour.live.decimals import EXACT

SMALLEST: Final = 9  # decimals of the broker's smallest quantity of shares


def is_proportional(held: Decimal, change: Decimal) -> bool:
    """Return whether a corporate action multiplies what is held; else it is a plain change at zero cost.

    held, change: signed shares. It does while a position of the same side remains: 100 held and 300 added is a split
    of four for one. Shares of a symbol that is not held, and the last shares of one, come and go as they are.
    Source: domain.md 5, 6.

    >>> hundred = Decimal(100)
    >>> is_proportional(hundred, 3 * hundred), is_proportional(-hundred, Decimal(50))
    (True, True)
    >>> is_proportional(hundred, -hundred), is_proportional(Decimal(0), Decimal(25))
    (False, False)
    """
    return held != 0 and EXACT.multiply(EXACT.add(held, change), held) > 0


def allot(pieces: Sequence[Decimal], total: Decimal) -> list[Decimal]:
    """Return what each piece of an inventory becomes when it changes to `total`, each in proportion.

    pieces: shares, the oldest first, positive like total. Parts are multiples of 10**-9 shares, or of a finer unit
    where there are fewer of those than pieces. What rounding leaves goes, one unit each, to the pieces that lost most
    by it, the oldest first, and what is finer than a unit to the oldest. No piece vanishes, and the parts add up.
    Source: domain.md 5.

    >>> [str(part) for part in allot([Decimal(33), Decimal(67)], Decimal(400))]
    ['132.000000000', '268.000000000']
    >>> [str(part) for part in allot([Decimal(1), Decimal(1), Decimal(1)], Decimal(1))]
    ['0.333333334', '0.333333333', '0.333333333']
    """
    smallest = SMALLEST
    while total.scaleb(smallest, EXACT) < len(pieces):
        smallest += SMALLEST
    digits = max(smallest, *(-_exponent(piece) for piece in (*pieces, total)))
    shares = [int(piece.scaleb(digits, EXACT)) for piece in pieces]
    unit = 10 ** (digits - smallest)
    units, rest = divmod(int(total.scaleb(digits, EXACT)), unit)
    parts = _largest_remainders(shares, units)
    counts = [part * unit for part in parts]
    counts[0] += rest
    return [Decimal(count).scaleb(-digits, EXACT) for count in counts]


def _largest_remainders(weights: Sequence[int], total: int) -> list[int]:
    held = sum(weights)
    quotients = [divmod(weight * total, held) for weight in weights]
    parts = [max(part, 1) for part, _ in quotients]
    left = total - sum(parts)
    for _ in range(-left):  # pieces that would have vanished were kept at the expense of the largest
        parts[parts.index(max(parts))] -= 1
    for place in sorted(range(len(parts)), key=lambda place: -quotients[place][1])[: max(left, 0)]:
        parts[place] += 1
    return parts


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
