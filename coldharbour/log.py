"""How Cold Harbour logs: events with facts, UTC, JSON for machines and colours for people, never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from coldharbour.sections import LogSettings

PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+(?=@)|(password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)")


class Redaction:
    """Replaces every known secret, and every password of a connection, in whatever is logged.

    It must be the last step that sees facts: what is turned into text after it (a traceback) is not looked at.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 6)

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        return {self._clean_text(key): self._clean(value) for key, value in event.items()}

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._clean_text(value)
        if isinstance(value, dict):
            return {self._clean(key): self._clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        text = repr(value)  # as the renderers will show it
        cleaned = self._clean_text(text)
        return value if cleaned == text else cleaned

    def _clean_text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return PASSWORD.sub(r"\1\2***", text) if "://" in text or "password" in text else text


def configure(settings: LogSettings, secrets: Iterable[str] = ()) -> None:
    """Send our events and the libraries' records through one pipeline to standard error."""
    pretty = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        Redaction(secrets),
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)  # others show all variables
        if pretty
        else structlog.processors.JSONRenderer(),
    ]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("httpx", "httpcore", "websockets", "uvicorn", "yoyo"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns at every attempt; we say it once
