"""Open quantity without a live stop: found, kept as episodes, and told of."""
