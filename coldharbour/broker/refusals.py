"""What went wrong with a request, as our errors: the class says what the caller may do next; never a retry.

A definite no (`KeysRefused`, `NotFound`, `Refused`) is a `BrokerRefused`; what may work later is `Transient`;
a change whose effect nobody knows is `OutcomeUnknown`. Source: Alpaca API, status and code are the contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from coldharbour.errors import ColdHarbourError, NeedsOperator, Transient


class BrokerRefused(ColdHarbourError):
    """A definite no: the broker understood the request and has changed nothing.

    status: HTTP. code: the broker's own, None where it gave none. message: its words, which may change
    without notice. extra: the other fields of the answer, such as `available` or `related_orders`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: int | None = None,
        extra: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        hint: str = "",
    ) -> None:
        self.message, self.status, self.code = message, status, code
        self.extra, self.request_id = dict(extra or {}), request_id
        super().__init__(f"the broker refused: {message} (HTTP {status}, code {code})", hint=hint)

    @property
    def is_name_taken(self) -> bool:
        """Whether the client_order_id was used before: an order of that name exists, whoever sent it."""
        message = self.message.lower()
        return self.status == 422 and "client_order_id" in message and "unique" in message


class Refused(BrokerRefused):
    """A business refusal, such as a price off the tick or an order that cannot be replaced any more."""


class NotFound(BrokerRefused):
    """The broker knows no such order, position or path; for a position it means flat."""


class KeysRefused(BrokerRefused, NeedsOperator):
    """The API keys are missing, wrong, or made for the other host; only a person can help."""

    def __init__(
        self, slug: str, *, status: int, message: str, code: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(
            f"keys refused for {slug}: {message}",
            status=status,
            code=code,
            request_id=request_id,
            hint=f"set ALPACA_API_KEY_{slug.upper()} and ALPACA_SECRET_KEY_{slug.upper()} to keys made for "
            "this host: paper and live keys differ",
        )


class BrokerUnavailable(Transient):
    """No usable answer: a timeout, a lost connection, a rate limit, a 5xx, or a proxy's HTML page.

    status and request_id are None where there was no answer at all.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status, self.request_id = status, request_id
        super().__init__(message, retry_after_s=retry_after_s)


class NotSent(BrokerUnavailable):
    """No connection was made, so the broker has seen nothing of the request."""


class UnreadableAnswer(BrokerUnavailable):
    """A successful status with a body that is not what the call promises."""


class OutcomeUnknown(ColdHarbourError):
    """A change was sent, and nobody knows whether it was made: find out by reading before sending another.

    Deliberately not `Transient`: nothing may send a change again for its class alone.
    """

    def __init__(
        self, method: str, path: str, reason: str, *, status: int | None = None, request_id: str | None = None
    ) -> None:
        self.method, self.path, self.reason = method, path, reason
        self.status, self.request_id = status, request_id
        super().__init__(
            f"{method} {path} has an unknown outcome: {reason}",
            hint="read the order back by its id and by its client_order_id before sending anything else",
        )


def refusal(
    *,
    status: int,
    body: bytes,
    slug: str,
    request_id: str | None = None,
    retry_after_s: float | None = None,
) -> BrokerRefused | BrokerUnavailable:
    """Return the error that an unsuccessful answer stands for; never assumes that the body is JSON."""
    if not 400 <= status < 500 or status in {408, 425, 429} or _is_html(body):
        return BrokerUnavailable(
            f"the broker answered HTTP {status}: {_opening(body)}",
            status=status,
            request_id=request_id,
            retry_after_s=retry_after_s,
        )
    seen = _object(body)
    code, message = _code(seen), str(seen.get("message") or _opening(body))
    if _is_about_keys(status, code):
        return KeysRefused(slug, status=status, message=message, code=code, request_id=request_id)
    extra = {name: value for name, value in seen.items() if name not in {"code", "message"}}
    kind = NotFound if status == 404 else Refused
    return kind(message, status=status, code=code, extra=extra, request_id=request_id)


def _is_about_keys(status: int, code: int | None) -> bool:
    """Business refusals share 403 with refused keys; only they carry a code of another family."""
    return status == 401 or (status == 403 and (code is None or code // 100_000 == 401))


def _is_html(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def _code(seen: Mapping[str, Any]) -> int | None:
    code = seen.get("code")
    return code if isinstance(code, int) else None


def _opening(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace").strip() or "(empty)"
