"""The live stage: what the account holds and has closed, computed from the lake's fills and orders."""
