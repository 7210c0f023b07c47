"""The panel of key figures: where the account stands, each figure with its formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from coldharbour.hookspecs import PanelSpec, hookimpl
from coldharbour.metrics import store
from coldharbour.metrics.documents import LATEST
from coldharbour.metrics.kpis import FORMULAS
from coldharbour.money import to_decimal
from coldharbour.web.formats import gain, money, quantity, tone

WINDOWS = (10, 21, 63, 126, 252)

# By group: key, what it is called, and how it is written: as a result with its sign, an amount, a number or a count.
GROUPS = (
    ("Account", (
        ("equity", "Equity", "amount"),
        ("cash", "Cash", "amount"),
        ("open_value", "Open value", "amount"),
        ("day_pl", "Day P/L", "result"),
        ("day_return_pct", "Day return, %", "result"),
        ("total_return_pct", "Total return, %", "result"),
    )),
    ("Profit and loss", (
        ("unrealized_pl", "Open P/L", "result"),
        ("realized_pl_strategy", "Realised, by lot", "result"),
        ("realized_pl_fifo", "Realised, FIFO", "result"),
        ("total_fees", "Fees", "result"),
        ("net_dividends", "Dividends", "result"),
        ("net_interest", "Interest", "result"),
        ("net_realized_fifo", "Realised, net", "result"),
    )),
    ("Trades", (
        ("win_rate_pct", "Win rate, %", "number"),
        ("breakeven_pct", "To break even, %", "number"),
        ("risk_reward", "Reward / risk", "number"),
        ("mean_take", "Mean take", "amount"),
        ("mean_stop", "Mean stop", "amount"),
        ("hold_take_days", "Days to take", "number"),
        ("hold_stop_days", "Days to stop", "number"),
        ("open_trades", "Open lots", "count"),
        ("closed_trades", "Closed lots", "count"),
        ("buy_volume", "Bought", "amount"),
        ("sell_volume", "Sold", "amount"),
    )),
    ("Drawdown and Sharpe", (
        ("current_drawdown_pct", "Drawdown, %", "result"),
        ("max_drawdown_pct", "Deepest, %", "result"),
        *((f"sharpe_{days}", f"Sharpe, {days} days", "number") for days in WINDOWS),
        *((f"smart_sharpe_{days}", f"Smart Sharpe, {days} days", "number") for days in WINDOWS),
    )),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One key figure as the panel writes it. tone: of a result, "" of any other figure."""

    key: str
    label: str
    formula: str
    text: str
    tone: str


async def figures(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
    """Read the newest document of key figures; none before the first one was written."""
    document = await store.document(conn, slug, LATEST)
    if document is None:
        return {"slug": slug, "groups": ()}
    groups = [(title, [_figure(document, *shown) for shown in figures]) for title, figures in GROUPS]
    return {"slug": slug, "groups": groups}


def _figure(document: Mapping[str, Any], key: str, label: str, kind: str) -> Figure:
    value = to_decimal(document[key])
    write = {"result": gain, "count": quantity}.get(kind, money)
    return Figure(key, label, FORMULAS[key], write(value), tone(value) if kind == "result" else "")


@hookimpl
def register_panels() -> list[PanelSpec]:
    """Show the account's key figures."""
    return [
        PanelSpec(
            key="figures", title="Key figures", package=__name__, template="figures.html",
            topic="metrics_channel", load=figures, place="side", rank=10,
        )
    ]  # fmt: skip
