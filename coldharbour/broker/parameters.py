"""The parameters of a request as Alpaca writes them; knows no path."""

from __future__ import annotations

from datetime import UTC, datetime


def given(**params: str | None) -> dict[str, str]:
    """Return the parameters that have a value."""
    return {name: value for name, value in params.items() if value is not None}


def stamp(moment: datetime | None) -> str | None:
    """Return a moment in RFC 3339 and UTC."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def flag(value: bool) -> str:
    """Return a yes or no."""
    return "true" if value else "false"
