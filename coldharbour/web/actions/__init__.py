"""Operator actions: what each would do, asked before it is done, and put on record as a request; executes none."""
