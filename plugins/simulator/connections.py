"""The server's open connections: owns the means to break one, by the address of its peer; opens none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvicorn.server import ServerState

from .proxy import reset


class Connections:
    """Finds the transport under an ASGI scope, because ASGI itself knows only polite goodbyes."""

    def __init__(self) -> None:
        self.state = ServerState()

    def drop(self, scope: Mapping[str, Any], *, hard: bool = False) -> None:
        """Cut the connection in the middle of whatever it is doing: with an end, or `hard` with RST."""
        for connection in tuple(self.state.connections):
            if getattr(connection, "client", None) == scope["client"]:  # not every kind of uvicorn's has one
                if hard:
                    reset(connection.transport)
                else:
                    connection.transport.abort()
