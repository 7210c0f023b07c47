"""How numbers, times and spans are written on the pages: UTC, exact decimals, nothing rounded but what says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

MINUS = "\N{MINUS SIGN}"
NO_VALUE = "\N{EN DASH}"


def plural(number: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "fill"), plural(1200, "order")
    ('1 fill', '1,200 orders')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(span: timedelta | None) -> str:
    """Return a span of time in its two largest units, milliseconds below one second.

    >>> duration(timedelta(seconds=0.25)), duration(timedelta(seconds=75)), duration(timedelta(hours=30))
    ('250 ms', '1 min 15 s', '1 d 6 h')
    """
    if span is None:
        return NO_VALUE
    total_s = span.total_seconds()
    if total_s < 1:
        return f"{total_s * 1000:.0f} ms"
    if total_s < 10:
        return f"{total_s:.1f} s"
    parts = []
    rest = round(total_s)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
        if len(parts) == 2:
            break
    return " ".join(parts)


def seconds(number: float) -> str:
    """Return a number of seconds as a span of time."""
    return duration(timedelta(seconds=number))


def quantity(value: Decimal | None) -> str:
    """Return a number of shares without idle zeros.

    >>> quantity(Decimal("100.000")), quantity(Decimal("1250.5")), quantity(None)
    ('100', '1,250.5', '–')
    """
    if value is None:
        return NO_VALUE
    text = f"{value:,f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)


def price(value: Decimal | None) -> str:
    """Return a price with at least two decimals, and all that carry a digit.

    >>> price(Decimal("12.3")), price(Decimal("0.12340")), price(None)
    ('12.30', '0.1234', '–')
    """
    if value is None:
        return NO_VALUE
    whole, _, decimals = f"{value:,f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}".replace("-", MINUS)


def average(value: Decimal | None) -> str:
    """Return a price that is an average, rounded to four decimals.

    >>> average(Decimal("12.33333333")), average(Decimal("12.5")), average(None)
    ('12.3333', '12.50', '–')
    """
    return price(None if value is None else round(value, 4))


def money(value: Decimal | None) -> str:
    """Return an amount rounded to cents.

    >>> money(Decimal("1234.5")), money(Decimal("-0.125")), money(None)
    ('1,234.50', '−0.12', '–')
    """
    return NO_VALUE if value is None else f"{value:,.2f}".replace("-", MINUS)


def gain(value: Decimal | None) -> str:
    """Return a result rounded to two decimals, always with its sign.

    >>> gain(Decimal("12")), gain(Decimal("-3.456")), gain(Decimal("0.001")), gain(None)
    ('+12.00', '−3.46', '0.00', '–')
    """
    text = money(value)
    return f"+{text}" if tone(value) == "gain" else text.removeprefix(MINUS) if text == f"{MINUS}0.00" else text


def percent(value: Decimal | None) -> str:
    r"""Return a result in percent, rounded to two decimals, always with its sign.

    >>> percent(Decimal("1.005")), percent(Decimal("-0.5")), percent(None)
    ('+1.00\xa0%', '−0.50\xa0%', '–')
    """
    return NO_VALUE if value is None else f"{gain(value)}\N{NO-BREAK SPACE}%"


def tone(value: Decimal | None) -> str:
    """Return the class of a result's colour; its sign says the same in words.

    >>> tone(Decimal("12")), tone(Decimal("-3.456")), tone(Decimal("0.001")), tone(None)
    ('gain', 'loss', 'even', 'even')
    """
    cents = round(value or Decimal(0), 2)
    return "gain" if cents > 0 else "loss" if cents < 0 else "even"


def clock_time(moment: datetime | None) -> str:
    """Return the UTC time of day to the second."""
    return moment.astimezone(UTC).strftime("%H:%M:%S") if moment else NO_VALUE


def milliseconds(moment: datetime) -> str:
    """Return what follows the second, as it follows `clock_time`."""
    return f".{moment.microsecond // 1000:03}"


def calendar_day(moment: datetime | None) -> str:
    """Return the UTC date."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d") if moment else NO_VALUE


def day_and_time(moment: datetime) -> str:
    """Return month, day and time of day to the second, UTC."""
    return moment.astimezone(UTC).strftime("%m-%d %H:%M:%S")


def moment_of_day(moment: datetime | None) -> str:
    """Return the UTC date and time of day to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else NO_VALUE


def instant(moment: datetime) -> str:
    """Return the moment as the `datetime` attribute of a <time> element."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
