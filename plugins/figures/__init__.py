"""The panel of key figures: where the account stands, each figure with its formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import AsyncConnection

from coldharbour.hookspecs import PanelSpec, hookimpl
from coldharbour.metrics import store
from coldharbour.metrics.documents import LATEST
from coldharbour.metrics.kpis import FORMULAS
from coldharbour.money import to_decimal

# key, what it is called, and whether its sign says gain or loss
SHOWN = (
    ("equity", "Equity", False),
    ("day_pl", "Day P/L", True),
    ("day_return_pct", "Day, %", True),
    ("total_return_pct", "Total return, %", True),
    ("unrealized_pl", "Open P/L", True),
    ("net_realized_fifo", "Realised, net", True),
    ("current_drawdown_pct", "Drawdown, %", True),
    ("max_drawdown_pct", "Deepest, %", True),
    ("sharpe_63", "Sharpe, 63 days", False),
    ("win_rate_pct", "Win rate, %", False),
    ("breakeven_pct", "To break even, %", False),
    ("risk_reward", "Reward/risk", False),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One key figure. value: None where there is nothing to divide by. is_result: its sign says gain or loss."""

    label: str
    formula: str
    value: Decimal | None
    is_result: bool


async def figures(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the newest document of key figures; none before the first one was written."""
    document = await store.document(conn, slug, LATEST)
    if document is None:
        return {"figures": ()}
    return {
        "figures": [
            Figure(label, FORMULAS[key], to_decimal(document[key]), is_result) for key, label, is_result in SHOWN
        ]
    }


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show the account's key figures."""
    return [
        PanelSpec(
            key="figures", title="Key figures", package=__name__, template="figures.html",
            topic="metrics_channel", load=figures, place="side", rank=10,
        )
    ]  # fmt: skip
