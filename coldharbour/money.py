"""Money, prices and quantities as exact decimals; never floats, never a guess for what cannot be read."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation


def to_decimal(value: object) -> Decimal | None:
    """Return the exact decimal of a broker's number (a string, or a JSON number), None for null or "".

    Raises ValueError for anything that is not a finite number. Floats go through their shortest text, so
    a market-data 86.88 becomes Decimal("86.88"). Source: Alpaca API, numbers are JSON strings.
    """
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"not a number: {value!r}") from None
    if not number.is_finite():
        raise ValueError(f"not a finite number: {value!r}")
    return number
