"""The metrics stage: equity, returns and key figures, computed from cash, fills and closing prices."""
