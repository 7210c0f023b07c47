"""The broker's own positions, and where they differ from ours."""
