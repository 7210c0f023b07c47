"""Cold Harbour: an operations room for Alpaca brokerage accounts."""

from coldharbour.lake.ids import synthetic_activity_id
from coldharbour.settings import slug_for

__all__ = ["slug_for", "synthetic_activity_id"]
__version__ = "0.1.0"
