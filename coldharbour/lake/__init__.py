"""The lake: everything the broker said, recorded once, from which all the rest can be computed again."""
