"""The errors of Cold Harbour: each class tells the kernel what to do, each message tells the operator.

`Transient` is retried with backoff, `NeedsOperator` parks the worker and shows it, `BadConfig` refuses
to start. Anything else that a worker raises is a bug: traceback, restart, and in the end a loud give-up.
"""

from __future__ import annotations

from collections.abc import Sequence


class ColdHarbourError(Exception):
    """Base of every error raised on purpose; `hint` names the remedy where the message does not."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class Transient(ColdHarbourError):
    """It may work if tried again: a lost connection, a timeout, a rate limit, a 5xx answer.

    retry_after_s: seconds the other side asked us to wait, None where it did not say.
    """

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message, hint=hint)


class NeedsOperator(ColdHarbourError):
    """It will not work until a person acts: refused keys, a closed account, a missing permission."""


class BadConfig(ColdHarbourError):
    """The configuration cannot be used; `problems` holds every finding, one readable line each."""

    def __init__(self, problems: Sequence[str], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class GaveUp(ColdHarbourError):
    """A worker or a process failed too often in a short time and was stopped for good."""
