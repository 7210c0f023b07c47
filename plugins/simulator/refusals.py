"""What the broker answers when it will not: status, code, message; owns the wording, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """The broker's refusal, rendered by the REST server as `{"code", "message", **extra}`.

    status: the HTTP status. code: Alpaca's eight digits, None where Alpaca sends none.
    """

    def __init__(self, status: int, code: int | None, message: str, extra: Mapping[str, object] | None = None) -> None:
        self.status, self.code, self.message, self.extra = status, code, message, dict(extra or {})
        super().__init__(f"{status} {code}: {message}")

    def body(self) -> dict[str, object]:
        """Return Alpaca's error JSON."""
        code = {} if self.code is None else {"code": self.code}
        return {**code, "message": self.message, **self.extra}


def forbidden(message: str, **extra: object) -> Refused:
    """Return the 403 of trading rules (buying power, reserved shares, wash trades)."""
    return Refused(403, 40310000, message, extra)


def invalid(message: str) -> Refused:
    """Return the 422 of a request that is malformed as an order."""
    return Refused(422, 40010001, message)


def unprocessable(message: str) -> Refused:
    """Return the 422 of a well-formed request that the order's state or the exchange's rules forbid."""
    return Refused(422, 42210000, message)


def not_found(message: str) -> Refused:
    """Return the 404 of an unknown order, position or asset."""
    return Refused(404, 40410000, message)
