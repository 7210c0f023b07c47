"""What /schema says of the API is what the API does, for questions that nobody would think of."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import httpx
import pytest
import schemathesis
from fakes.room import SLUG, open_room
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

pytestmark = pytest.mark.anyio

QUESTIONS_PER_ROUTE = 10


async def test_no_question_that_the_schema_allows_or_forbids_gets_an_answer_that_it_does_not(
    database_url: str,
) -> None:
    async with open_room(database_url) as room:
        await room.hear()

        asked = await anyio.to_thread.run_sync(ask_everything, room.url)

    assert {f"GET /{{slug}}/api/{name}" for name in ("positions", "closed", "equity_intraday", "audit")} < asked
    assert {"GET /{slug}/export/{file}", "GET /healthz", "GET /readyz", "GET /metrics"} < asked


def not_checked(path: str) -> list[Any]:
    """Return the checks that do not fit a route: no schema tells a place from a word, and nothing is ready here."""
    return [positive_data_acceptance, *([not_a_server_error] if path == "/readyz" else [])]


def ask_everything(url: str) -> set[str]:
    """Ask every route of the schema, for the account and for others; return what was asked."""
    schema = schemathesis.openapi.from_url(f"{url}/schema")
    asked = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        asked.add(operation.label)

        @given(case=operation.as_strategy())
        @settings(
            max_examples=QUESTIONS_PER_ROUTE, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def ask(case: schemathesis.Case[Any]) -> None:
            for name, known in (("slug", SLUG), ("file", "closed.csv")):
                if len(case.path_parameters.get(name, "")) % 2:
                    case.path_parameters[name] = known
            case.call_and_validate(excluded_checks=not_checked(case.operation.path))

        ask()
    return asked


async def test_every_route_of_an_account_is_described(database_url: str) -> None:
    async with open_room(database_url) as room, httpx.AsyncClient() as client:
        schema = (await client.get(f"{room.url}/schema")).json()

    routes = {path: item["get"] for path, item in schema["paths"].items() if path.startswith("/{slug}/")}
    assert len(routes) >= 9
    for path, route in routes.items():
        assert route["description"], path
        assert {"200", "404", "503"} <= set(route["responses"]), path
    assert "parse_float=Decimal" in schema["info"]["description"]
