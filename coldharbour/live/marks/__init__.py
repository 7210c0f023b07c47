"""Marks: what the market makes of the open lots, kept in memory and written by what moved."""
