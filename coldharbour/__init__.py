"""Cold Harbour: an operations room for Alpaca brokerage accounts."""

from coldharbour.destinations import slug_for
from coldharbour.lake.ids import synthetic_activity_id
from coldharbour.live.book import Book
from coldharbour.live.fifo import match_fifo
from coldharbour.live.lineage import Lineage
from coldharbour.live.lots import match_lots
from coldharbour.live.model import Side
from coldharbour.metrics.equity import daily_equity
from coldharbour.metrics.kpis import kpis
from coldharbour.metrics.performance import sharpe, smart_sharpe
from coldharbour.risk.breakeven import decide_breakeven, legal_stop
from coldharbour.risk.model import BreakevenRule, Decision, MarketView, ProtectedLot

__all__ = [
    "Book",
    "BreakevenRule",
    "Decision",
    "Lineage",
    "MarketView",
    "ProtectedLot",
    "Side",
    "daily_equity",
    "decide_breakeven",
    "kpis",
    "legal_stop",
    "match_fifo",
    "match_lots",
    "sharpe",
    "slug_for",
    "smart_sharpe",
    "synthetic_activity_id",
]
__version__ = "0.1.0"
