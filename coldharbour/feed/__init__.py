"""The feed stage: live prices from the market, filtered and judged; it knows no account."""
