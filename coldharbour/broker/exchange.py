"""One request and its answer: limits, budget, retries of reads, and one line of log for each failure.

A read may be asked again; a change is sent once, and an unclear end of it is `OutcomeUnknown`. Owns no path
and no meaning: `rest` knows what is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Final, TypeVar

import anyio
import httpx
import msgspec
import structlog

from coldharbour.broker.budget import Priority, RateBudget, retry_after_s, seconds_to_reset
from coldharbour.broker.refusals import (
    BrokerUnavailable,
    NotFound,
    NotSent,
    OutcomeUnknown,
    UnreadableAnswer,
    refusal,
)
from coldharbour.broker.translate import Malformed
from coldharbour.clock import Clock
from coldharbour.errors import ColdHarbourError

T = TypeVar("T")
Params = Mapping[str, str]
MaySend = Callable[[], None]

CONNECT_S: Final = 3.0
TOTAL_S: Final = 10.0
TRIES: Final = 3
FIRST_DELAY_S: Final = 0.5
PATIENCE_S: Final = 60.0

log = structlog.get_logger(__name__)


class Exchange:
    """Requests to one host on behalf of one account."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        budget: RateBudget,
        *,
        clock: Clock,
        random: Random,
        slug: str,
        total_s: float = TOTAL_S,
    ) -> None:
        self._client, self._budget, self._clock, self._random = client, budget, clock, random
        self._slug, self._total_s = slug, total_s
        self._log = log.bind(destination=slug)

    async def read(
        self, path: str, parse: Callable[[bytes], T], params: Params | None = None, *, priority: Priority
    ) -> T:
        """Return the parsed answer of a GET, tried up to three times with growing, jittered pauses.

        Raises BrokerUnavailable after the last try, or at once when the broker asks for more patience than
        a minute; BrokerRefused for a definite no.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return await self._once("GET", path, parse, params=params, priority=priority)
            except BrokerUnavailable as exc:
                delay_s = self._delay_s(attempt, exc.retry_after_s)
                if attempt == TRIES or delay_s > PATIENCE_S:
                    raise
                await self._clock.sleep(delay_s)
        raise AssertionError("the last try returns or raises")

    async def change(
        self, method: str, path: str, parse: Callable[[bytes], T], body: Any = None, *, may_send: MaySend | None = None
    ) -> T:
        """Send a POST, PATCH or DELETE exactly once and return its parsed answer.

        may_send: asked when only the first byte is left to write; it raises NotSent to keep the request back.
        Raises BrokerRefused (nothing was changed), NotSent (nothing was sent), or OutcomeUnknown.
        """
        try:
            return await self._once(method, path, parse, body=body, priority=Priority.WRITE, may_send=may_send)
        except NotSent:
            raise
        except BrokerUnavailable as exc:
            raise OutcomeUnknown(method, path, str(exc), status=exc.status, request_id=exc.request_id) from exc

    async def _once(
        self,
        method: str,
        path: str,
        parse: Callable[[bytes], T],
        *,
        priority: Priority,
        params: Params | None = None,
        body: Any = None,
        may_send: MaySend | None = None,
    ) -> T:
        await self._budget.take(priority)
        try:
            return self._parsed(await self._answer(method, path, params, body, may_send), parse)
        except ColdHarbourError as exc:
            self._report(method, path, exc)
            raise

    async def _answer(
        self, method: str, path: str, params: Params | None, body: Any, may_send: MaySend | None
    ) -> httpx.Response:
        extensions = {}
        if may_send is not None:
            may_send()  # once here, for a transport that knows no trace
            extensions["trace"] = _asking(may_send)
        try:
            with anyio.fail_after(self._total_s):
                content = None if body is None else msgspec.json.encode(body)
                return await self._client.request(method, path, params=params, content=content, extensions=extensions)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
            host, why = self._client.base_url.host, str(exc) or type(exc).__name__
            raise NotSent(f"no connection to {host}: {why}") from exc
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise BrokerUnavailable(f"no answer to {method} {path} within {self._total_s:g} s") from exc
        except httpx.RequestError as exc:
            why = str(exc) or type(exc).__name__
            raise BrokerUnavailable(f"the connection broke during {method} {path}: {why}") from exc

    def _parsed(self, answer: httpx.Response, parse: Callable[[bytes], T]) -> T:
        self._budget.learn(answer.headers)
        request_id = answer.headers.get("x-request-id")
        if not answer.is_success:
            raise refusal(
                status=answer.status_code,
                body=answer.content,
                slug=self._slug,
                request_id=request_id,
                retry_after_s=self._asked_to_wait_s(answer),
            )
        try:
            return parse(answer.content)
        except Malformed as exc:
            raise UnreadableAnswer(
                f"an answer that cannot be read: {exc.reason}",
                status=answer.status_code,
                request_id=request_id,
            ) from exc

    def _asked_to_wait_s(self, answer: httpx.Response) -> float | None:
        """Return what the broker asks for; a rate limit stops every request of the account for that time."""
        now = self._clock.now()
        wait_s = retry_after_s(answer.headers, now)
        if answer.status_code != 429:
            return wait_s
        if wait_s is None:
            wait_s = seconds_to_reset(answer.headers, now)
        if wait_s is not None:
            self._budget.pause(min(wait_s, PATIENCE_S))
        return wait_s

    def _delay_s(self, attempt: int, asked_s: float | None) -> float:
        jitter = self._random.uniform(0.5, 1.0)
        if asked_s is not None:
            return asked_s + jitter
        return FIRST_DELAY_S * 2.0 ** (attempt - 1) * jitter

    def _report(self, method: str, path: str, exc: ColdHarbourError) -> None:
        facts = {name: getattr(exc, name, None) for name in ("status", "code", "request_id", "retry_after_s")}
        # A broker that cannot be reached says nothing worth a line each time: the worker reports the loss once.
        quiet = isinstance(exc, NotFound | NotSent)
        say = self._log.debug if quiet else self._log.warning
        say("broker.request_failed", method=method, path=path, error=str(exc), **facts)


def _asking(may_send: MaySend) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return what httpcore calls at each step of a request: connecting may take seconds, in which much can change."""

    async def trace(step: str, _: Mapping[str, Any]) -> None:
        if step.endswith("send_request_headers.started"):
            may_send()

    return trace
