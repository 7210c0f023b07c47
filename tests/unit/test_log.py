"""Logs: one event per line with its facts, UTC, and never a secret, whatever carries it and however it looks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import structlog

from coldharbour import log
from coldharbour.sections import LogSettings

CANARY = "canary-Zq7rT2"
PASSWORD = "hunter2hunter2"
Format = Literal["console", "json"]
both_formats = pytest.mark.parametrize("looks", ["console", "json"])


@dataclass
class Carrier:
    """Something whose text happens to show what it holds."""

    key: str


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Returns what was logged since it was last asked; afterwards logging is as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def start(looks: Format = "json", level: Literal["debug", "info"] = "info") -> Any:
    log.configure(LogSettings(level=level, format=looks), [CANARY])
    return structlog.get_logger("test")


def fail_with(text: str) -> None:
    api_key = text
    raise RuntimeError(f"refused: {api_key}")


@both_formats
@pytest.mark.parametrize(
    "facts",
    [
        {"text": f"Bearer {CANARY}"},
        {"headers": {"APCA-API-SECRET-KEY": CANARY}},
        {"parts": [("key", CANARY)]},
        {"error": RuntimeError(CANARY)},
        {"carrier": Carrier(CANARY)},
        {"raw": CANARY.encode()},
        {CANARY: "as a name"},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_a_secret_is_masked_whatever_carries_it(
    logged: Callable[[], str], looks: Format, facts: dict[str, Any]
) -> None:
    start(looks).warning("broker.refused", **facts)

    text = logged()
    assert "broker.refused" in text
    assert CANARY not in text


@both_formats
def test_a_secret_in_the_event_itself_is_masked(logged: Callable[[], str], looks: Format) -> None:
    start(looks).warning(f"key {CANARY}")

    text = logged()
    assert CANARY not in text
    assert "key ***" in text


@both_formats
def test_a_traceback_is_shown_without_the_secrets_in_it(logged: Callable[[], str], looks: Format) -> None:
    logger = start(looks)

    try:
        fail_with(CANARY)
    except RuntimeError:
        logger.exception("worker.failed")

    text = logged()
    assert "RuntimeError" in text
    assert "fail_with" in text
    assert CANARY not in text


@both_formats
def test_a_traceback_shows_no_local_variables(logged: Callable[[], str], looks: Format) -> None:
    logger = start(looks)
    unknown_secret = "not-in-the-list-of-secrets"

    try:
        fail_with("nothing")
    except RuntimeError:
        logger.exception("worker.failed")

    assert unknown_secret not in logged()


@both_formats
def test_what_a_library_logs_goes_the_same_way(logged: Callable[[], str], looks: Format) -> None:
    start(looks)
    library = logging.getLogger("somebody.else")

    library.warning("connecting with %s", CANARY)
    try:
        fail_with(CANARY)
    except RuntimeError:
        library.exception("failed")

    text = logged()
    assert "connecting with ***" in text
    assert CANARY not in text


@both_formats
@pytest.mark.parametrize(
    "conninfo",
    [
        f"postgresql://ops:{PASSWORD}@db:5432/lake",
        f"postgresql+psycopg2://ops:{PASSWORD}@db/lake?sslmode=require",
        f"https://:{PASSWORD}@proxy:3128",
        f"host=db password={PASSWORD} dbname=lake",
        f"host=db password='{PASSWORD} {PASSWORD}' dbname=lake",
        f"host=db password = {PASSWORD} dbname=lake",
        f"postgresql://db/lake?user=ops&password={PASSWORD}&sslmode=require",
    ],
)
def test_the_password_of_a_connection_is_masked_and_the_rest_stays(
    logged: Callable[[], str], looks: Format, conninfo: str
) -> None:
    start(looks).info("db.waiting", database=conninfo)

    text = logged()
    assert PASSWORD not in text
    assert "***" in text
    assert "db" in text


def test_a_machine_reads_one_json_object_per_line_with_its_facts(logged: Callable[[], str]) -> None:
    start().bind(worker="stream", destination="paper").warning("feed.stale", silent_s=42, symbols=["KO", "PEP"])

    line = json.loads(logged())
    at = line.pop("at")
    assert at.endswith("Z")
    assert line == {
        "event": "feed.stale", "level": "warning", "worker": "stream", "destination": "paper", "silent_s": 42,
        "symbols": ["KO", "PEP"],
    }  # fmt: skip


def test_a_fact_that_json_does_not_know_is_written_as_text(logged: Callable[[], str]) -> None:
    start().info("db.waiting", reason=TimeoutError("too late"))

    assert json.loads(logged())["reason"] == "TimeoutError('too late')"


def test_what_is_less_severe_than_asked_for_is_not_logged(logged: Callable[[], str]) -> None:
    logger = start()

    logger.debug("broker.request")
    logging.getLogger("httpx").info("HTTP Request")

    assert logged() == ""


def test_a_short_word_is_never_taken_for_a_secret(logged: Callable[[], str]) -> None:
    log.configure(LogSettings(format="json"), ["", "a"])

    structlog.get_logger("test").info("a line about data")

    assert "a line about data" in logged()
