"""The downloads of an account, /{slug}/export/<listing>.csv: row by row, as of one moment; reads, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing
from typing import Final

import anyio
import anyio.to_thread
import psycopg
from litestar import Router, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from coldharbour.connect import one_line, session_conninfo
from coldharbour.errors import Transient
from coldharbour.web.api.answers import documented, unavailable
from coldharbour.web.api.routes import account_of
from coldharbour.web.contexts import Account
from coldharbour.web.listings import store
from coldharbour.web.listings.lines import csv_header, csv_lines
from coldharbour.web.listings.store import LISTINGS, Export, Listing, NoSuchTable

FILES: Final = {"positions": "positions", "closed": "trades", "equity": "equity", "audit": "audit"}
AT_ONCE: Final = 2  # each holds a connection and a view of the tables for as long as the browser takes
TURN_S: Final = 10


class Downloads:
    """The downloads under way from one database."""

    def __init__(self, conninfo: str) -> None:
        # A browser that takes nothing loses its transaction: the server ends those that stand idle.
        self._conninfo = session_conninfo(conninfo, "export")
        self._turns = anyio.Semaphore(AT_ONCE)

    async def chunks(self, listing: Listing, slug: str) -> AsyncGenerator[bytes, None]:
        """Yield a listing as CSV. Raises Transient before the first chunk if it is not this one's turn."""
        try:
            self._turns.acquire_nowait()
        except anyio.WouldBlock:
            raise Transient(f"{AT_ONCE} downloads are under way", retry_after_s=TURN_S) from None
        lines = _lines(self._conninfo, listing, slug)
        try:
            while (chunk := await anyio.to_thread.run_sync(next, lines, None)) is not None:
                yield chunk
        except NoSuchTable as error:
            raise Transient(f"this database has no table {error}: run `coldharbour db upgrade`") from error
        except psycopg.OperationalError as error:
            raise Transient(f"the database does not answer: {one_line(error)}") from error
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lines.close)
            self._turns.release()


def _lines(conninfo: str, listing: Listing, slug: str) -> Generator[bytes, None, None]:
    with store.one_moment(conninfo) as conn:
        found = Export(conn, listing, slug)
        yield csv_header(found.columns)
        yield from map(csv_lines, found.rows())


class File(ASGIStreamingResponse):
    """The answer: a file in chunks, whose source is closed before the answer is over, however it ends."""

    def __init__(self, name: str, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._rest = rest

        async def whole() -> AsyncIterator[bytes]:
            yield first
            async for chunk in rest:
                yield chunk

        disposition = f'attachment; filename="{name}"'
        super().__init__(iterator=whole(), media_type="text/csv", headers={"content-disposition": disposition})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)


@get("/{file:str}", responses=documented(str, "All rows, with a header.", media_type="text/csv"))
async def download(state: State, account: NamedDependency[Account], file: FromPath[str]) -> ASGIApp:
    """Return all rows of positions.csv, closed.csv, equity.csv or audit.csv, as `coldharbour export` writes them."""
    name, _, kind = file.rpartition(".")
    if kind != "csv" or name not in FILES:
        raise NotFoundException(f"there are {', '.join(f'{name}.csv' for name in FILES)}")
    downloads: Downloads = state.downloads
    chunks = downloads.chunks(LISTINGS[FILES[name]], account.slug)
    first = await anext(chunks)  # what can go wrong goes wrong before the answer has begun
    return File(f"{account.slug}-{file}", first, chunks)


router = Router(
    path="/{slug:str}/export",
    route_handlers=[download],
    dependencies={"account": Provide(account_of, sync_to_thread=False)},
    exception_handlers={Transient: unavailable},
    tags=["account"],
)
