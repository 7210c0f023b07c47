"""What cannot be counted, or is missing to value it: found once, logged once, and visible until it is resolved."""
