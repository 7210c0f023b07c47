"""Cold Harbour: an operations room for Alpaca brokerage accounts."""

from coldharbour.destinations import slug_for
from coldharbour.lake.ids import synthetic_activity_id

__all__ = ["slug_for", "synthetic_activity_id"]
__version__ = "0.1.0"
