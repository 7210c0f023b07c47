"""Query strings as Alpaca reads them: lenient in notation, strict in meaning; knows no endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from coldharbour.money import to_decimal

from .refusals import Refused, invalid

FRACTION = re.compile(r"\.(\d{1,9})\d*")


class Query:
    """One request's arguments; every reader raises Refused (422) for a value that cannot be meant."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return an argument, the default where it is absent or empty."""
        return self._values.get(name) or default

    def flag(self, name: str) -> bool:
        """Return a boolean written in any case; absent is false."""
        return (self.text(name) or "").lower() in {"true", "1", "t", "yes"}

    def csv(self, name: str) -> list[str]:
        """Return a comma-separated list."""
        return [item.strip() for item in (self.text(name) or "").split(",") if item.strip()]

    def integer(self, name: str, default: int, *, most: int, least: int = 1) -> int:
        """Return a whole number, cut to `most`; below `least` is refused."""
        text = self.text(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise invalid(f"invalid {name}: {text}")
        return min(int(text), most)

    def number(self, name: str) -> Decimal | None:
        """Return a decimal, None where absent."""
        try:
            return to_decimal(self.text(name))
        except ValueError:
            raise invalid(f"invalid {name}: {self.text(name)}") from None

    def choice(self, name: str, default: str, *allowed: str) -> str:
        """Return one of the allowed words, in lower case."""
        word = (self.text(name) or default).lower()
        if word not in {default, *allowed}:
            raise invalid(f"invalid {name}: {word}")
        return word

    def moment(self, name: str) -> datetime | None:
        """Return an RFC 3339 time or a date (its midnight UTC) as aware UTC, cut to microseconds."""
        text = self.text(name)
        return None if text is None else parse_moment(text, name)

    def day(self, name: str) -> date | None:
        """Return a date; of a time, its day in its own offset."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return date.fromisoformat(text[:10])
        except ValueError:
            raise invalid(f"invalid {name}: {text}") from None


def parse_moment(text: str, name: str = "time") -> datetime:
    """Return an RFC 3339 time with up to nine fraction digits as aware UTC; raises Refused (422)."""
    plus = text.replace(" ", "+")  # a client that did not percent-encode the offset's plus sign
    try:
        moment = datetime.fromisoformat(FRACTION.sub(lambda found: f".{found[1][:6]:0<6}", plus))
    except ValueError:
        raise Refused(422, 40010001, f"invalid {name}: {text}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
