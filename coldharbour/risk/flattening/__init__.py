"""Closing an account's positions once a limit of the day's loss says so: what to do, in which order, and the record."""
