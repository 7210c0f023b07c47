"""What can be wrong with a network, as Toxiproxy names it: eight toxics and their settings, which a proxy obeys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Direction = Literal["downstream", "upstream"]
"""downstream: from the server to the client; upstream: from the client to the server."""


class BaseToxic(BaseModel):
    """What every toxic has; each connection draws once whether a toxic of some probability hits it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", description="Handle for removal; defaults to <kind>_<direction>.")
    direction: Direction = Field("downstream", description="Which way the harmed bytes flow.")
    probability: float = Field(1.0, ge=0, le=1, description="Share of connections that it harms.")


class Latency(BaseToxic):
    """Every byte arrives late."""

    kind: Literal["latency"]
    delay_s: float = Field(ge=0, description="Seconds that each chunk is held.")
    jitter_s: float = Field(0, ge=0, description="Seconds added or taken at random.")


class Down(BaseToxic):
    """The port is closed and all connections are cut, whatever the direction."""

    kind: Literal["down"]


class Bandwidth(BaseToxic):
    """The line is thin."""

    kind: Literal["bandwidth"]
    bytes_per_s: int = Field(gt=0, description="Bytes that pass in one second.")


class SlowClose(BaseToxic):
    """The end of the stream arrives late."""

    kind: Literal["slow_close"]
    delay_s: float = Field(ge=0, description="Seconds between the end of the data and its announcement.")


class Timeout(BaseToxic):
    """Nothing arrives any more, and nobody is told: a half-open connection."""

    kind: Literal["timeout"]
    after_s: float = Field(0, ge=0, description="Seconds until the connection is closed; 0 = silent until removed.")


class ResetPeer(BaseToxic):
    """The connection is reset (RST)."""

    kind: Literal["reset_peer"]
    after_s: float = Field(0, ge=0, description="Seconds until the reset.")


class Slicer(BaseToxic):
    """The data arrives in crumbs."""

    kind: Literal["slicer"]
    size_bytes: int = Field(gt=0, description="Mean size of a crumb.")
    variation_bytes: int = Field(0, ge=0, description="Bytes by which a crumb may differ from the mean.")
    gap_s: float = Field(0, ge=0, description="Seconds between two crumbs.")


class LimitData(BaseToxic):
    """The connection is closed after some bytes, in the middle of a frame if need be."""

    kind: Literal["limit_data"]
    limit_bytes: int = Field(ge=0, description="Bytes that still pass, counted from now on.")


AnyToxic = Latency | Down | Bandwidth | SlowClose | Timeout | ResetPeer | Slicer | LimitData
Toxic = Annotated[AnyToxic, Field(discriminator="kind")]
TOXIC: TypeAdapter[AnyToxic] = TypeAdapter(Toxic)
