"""How the API answers: JSON with exact numbers, a tag for what it says, and errors as JSON; knows no table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from math import ceil
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from psycopg.errors import UndefinedTable

from coldharbour.errors import Transient
from coldharbour.web.api.model import Failure

Asked = Request[Any, Any, State]

RETRY_AFTER_S = 5
REVALIDATE = "private, no-cache"  # may be kept by the browser, and is asked for again each time
encoder = msgspec.json.Encoder(decimal_format="number")


REASONS = {
    400: "A parameter cannot be used.",
    404: "There is no such thing here.",
    503: "The database does not answer; try again after Retry-After seconds.",
}


def documented(
    model: Any, text: str, *, errors: tuple[int, ...] = (404, 503), media_type: str = "application/json"
) -> dict[int, ResponseSpec]:
    """Return what /schema says of a route's answers."""
    good = ResponseSpec(model, generate_examples=False, description=text, media_type=media_type)
    return {200: good} | {
        code: ResponseSpec(Failure, generate_examples=False, description=REASONS[code]) for code in errors
    }


def tag_of(content: bytes) -> str:
    """Return the entity tag of a text: two texts with one tag are the same."""
    return f'"{sha256(content).hexdigest()[:32]}"'


def is_known(request: Asked, tag: str) -> bool:
    """Say whether the client has the text of this tag already."""
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return tag in known or "*" in known


def answer(request: Asked, value: object, *, links: dict[str, str] | None = None) -> Response[bytes]:
    """Return a value as JSON, or 304 to one who has it already. links: addresses by relation (RFC 8288)."""
    content = encoder.encode(value)
    headers = {"link": ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items())} if links else {}
    return tagged(request, content, tag_of(content), headers)


def tagged(request: Asked, content: bytes, tag: str, headers: dict[str, str] | None = None) -> Response[bytes]:
    """Return JSON text with its tag, or 304 to one who has it already."""
    headers = {"etag": tag, "cache-control": REVALIDATE, **(headers or {})}
    if is_known(request, tag):
        return Response(b"", status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


class Cache:
    """The newest text of each listing, made once for all who ask until its version changes."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, bytes]] = {}

    async def get(self, key: str, version: str, make: Callable[[], Awaitable[object]]) -> bytes:
        """Return the text of a listing in this version, made now if the newest one is another."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != version:
            kept = version, encoder.encode(await make())
            self._kept[key] = kept
        return kept[1]


def unavailable(_request: Asked, error: Exception) -> Response[bytes]:
    """Answer for a database that does not: 503, and when to try again."""
    seconds = (error.retry_after_s if isinstance(error, Transient) else None) or RETRY_AFTER_S
    missing = isinstance(error, UndefinedTable)
    detail = "the database lacks a table: run `coldharbour db upgrade`" if missing else str(error)
    content = encoder.encode(Failure(status_code=503, detail=detail))
    headers = {"retry-after": str(ceil(seconds))}
    return Response(content, status_code=503, media_type="application/json", headers=headers)
