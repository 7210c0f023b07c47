"""The risk stage: what protects open positions, and the only stage that asks the broker to change an order."""
