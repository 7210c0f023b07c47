"""The page of one trade: its order, legs and replacements, fills and decisions in the order of time; only reads."""
