"""The `heartbeat` worker: tells the readers of an account's positions which version of them is the newest."""

from __future__ import annotations

import msgspec
from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.db import notify
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.live import store


class HeartbeatSettings(BaseModel, frozen=True, extra="forbid"):
    """How often the heart beats."""

    interval_s: float = Field(30, gt=0, description="Seconds between two beats.")


async def beat(ctx: AccountContext, cfg: HeartbeatSettings) -> None:
    """Send one beat: whoever missed a change of the open trades sees it by the version."""
    slug = ctx.destination.slug
    async with ctx.db.transaction() as conn:
        version = await store.structure_version(conn, slug)
    payload = {"op": "heartbeat", "version": version}
    await notify(ctx.db, f"pos_channel_{slug}", msgspec.json.encode(payload).decode())


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `heartbeat` worker."""
    return [WorkerSpec(kind="heartbeat", settings=HeartbeatSettings, run=beat, every="interval_s", service="manage")]
