"""The `metrics` worker: the account's key figures as one document, written when a figure changes."""

from __future__ import annotations

from pydantic import BaseModel, Field

from coldharbour.accounts import AccountContext
from coldharbour.db import notify
from coldharbour.hookspecs import WorkerSpec, hookimpl
from coldharbour.metrics.documents import LATEST, refresh_document


class MetricsSettings(BaseModel, frozen=True, extra="forbid"):
    """How often the key figures are looked at."""

    interval_s: float = Field(5, gt=0, description="Seconds between looks at what the key figures are made of.")


async def keep_metrics(ctx: AccountContext, cfg: MetricsSettings) -> None:
    """Make the document of what the tables say now, and tell whoever listens if it became another one."""
    slug = ctx.destination.slug
    if await refresh_document(ctx.db, slug, ctx.clock.now()):
        await notify(ctx.db, f"metrics_channel_{slug}", f'{{"id":"{LATEST}"}}')


@hookimpl
def register_workers() -> list[WorkerSpec]:
    """Offer the `metrics` worker."""
    return [
        WorkerSpec(
            kind="metrics", settings=MetricsSettings, run=keep_metrics, every="interval_s", service="manage", stall_s=60
        )
    ]
