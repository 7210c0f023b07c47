"""Cold Harbour: an operations room for Alpaca brokerage accounts."""

from coldharbour.destinations import slug_for
from coldharbour.lake.ids import synthetic_activity_id
from coldharbour.live.book import Book
from coldharbour.live.fifo import match_fifo
from coldharbour.live.lineage import Lineage
from coldharbour.live.lots import match_lots

__all__ = ["Book", "Lineage", "match_fifo", "match_lots", "slug_for", "synthetic_activity_id"]
__version__ = "0.1.0"
